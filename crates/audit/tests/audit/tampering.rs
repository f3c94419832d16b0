//! Ways to tamper with what a pool published, each with the check that names it and the row that it names.
//!
//! A stranger changes files; a dishonest pool has its own keys, changes what it logged, and publishes that as it should
//! be published, cosignatures included, for a first audit. What it cannot do is sign for its devices and stewards.

use crate::claims::CLAIMS;
use crate::files::FILES;
use crate::sample::{
    self, Published, Sample, WITNESSES, certification, charter, cosign, key, log_signer, policy, pool_file, pool_key,
    publish, small,
};
use caii_audit::{
    Asked, AuditDrawn, Check, Event, Finding, Kind, Logged, MemoryFiles, Options, Publisher, Report, Signers, audit,
};
use caii_ledger::{Entry, Purpose};
use caii_model::{Fuel, MicroCredits, Receipt, Tariff, Timestamp, Verdict, VoidReason};
use caii_payout::MinorUnits;
use std::collections::BTreeMap;

pub(crate) type Events = Vec<Event>;

pub(crate) enum Way {
    /// Files are changed; the entry that is wrong, if one is.
    Files(fn(&mut MemoryFiles) -> Option<u64>),
    /// The dishonest pool: changes what it logs; the entry that is wrong comes back.
    Pool(fn(&mut Events) -> u64),
    /// It shows another log than before, to somebody who kept this checkpoint.
    Later(fn(&Sample, &Published) -> (MemoryFiles, Vec<u8>)),
}

use Way::{Files, Later, Pool};

/// The places of entries of a kind.
pub(crate) fn all(events: &Events, kind: Kind) -> Vec<usize> {
    (0..events.len()).filter(|place| events[*place].logged.kind() == kind).collect()
}

pub(crate) fn nth(events: &Events, kind: Kind, nth: usize) -> usize {
    all(events, kind)[nth]
}

pub(crate) fn entry_for(events: &Events, purpose: fn(&Purpose) -> bool) -> usize {
    let is = |event: &Event| matches!(&event.logged, Logged::Entry(entry) if purpose(&entry.purpose));
    events.iter().position(is).expect("there is one")
}

pub(crate) fn receipt(events: &mut Events, place: usize) -> &mut Receipt {
    match &mut events[place].logged {
        Logged::Receipt(receipt) => receipt,
        other => panic!("a {}", other.kind()),
    }
}

fn entry(events: &mut Events, place: usize) -> &mut Entry {
    match &mut events[place].logged {
        Logged::Entry(entry) => entry,
        other => panic!("a {}", other.kind()),
    }
}

pub(crate) fn drawn(events: &mut Events, place: usize) -> &mut AuditDrawn {
    match &mut events[place].logged {
        Logged::AuditDrawn(drawn) => drawn,
        other => panic!("a {}", other.kind()),
    }
}

/// The first outcome that says this of an item.
pub(crate) fn found(events: &Events, finding: Finding) -> usize {
    let says = |item: &caii_audit::AuditedItem| item.finding == finding;
    let is = |event: &Event| matches!(&event.logged, Logged::AuditOutcome(outcome) if outcome.items.iter().any(says));
    events.iter().position(is).expect("there is one")
}

/// The first claim that was voided for this reason.
pub(crate) fn voided(events: &Events, why: VoidReason) -> usize {
    let is = |event: &Event| matches!(&event.logged, Logged::ClaimVoided { reason, .. } if *reason == why);
    events.iter().position(is).expect("there is one")
}

/// The receipt that an acceptance pays.
pub(crate) fn paid(events: &Events, place: usize) -> usize {
    let Logged::Entry(Entry { purpose: Purpose::TaskAccepted(task, device), .. }) = &events[place].logged else {
        panic!("it is none")
    };
    let is = |event: &Event| matches!(&event.logged, Logged::Receipt(r) if r.claim.task == *task && r.claim.device == *device);
    events.iter().position(is).expect("there is one")
}

/// By the pool itself.
const POOLS: &[(&str, Check, Way)] = &[
    ("the pool signs with another key", Check::PoolSignatures, Pool(|_| 0)),
    (
        "a receipt is left out",
        Check::Sequences,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            events.remove(place);
            nth(events, Kind::Receipt, 23) as u64
        }),
    ),
    (
        "a device's last receipt is left out",
        Check::Draws,
        Pool(|events| {
            // What it was drawn from stays.
            let place = *all(events, Kind::AuditDrawn).last().expect("there are some");
            events.remove(place - 1);
            place as u64 - 1
        }),
    ),
    (
        "a void receipt is left out",
        Check::Sequences,
        Pool(|events| {
            let is = |event: &Event| matches!(&event.logged, Logged::Receipt(r) if matches!(r.verdict, Verdict::Void(VoidReason::Late)));
            let place = events.iter().position(is).expect("there is one");
            let device = receipt(events, place).claim.device;
            events.remove(place);
            let next = |event: &Event| matches!(&event.logged, Logged::Receipt(r) if r.claim.device == device);
            (place + events[place..].iter().position(next).expect("it goes on")) as u64
        }),
    ),
    (
        "a receipt stands there twice",
        Check::Sequences,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            let double = events[place].clone();
            events.insert(place + 1, double);
            place as u64 + 1
        }),
    ),
    (
        "a receipt is moved back in time",
        Check::Order,
        Pool(|events| {
            let (one, other) = (nth(events, Kind::Receipt, 20), nth(events, Kind::Receipt, 30));
            let moved = events.remove(other);
            events.insert(one, moved);
            one as u64 + 1
        }),
    ),
    (
        "two receipts of a device change places",
        Check::Sequences,
        Pool(|events| {
            let (one, other) = (nth(events, Kind::Receipt, 20), nth(events, Kind::Receipt, 24));
            let times = (receipt(events, one).at, receipt(events, other).at);
            events.swap(one, other);
            (receipt(events, one).at, receipt(events, other).at) = times;
            one as u64
        }),
    ),
    (
        "the claim's signature is changed",
        Check::ClaimSignatures,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            receipt(events, place).claim_signature[50] ^= 1;
            place as u64
        }),
    ),
    (
        "the claim's fuel is changed",
        Check::ClaimSignatures,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            receipt(events, place).claim.fuel = Fuel(2_000_000_000);
            place as u64
        }),
    ),
    (
        "a device's key is swapped for the pool's own",
        Check::Devices,
        Pool(|events| {
            let place = nth(events, Kind::DeviceEnrolled, 1);
            let Logged::DeviceEnrolled { key: public, .. } = &mut events[place].logged else { panic!("it is one") };
            *public = key(60).public();
            nth(events, Kind::Receipt, 1) as u64
        }),
    ),
    (
        "a receipt names another owner",
        Check::Devices,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            receipt(events, place).owner = sample::account("eve");
            place as u64
        }),
    ),
    (
        "a receipt is for another pool",
        Check::Devices,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            receipt(events, place).claim.pool.0[0] ^= 1;
            place as u64
        }),
    ),
    (
        "a device is enrolled twice",
        Check::Devices,
        Pool(|events| {
            let place = nth(events, Kind::DeviceEnrolled, 1);
            let double = events[place].clone();
            events.insert(place + 1, double);
            place as u64 + 1
        }),
    ),
    (
        "a reward is lower than the tariff says",
        Check::Rewards,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            let Verdict::Accepted(accepted) = &mut receipt(events, place).verdict else { panic!("it is accepted") };
            accepted.reward.compute.0 -= 1;
            accepted.reward.total.0 -= 1;
            place as u64
        }),
    ),
    (
        "more is held back than the tariff says",
        Check::Rewards,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            let Verdict::Accepted(accepted) = &mut receipt(events, place).verdict else { panic!("it is accepted") };
            accepted.reward.held.0 += 1;
            place as u64
        }),
    ),
    (
        "a requester is charged more than the tariff says",
        Check::Rewards,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            let Verdict::Accepted(accepted) = &mut receipt(events, place).verdict else { panic!("it is accepted") };
            accepted.charge.0 += 1;
            place as u64
        }),
    ),
    (
        "a device's record is made worse to pay it less",
        Check::Rewards,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 20);
            let receipt = receipt(events, place);
            let tariff = Tariff::new(sample::terms(1, Timestamp(sample::START + 2_000))).expect("a tariff");
            assert_eq!(receipt.tariff, tariff.digest());
            let Verdict::Accepted(accepted) = &mut receipt.verdict else { panic!("it is accepted") };
            accepted.record = caii_model::TrackRecord::new(0, 5).expect("it is one");
            let settled = receipt.recompute(&tariff).expect("it fits").expect("it is accepted");
            let Verdict::Accepted(accepted) = &mut receipt.verdict else { panic!("it is accepted") };
            accepted.reward = settled.reward;
            place as u64
        }),
    ),
    (
        "a coefficient of the logged tariff is changed",
        Check::Tariffs,
        Pool(|events| {
            let place = nth(events, Kind::TariffEnacted, 0);
            let Logged::TariffEnacted { tariff, .. } = &mut events[place].logged else { panic!("it is one") };
            let mut terms = tariff.terms().clone();
            terms.compute_rate.0 -= 1;
            *tariff = Tariff::new(terms).expect("a tariff");
            nth(events, Kind::Receipt, 0) as u64
        }),
    ),
    (
        "a tariff is applied before its date",
        Check::Tariffs,
        Pool(|events| {
            let second = nth(events, Kind::TariffEnacted, 1);
            let Logged::TariffEnacted { tariff, .. } = events[second].logged.clone() else { panic!("it is one") };
            // The second tariff is moved to before the first job, whose receipts then follow it.
            let place = nth(events, Kind::Receipt, 20);
            receipt(events, place).tariff = tariff.digest();
            place as u64
        }),
    ),
    (
        "a tariff is published after it began to hold",
        Check::Tariffs,
        Pool(|events| {
            let place = nth(events, Kind::TariffEnacted, 1);
            let Logged::TariffEnacted { tariff, at } = &mut events[place].logged else { panic!("it is one") };
            let mut terms = tariff.terms().clone();
            terms.effective_from = Timestamp(at.0 - 1);
            *tariff = Tariff::new(terms).expect("a tariff");
            place as u64
        }),
    ),
    (
        "a certification is logged after what it is for, and dated back",
        Check::Certificates,
        Pool(|events| {
            let place = nth(events, Kind::WorkloadCertified, 0);
            let moved = events.remove(place);
            events.insert(200, moved);
            nth(events, Kind::Receipt, 0) as u64
        }),
    ),
    (
        "a certification begins later than what it is for",
        Check::Certificates,
        Pool(|events| {
            let place = nth(events, Kind::WorkloadCertified, 0);
            let mut event = certification(sample::WORKLOAD, Timestamp(sample::START + 3_600_000), &[150, 152]);
            let at = events[place].logged.at();
            if let Logged::WorkloadCertified { at: when, .. } = &mut event.logged {
                *when = at;
            }
            events[place] = event;
            nth(events, Kind::Receipt, 0) as u64
        }),
    ),
    (
        "a certification is signed by too few stewards",
        Check::Certificates,
        Pool(|events| {
            let place = nth(events, Kind::WorkloadCertified, 0);
            let mut event = certification(sample::WORKLOAD, Timestamp(sample::START - 86_400_000), &[150]);
            let at = events[place].logged.at();
            if let Logged::WorkloadCertified { at: when, .. } = &mut event.logged {
                *when = at;
            }
            events[place] = event;
            nth(events, Kind::Receipt, 0) as u64
        }),
    ),
    (
        "a certification is signed by strangers",
        Check::Certificates,
        Pool(|events| {
            let place = nth(events, Kind::WorkloadCertified, 0);
            let mut event = certification(sample::WORKLOAD, Timestamp(sample::START - 86_400_000), &[160, 161]);
            let at = events[place].logged.at();
            if let Logged::WorkloadCertified { at: when, .. } = &mut event.logged {
                *when = at;
            }
            events[place] = event;
            place as u64
        }),
    ),
    (
        "a task is accepted from two devices",
        Check::Once,
        Pool(|events| {
            let place = nth(events, Kind::Receipt, 21);
            let task = receipt(events, nth(events, Kind::Receipt, 20)).claim.task;
            receipt(events, place).claim.task = task;
            place as u64
        }),
    ),
    (
        "an amount of a posting is changed",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::TaskAccepted(..)));
            entry(events, place).postings[0].amount.0 += 1;
            place as u64
        }),
    ),
    (
        "a posting goes to another member",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::TaskAccepted(..)));
            entry(events, place).postings[0].credit = caii_ledger::LedgerAccount::Member(sample::account("eve"));
            place as u64
        }),
    ),
    (
        "a posting is left out",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::TaskAccepted(..)));
            entry(events, place).postings.pop();
            place as u64
        }),
    ),
    (
        "an entry of the ledger is left out",
        Check::Finality,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::TaskAccepted(..)));
            let paid = paid(events, place);
            events.remove(place);
            paid as u64
        }),
    ),
    (
        "an entry of the ledger stands there twice",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::TaskAccepted(..)));
            let double = events[place].clone();
            events.insert(place + 1, double);
            place as u64 + 1
        }),
    ),
    (
        "an entry pays for a task that nobody did",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::TaskAccepted(..)));
            let mut made_up = events[place].clone();
            if let Logged::Entry(Entry { purpose: Purpose::TaskAccepted(task, _), .. }) = &mut made_up.logged {
                task.index.0 += 500;
            }
            events.insert(place + 1, made_up);
            place as u64 + 1
        }),
    ),
    (
        "what was held back is released for a convicted device",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::DeviceForfeited(..)));
            let entry = entry(events, place);
            let Purpose::DeviceForfeited(device, through) = entry.purpose else { panic!("it is one") };
            let (owner, at) = (sample::account("mal"), entry.at);
            *entry = caii_ledger::events::holdback_released(device, through, &owner, entry.postings[0].amount, at)
                .expect("it is");
            place as u64
        }),
    ),
    (
        "less is released than was held back",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::HoldbackReleased(..)));
            entry(events, place).postings[0].amount.0 -= 1;
            place as u64
        }),
    ),
    (
        "less comes back to a requester than is left",
        Check::Balances,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::JobReturned(..)));
            entry(events, place).postings[0].amount.0 -= 1;
            place as u64
        }),
    ),
    (
        "a job is reserved for without credits",
        Check::Balances,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::JobReserved(..)));
            entry(events, place).postings[0].amount = MicroCredits(20_000_000_000);
            place as u64
        }),
    ),
    (
        "presence is paid beyond a day",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::AvailabilityPaid(..)));
            entry(events, place).postings[0].amount.0 *= 9;
            place as u64
        }),
    ),
    (
        "a secret is swapped when it is revealed",
        Check::Secrets,
        Pool(|events| {
            let place = nth(events, Kind::SecretRevealed, 0);
            let Logged::SecretRevealed { secret, .. } = &mut events[place].logged else { panic!("it is one") };
            secret[5] ^= 1;
            place as u64
        }),
    ),
    (
        "a secret is committed to after it was used",
        Check::Draws,
        Pool(|events| {
            let place = nth(events, Kind::SecretCommitted, 0);
            let moved = events.remove(place);
            events.insert(place + 40, moved);
            nth(events, Kind::Receipt, 0) as u64
        }),
    ),
    (
        "another item is audited than was drawn",
        Check::Draws,
        Pool(|events| {
            let place = nth(events, Kind::AuditDrawn, 4);
            let drawn = drawn(events, place);
            let first = (0..60).find(|item| !drawn.items.contains(item)).unwrap_or(0);
            drawn.items.insert(0, first);
            drawn.items.sort_unstable();
            drawn.items.dedup();
            if drawn.items.len() > 1 {
                drawn.items.pop();
            }
            place as u64
        }),
    ),
    (
        "nothing is drawn of a claim",
        Check::Draws,
        Pool(|events| {
            let is = |event: &Event| matches!(&event.logged, Logged::AuditDrawn(drawn) if drawn.items.is_empty());
            let place = events.iter().position(is).expect("there is one");
            events.remove(place);
            place as u64 - 1
        }),
    ),
    (
        "a draw is made by a secret that is known already",
        Check::Draws,
        Pool(|events| {
            let late = *all(events, Kind::AuditDrawn).last().expect("there are some");
            drawn(events, late).period = 2;
            late as u64
        }),
    ),
    (
        "what was drawn at a job's end is other than the secret says",
        Check::Draws,
        Pool(|events| {
            let place = nth(events, Kind::AuditDrawnMore, 0);
            let Logged::AuditDrawnMore(more) = &mut events[place].logged else { panic!("it is one") };
            let (claim, item) = more.items[0];
            more.items[0] = (claim, if item == 0 { 1 } else { item - 1 });
            place as u64
        }),
    ),
    (
        "fewer items are said to have been drawn before",
        Check::Draws,
        Pool(|events| {
            let place = nth(events, Kind::AuditDrawn, 30);
            drawn(events, place).drawn_before -= 1;
            place as u64
        }),
    ),
    (
        "an outcome is left out before the job is settled",
        Check::Outcomes,
        Pool(|events| {
            let place = nth(events, Kind::AuditOutcome, 1);
            events.remove(place);
            entry_for(events, |purpose| matches!(purpose, Purpose::JobReturned(..))) as u64
        }),
    ),
    (
        "an item that was not drawn has an outcome",
        Check::Outcomes,
        Pool(|events| {
            let place = nth(events, Kind::AuditOutcome, 1);
            let Logged::AuditOutcome(outcome) = &mut events[place].logged else { panic!("it is one") };
            outcome.items[0].item = 59;
            outcome.items[0].sequence = 2;
            place as u64
        }),
    ),
    (
        "a device audits itself",
        Check::Outcomes,
        Pool(|events| {
            let place = nth(events, Kind::AuditOutcome, 1);
            let Logged::AuditOutcome(outcome) = &mut events[place].logged else { panic!("it is one") };
            outcome.auditor.as_mut().expect("there is one").device = outcome.of;
            outcome.auditor.as_mut().expect("there is one").sequence = 1;
            place as u64
        }),
    ),
    (
        "a caught device is not convicted",
        Check::Convictions,
        Pool(|events| {
            let place = nth(events, Kind::DeviceConvicted, 0);
            events.remove(place);
            found(events, Finding::ClaimWrong) as u64
        }),
    ),
    (
        "a device is convicted for nothing",
        Check::Convictions,
        Pool(|events| {
            let place = nth(events, Kind::DeviceConvicted, 0);
            let Logged::DeviceConvicted(convicted) = &mut events[place].logged else { panic!("it is one") };
            convicted.item += 1;
            place as u64
        }),
    ),
    (
        "a convicted device's claim is accepted",
        Check::Convictions,
        Pool(|events| {
            let is = |event: &Event| matches!(&event.logged, Logged::Receipt(r) if matches!(r.verdict, Verdict::Void(VoidReason::Distrusted)));
            let place = events.iter().position(is).expect("there is one");
            let accepted = receipt(events, nth(events, Kind::Receipt, 3)).verdict;
            receipt(events, place).verdict = accepted;
            place as u64
        }),
    ),
    (
        "work that was found wrong still counts",
        Check::Convictions,
        Pool(|events| {
            let place = voided(events, VoidReason::Wrong);
            events.remove(place);
            found(events, Finding::ClaimWrong) as u64
        }),
    ),
    (
        "a payout pays more than is payable",
        Check::Payouts,
        Pool(|events| {
            let place = nth(events, Kind::PayoutSent, 0);
            let Logged::PayoutSent(sent) = &mut events[place].logged else { panic!("it is one") };
            sent.payments[0].1 = MinorUnits(sent.payments[0].1.0 + 1);
            place as u64
        }),
    ),
    (
        "a payout run is sent twice",
        Check::Payouts,
        Pool(|events| {
            let place = nth(events, Kind::PayoutSent, 0);
            let double = events[place].clone();
            events.insert(place + 1, double);
            place as u64 + 1
        }),
    ),
    (
        "a payout is settled that no run paid",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::PayoutSettled(..)));
            let sent = nth(events, Kind::PayoutSent, 0);
            events.remove(sent);
            place as u64 - 1
        }),
    ),
    (
        "the log does not say which pool it is of",
        Check::Pool,
        Pool(|events| {
            events.remove(0);
            0
        }),
    ),
    (
        "the checkpoint that was seen before is shown again",
        Check::Consistency,
        Later(|sample, now| {
            let before = publish(&sample.events[..400], &BTreeMap::new(), 100);
            (before.files, now.files.0["checkpoint"].clone())
        }),
    ),
    (
        "the log is cut short and goes on otherwise",
        Check::Consistency,
        Later(|sample, now| {
            let mut events = sample.events[..500].to_vec();
            events.extend(sample.events[510..].iter().cloned());
            events.extend(sample.events[500..510].iter().cloned().map(|event| Event { attachment: vec![], ..event }));
            events.sort_by_key(|event| event.logged.at());
            let mut other = publish(&events[..events.len() - 1], &sample.payouts, 100).files;
            cosign(&mut other, &WITNESSES);
            (other, now.files.0["checkpoint"].clone())
        }),
    ),
    (
        "two auditors are shown two logs of one size",
        Check::Consistency,
        Later(|sample, now| {
            let mut events = sample.events.clone();
            let place = *all(&events, Kind::AuditDrawn).last().expect("there are some");
            let drawn = drawn(&mut events, place);
            drawn.at = drawn.at + caii_model::Millis(1);
            (publish(&events, &sample.payouts, 100).files, now.files.0["checkpoint"].clone())
        }),
    ),
];

fn ways() -> impl Iterator<Item = &'static (&'static str, Check, Way)> {
    FILES.iter().chain(POOLS).chain(CLAIMS)
}

/// The ways that leave files behind which are wrong by themselves.
pub(crate) fn names() -> Vec<&'static str> {
    ways().filter(|(_, _, way)| !matches!(way, Later(_))).map(|(name, ..)| *name).collect()
}

pub(crate) fn look(files: &MemoryFiles, last: Option<&[u8]>) -> Report {
    let (charter, policy) = (charter(), policy());
    let options = Options { policy: Some(&policy), charter: Some(&charter), last, ..Options::default() };
    audit(files, &options).unwrap()
}

/// As [`publish`], by whoever has the pool's keys and does not care about times.
pub(crate) fn publish_anyhow(
    events: &Events,
    payouts: &BTreeMap<String, Vec<u8>>,
    pool: &caii_trust::SigningKey,
) -> MemoryFiles {
    let log = log_signer();
    let signers = Signers { log: &[&log], pool };
    let published = Publisher::new(pool_file()).append_anyhow(events, &[1; 32], signers).unwrap();
    let mut files = MemoryFiles(payouts.clone());
    files.0.extend(published.files.into_iter().map(|file| (file.path, file.bytes)));
    cosign(&mut files, &WITNESSES);
    files
}

/// A pool that changes nothing of what it logs signs with another key.
fn signer(honest: &Events, events: &Events) -> caii_trust::SigningKey {
    if honest == events { key(42) } else { pool_key() }
}

/// The files after one of the ways to tamper, what is wrong then, and where.
pub(crate) fn tampered(name: &str) -> (MemoryFiles, Check, Option<u64>) {
    let (_, check, way) = ways().find(|(known, ..)| *known == name).expect("there is such a way");
    let sample = small();
    match way {
        Files(change) => {
            let mut files = publish(&sample.events, &sample.payouts, 100).files;
            let index = change(&mut files);
            (files, *check, index)
        }
        Pool(change) => {
            let mut events = sample.events.clone();
            let index = change(&mut events);
            let signer = signer(&sample.events, &events);
            (publish_anyhow(&events, &sample.payouts, &signer), *check, Some(index))
        }
        Later(_) => panic!("{name} takes a checkpoint that was seen before"),
    }
}

#[test]
fn every_way_of_tampering_is_named() {
    let sample = small();
    let published = publish(&sample.events, &sample.payouts, 100);
    assert!(look(&published.files, None).is_green());
    let mut missed = Vec::new();
    for (name, check, way) in ways() {
        let (report, index) = match way {
            Files(change) => {
                let mut files = published.files.clone();
                let index = change(&mut files);
                (look(&files, None), index)
            }
            Pool(change) => {
                let mut events = sample.events.clone();
                let index = change(&mut events);
                let signer = signer(&sample.events, &events);
                (look(&publish_anyhow(&events, &sample.payouts, &signer), None), Some(index))
            }
            Later(change) => {
                let (files, last) = change(&sample, &published);
                (look(&files, Some(&last)), None)
            }
        };
        let first = report.outcomes.get(check).and_then(|outcome| outcome.first.clone());
        let said = first.as_ref().map_or("nothing".into(), |wrong| {
            let index = wrong.index.map_or("-".into(), |index| index.to_string());
            format!("{index} {}: {}", wrong.file, wrong.why)
        });
        println!("{name} → {}: {said}", check.as_str());
        let right_row = |wrong: &caii_audit::Wrong| index.is_none() || wrong.index == index;
        if report.is_green() || !first.as_ref().is_some_and(right_row) {
            let wrong: Vec<&str> = report.wrong().into_iter().map(Check::as_str).collect();
            missed.push(format!("{name}: expected {} at {index:?}, found {wrong:?}, {said}", check.as_str()));
        }
    }
    println!("{} ways to tamper", ways().count());
    assert!(ways().count() >= 40);
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// A receipt and a device's enrolment are erased: the log verifies, and the audit says what nobody can check any more.
#[test]
fn what_was_erased_is_said_and_not_wrong() {
    let sample = small();
    let published = publish(&sample.events, &sample.payouts, 100);
    let (mut files, mut publisher) = (published.files, published.publisher);
    let erased =
        [nth(&sample.events, Kind::Receipt, 20), nth(&sample.events, Kind::DeviceEnrolled, 2), sample.events.len() - 3];
    for index in erased {
        let (next, file) = publisher.erase(&files, index as u64).unwrap();
        files.0.insert(file.path, file.bytes);
        publisher = next;
    }
    let report = look(&files, None);
    assert!(report.is_green(), "{report}");
    assert_eq!(report.erased.values().sum::<u64>(), 3);
    assert_eq!(report.outcomes[&Check::Openings].uncheckable, 3);
    assert!(report.outcomes[&Check::ClaimSignatures].uncheckable > 0, "{report}");
    assert!(report.outcomes[&Check::Sequences].uncheckable > 0, "{report}");
    // And what the pool appends afterwards does not bring it back.
    let again = Publisher::take_up(pool_file(), &files).unwrap();
    assert_eq!(again, publisher);
}

/// Whatever entry is erased, what follows from it cannot be checked, and nothing is called wrong.
#[test]
fn no_erased_entry_makes_others_wrong() {
    let sample = small();
    let published = publish(&sample.events, &sample.payouts, 100);
    let mut of_kind: BTreeMap<Kind, u64> = BTreeMap::new();
    for (index, event) in sample.events.iter().enumerate() {
        let number = of_kind.entry(event.logged.kind()).or_default();
        *number += 1;
        // All of what there is little of, some of the rest.
        if *number > 12 && !number.is_multiple_of(11) {
            continue;
        }
        let (_, file) = published.publisher.clone().erase(&published.files, index as u64).unwrap();
        let mut files = published.files.clone();
        files.0.insert(file.path, file.bytes);
        let report = look(&files, None);
        assert!(report.is_green(), "entry {index}, a {}, is erased: {report}", event.logged.kind());
    }
    assert_eq!(of_kind.len(), Kind::ALL.len(), "the pool has entries of every kind");
}

/// A contributor's count is more than the log has.
#[test]
fn a_contributor_finds_what_is_left_out_at_the_end() {
    let sample = small();
    let files = publish(&sample.events, &sample.payouts, 100).files;
    let policy = policy();
    for (claims, green) in [(92, true), (93, false)] {
        let device = Some(Asked { device: sample.id(0), claims: Some(claims) });
        let options = Options { policy: Some(&policy), device, ..Options::default() };
        assert_eq!(audit(&files, &options).unwrap().is_green(), green, "{claims}");
    }
}

/// However events are gathered, the files at the end are the same, and a publisher can go on from them at any point.
#[test]
fn publishing_goes_on_from_the_files_alone() {
    let sample = small();
    let (log, pool) = (log_signer(), pool_key());
    let signers = Signers { log: &[&log], pool: &pool };
    for cut in [1, 255, 256, 257, 600] {
        let before = publish(&sample.events[..cut], &sample.payouts, 100);
        let again = Publisher::take_up(pool_file(), &before.files).unwrap();
        assert_eq!(again, before.publisher, "{cut}");
        let published = again.append(&sample.events[cut..], &[7; 32], signers).unwrap();
        let mut files = before.files;
        assert_eq!(published.files.last().unwrap().path, "checkpoint");
        files.0.extend(published.files.into_iter().map(|file| (file.path, file.bytes)));
        cosign(&mut files, &WITNESSES);
        assert!(look(&files, None).is_green(), "{cut}");
    }
    let late = vec![sample.events[5].clone()];
    let whole = publish(&sample.events, &sample.payouts, 100);
    assert!(whole.publisher.append(&late, &[8; 32], signers).is_err());
}
