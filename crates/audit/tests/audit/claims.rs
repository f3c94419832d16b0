//! What a dishonest pool does about accepted claims: pays too early or too late, voids what it should pay, and the like.

use crate::sample;
use crate::tampering::Way::{self, Pool};
use crate::tampering::{Events, all, drawn, entry_for, found, look, nth, paid, publish_anyhow, receipt, voided};
use caii_audit::{AuditOutcome, AuditedItem, Check, ClaimRef, Event, Finding, Kind, Logged};
use caii_ledger::{Entry, LedgerAccount, Purpose, events};
use caii_model::{JobId, MicroCredits, Receipt, Tariff, Verdict, VerificationPolicy, VoidReason};

fn id(receipt: &Receipt) -> ClaimRef {
    ClaimRef { device: receipt.claim.device, sequence: receipt.claim.sequence }
}

/// The receipt of a claim.
fn receipt_of(events: &mut Events, claim: ClaimRef) -> (usize, Receipt) {
    let is = |event: &Event| matches!(&event.logged, Logged::Receipt(receipt) if id(receipt) == claim);
    let place = events.iter().position(is).expect("it has one");
    (place, receipt(events, place).clone())
}

/// Pays a claim right after this place: as it should be paid, but for the time.
fn pay(events: &mut Events, claim: ClaimRef, after: usize) -> u64 {
    let (_, receipt) = receipt_of(events, claim);
    let tariffs = events.iter().filter_map(|event| match &event.logged {
        Logged::TariffEnacted { tariff, .. } => Some(tariff.clone()),
        _ => None,
    });
    let tariff: Tariff = { tariffs }.find(|tariff| tariff.digest() == receipt.tariff).expect("it is in the log");
    let settlement = receipt.recompute(&tariff).expect("it fits").expect("it is accepted");
    let at = events[after].logged.at();
    let entry = events::task_accepted(receipt.claim.task, claim.device, &receipt.owner, &settlement, at);
    insert(events, after, Logged::Entry(entry.expect("it splits").expect("it is something")))
}

fn insert(events: &mut Events, after: usize, logged: Logged) -> u64 {
    events.insert(after + 1, logged.into());
    after as u64 + 1
}

/// Takes what pays a claim of this task from where it stands to right after this place.
fn pay_earlier(events: &mut Events, job: u64, task: u32, after: usize) -> u64 {
    let is = |event: &Event| {
        matches!(&event.logged, Logged::Entry(Entry { purpose: Purpose::TaskAccepted(id, _), .. })
            if id.job == JobId(job) && id.index.0 == task)
    };
    let mut moved = events.remove(events.iter().position(is).expect("it is paid"));
    if let Logged::Entry(entry) = &mut moved.logged {
        entry.at = events[after].logged.at();
    }
    insert(events, after, moved.logged)
}

/// The place of what was drawn of a task of a job.
fn drawn_of(events: &mut Events, job: u64, task: u32) -> usize {
    let is = |receipt: &Receipt| receipt.claim.task.job == JobId(job) && receipt.claim.task.index.0 == task;
    let places = all(events, Kind::Receipt);
    places.into_iter().find(|place| is(receipt(events, *place))).expect("it was done") + 1
}

fn outcome(events: &mut Events, place: usize) -> &mut AuditOutcome {
    match &mut events[place].logged {
        Logged::AuditOutcome(outcome) => outcome,
        other => panic!("a {}", other.kind()),
    }
}

/// The outcomes in a job.
fn outcomes_in(events: &mut Events, job: u64) -> Vec<usize> {
    let places = all(events, Kind::AuditOutcome);
    let in_job = |place: &usize| {
        let AuditOutcome { of, items, .. } = outcome(events, *place).clone();
        let first = ClaimRef { device: of, sequence: items[0].sequence };
        receipt_of(events, first).1.claim.task.job == JobId(job)
    };
    places.into_iter().filter(in_job).collect()
}

fn void_at(events: &mut Events, place: usize) -> (&mut ClaimRef, &mut VoidReason) {
    match &mut events[place].logged {
        Logged::ClaimVoided { claim, reason, .. } => (claim, reason),
        other => panic!("a {}", other.kind()),
    }
}

/// The claim that was convicted in the first conviction but so many.
fn convicted(events: &mut Events, number: usize) -> (usize, ClaimRef) {
    let place = nth(events, Kind::DeviceConvicted, number);
    let Logged::DeviceConvicted(convicted) = &events[place].logged else { panic!("it is one") };
    (place, convicted.evidence)
}

/// By the pool itself.
pub(crate) const CLAIMS: &[(&str, Check, Way)] = &[
    (
        "a claim is paid before its audit",
        Check::Finality,
        Pool(|events| {
            let place = drawn_of(events, 1, 0);
            pay_earlier(events, 1, 0, place)
        }),
    ),
    (
        "a claim is paid before enough later audits agreed",
        Check::Finality,
        Pool(|events| {
            // All that was drawn with it agreed then.
            let place = nth(events, Kind::AuditOutcome, 1);
            pay_earlier(events, 1, 4, place)
        }),
    ),
    (
        "a spot check is not waited for",
        Check::Finality,
        Pool(|events| {
            let spots: Vec<(u32, usize)> = (0..40).map(|task| (task, drawn_of(events, 3, task))).collect();
            let checked = spots.into_iter().find(|(_, place)| !drawn(events, *place).items.is_empty());
            let (task, place) = checked.expect("one is");
            pay_earlier(events, 3, task, place)
        }),
    ),
    (
        "a quorum's result is paid when all but one have agreed",
        Check::Finality,
        Pool(|events| {
            let place = outcomes_in(events, 6)[0];
            pay_earlier(events, 6, 0, place)
        }),
    ),
    (
        "a quorum's copy is paid before it is compared",
        Check::Finality,
        Pool(|events| {
            let place = drawn_of(events, 6, 1_000) - 1;
            pay_earlier(events, 6, 1_000, place)
        }),
    ),
    (
        "an auditor is paid without an outcome",
        Check::Finality,
        Pool(|events| {
            let last = *all(events, Kind::Receipt).last().expect("there are some");
            let claim = id(receipt(events, last));
            pay(events, claim, events.len() - 1)
        }),
    ),
    (
        "an auditor that was wrong is paid",
        Check::Finality,
        Pool(|events| {
            let place = found(events, Finding::AuditorWrong);
            let auditor = outcome(events, place).auditor.expect("there is one");
            pay(events, auditor, place)
        }),
    ),
    (
        "a claim that was found wrong is paid",
        Check::Finality,
        Pool(|events| {
            let place = found(events, Finding::ClaimWrong);
            let (_, claim) = convicted(events, 0);
            pay(events, claim, place)
        }),
    ),
    (
        "a device is paid after it was convicted",
        Check::Convictions,
        Pool(|events| {
            let (place, _) = convicted(events, 0);
            let distrusted = voided(events, VoidReason::Distrusted);
            let claim = *void_at(events, distrusted).0;
            pay(events, claim, place)
        }),
    ),
    (
        "a claim is voided and then paid",
        Check::Entries,
        Pool(|events| {
            let place = voided(events, VoidReason::Undecided);
            let claim = *void_at(events, place).0;
            pay(events, claim, place)
        }),
    ),
    (
        "a claim that was paid is voided",
        Check::Finality,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::TaskAccepted(..)));
            let receipt_at = paid(events, place);
            let (claim, at) = (id(receipt(events, receipt_at)), events[place].logged.at());
            insert(events, place, Logged::ClaimVoided { claim, reason: VoidReason::JobEnded, at })
        }),
    ),
    (
        "a claim is voided twice",
        Check::Finality,
        Pool(|events| {
            let place = voided(events, VoidReason::JobEnded);
            let again = events[place].logged.clone();
            insert(events, place, again)
        }),
    ),
    (
        "a claim without a receipt is voided",
        Check::Finality,
        Pool(|events| {
            let place = voided(events, VoidReason::JobEnded);
            let mut made_up = events[place].logged.clone();
            if let Logged::ClaimVoided { claim, .. } = &mut made_up {
                claim.sequence += 1_000;
            }
            insert(events, place, made_up)
        }),
    ),
    (
        "a void receipt is voided once more",
        Check::Finality,
        Pool(|events| {
            let place = voided(events, VoidReason::Undecided);
            let device = void_at(events, place).0.device;
            let late = all(events, Kind::Receipt).into_iter().find(|place| {
                let receipt = receipt(events, *place);
                receipt.claim.device == device && receipt.work_facts().is_none()
            });
            let claim = id(receipt(events, late.expect("there is one")));
            let at = events[place].logged.at();
            insert(events, place, Logged::ClaimVoided { claim, reason: VoidReason::JobEnded, at })
        }),
    ),
    (
        "a claim is voided as wrong and nobody is convicted",
        Check::Convictions,
        Pool(|events| {
            let place = voided(events, VoidReason::Undecided);
            *void_at(events, place).1 = VoidReason::Wrong;
            place as u64
        }),
    ),
    (
        "a claim is voided as distrusted and nobody is convicted",
        Check::Convictions,
        Pool(|events| {
            let place = voided(events, VoidReason::JobEnded);
            *void_at(events, place).1 = VoidReason::Distrusted;
            place as u64
        }),
    ),
    (
        "an auditor's wrong claim still counts",
        Check::Convictions,
        Pool(|events| {
            let lie = found(events, Finding::AuditorWrong);
            let auditor = outcome(events, lie).auditor.expect("there is one");
            let is = |event: &Event| matches!(event.logged, Logged::ClaimVoided { claim, .. } if claim == auditor);
            let place = events.iter().position(is).expect("it is voided");
            events.remove(place);
            lie as u64
        }),
    ),
    (
        "a claim is neither paid nor voided when its job is settled",
        Check::Finality,
        Pool(|events| {
            let place = voided(events, VoidReason::JobEnded);
            let claim = *void_at(events, place).0;
            events.remove(place);
            receipt_of(events, claim).0 as u64
        }),
    ),
    (
        "an auditor is neither paid nor voided when its job is settled",
        Check::Finality,
        Pool(|events| {
            let place = all(events, Kind::Entry).into_iter().find(|place| {
                matches!(&events[*place].logged, Logged::Entry(Entry { purpose: Purpose::TaskAccepted(task, _), .. })
                    if task.job == JobId(1) && task.index.0 >= 1_000)
            });
            let place = place.expect("there is one");
            let audit = paid(events, place);
            events.remove(place);
            audit as u64
        }),
    ),
    (
        "a job is settled, and a claim of it accepted afterwards",
        Check::Finality,
        Pool(|events| {
            let place = drawn_of(events, 5, 7) - 1;
            receipt(events, place).claim.task.job = JobId(4);
            place as u64
        }),
    ),
    (
        "a claim is accepted when nothing is left to pay it",
        Check::Finality,
        Pool(|events| {
            let place = drawn_of(events, 5, 7) - 1;
            receipt(events, place).claim.task.job = JobId(7);
            place as u64
        }),
    ),
    (
        "what was drawn of a voided claim is not waived",
        Check::Outcomes,
        Pool(|events| {
            let place = voided(events, VoidReason::Undecided);
            assert_eq!(outcome(events, place - 1).items[0].finding, Finding::Waived);
            events.remove(place - 1);
            place as u64 - 1
        }),
    ),
    (
        "what was drawn of a convicted device is not waived",
        Check::Outcomes,
        Pool(|events| {
            let place = (0..events.len()).find(|place| {
                matches!(events[*place].logged, Logged::ClaimVoided { reason: VoidReason::Distrusted, .. })
                    && events[*place - 1].logged.kind() == Kind::AuditOutcome
            });
            let place = place.expect("one of its drawn items had no outcome");
            events.remove(place - 1);
            place as u64 - 1
        }),
    ),
    (
        "what was drawn is waived after its claim was voided",
        Check::Outcomes,
        Pool(|events| {
            let place = voided(events, VoidReason::Undecided);
            events.swap(place - 1, place);
            place as u64 - 1
        }),
    ),
    (
        "one owner's devices are two copies of a quorum",
        Check::Outcomes,
        Pool(|events| {
            let [first, second, ..] = outcomes_in(events, 6)[..] else { panic!("three must agree") };
            outcome(events, second).auditor = outcome(events, first).auditor;
            second as u64
        }),
    ),
    (
        "an outcome is by a claim that was not accepted",
        Check::Outcomes,
        Pool(|events| {
            let place = nth(events, Kind::AuditOutcome, 2);
            let (of, auditor) = (outcome(events, place).of, outcome(events, place).auditor.expect("there is one"));
            let late = all(events, Kind::Receipt).into_iter().find(|place| {
                let receipt = receipt(events, *place);
                receipt.claim.device != of && receipt.work_facts().is_none()
            });
            let late = id(receipt(events, late.expect("there is one")));
            assert_ne!(late, auditor);
            let (at, items) = (events[place].logged.at(), vec![]);
            insert(events, place, Logged::AuditOutcome(AuditOutcome { of, auditor: Some(late), items, at }))
        }),
    ),
    (
        "the pool audits itself and finds itself wrong",
        Check::Outcomes,
        Pool(|events| {
            let place = voided(events, VoidReason::Undecided) - 1;
            let AuditedItem { finding, .. } = &mut outcome(events, place).items[0];
            *finding = Finding::AuditorWrong;
            place as u64
        }),
    ),
    (
        "a claim is audited less deeply than others of its job",
        Check::Draws,
        Pool(|events| {
            let place = nth(events, Kind::AuditDrawn, 30);
            drawn(events, place).depth = 1;
            place as u64
        }),
    ),
    (
        "a job under audit is audited to no depth",
        Check::Draws,
        Pool(|events| {
            let places = all(events, Kind::AuditDrawn);
            for place in &places {
                let claim = drawn(events, *place).claim;
                let receipt = receipt_of(events, claim).1;
                if receipt.claim.task.job == JobId(5) && receipt.policy == VerificationPolicy::Audit {
                    drawn(events, *place).depth = 0;
                }
            }
            drawn_of(events, 5, 0) as u64
        }),
    ),
    (
        "more is drawn of a claim that was paid",
        Check::Draws,
        Pool(|events| {
            let place = nth(events, Kind::AuditDrawnMore, 0);
            let Logged::AuditDrawnMore(more) = &mut events[place].logged else { panic!("it is one") };
            // Its device's first, which was checked in full.
            more.open.insert(0, 1);
            place as u64
        }),
    ),
    (
        "a claim is accepted between two secrets",
        Check::Draws,
        Pool(|events| {
            let place = nth(events, Kind::SecretCommitted, 1);
            let moved = events.remove(place);
            let first = drawn_of(events, 2, 0);
            insert(events, first - 1, moved.logged);
            first as u64 - 1
        }),
    ),
    (
        "a draw is made by an older secret that is not revealed yet",
        Check::Draws,
        Pool(|events| {
            let late = *all(events, Kind::AuditDrawn).last().expect("there are some");
            let reveal = nth(events, Kind::SecretRevealed, 1);
            let moved = events.remove(reveal);
            insert(events, late - 1, moved.logged);
            drawn(events, late - 1).period = 2;
            late as u64 - 1
        }),
    ),
    (
        "a claim that was never paid is refunded",
        Check::Entries,
        Pool(|events| {
            let refund = entry_for(events, |purpose| matches!(purpose, Purpose::TaskVoided(..)));
            let mut made_up = events[refund].logged.clone();
            let (place, claim) = convicted(events, 0);
            let task = receipt_of(events, claim).1.claim.task;
            if let Logged::Entry(Entry { purpose: Purpose::TaskVoided(of, _), at, .. }) = &mut made_up {
                (*of, *at) = (task, events[place].logged.at());
            }
            insert(events, place, made_up)
        }),
    ),
    (
        "more is taken back than was paid",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::DeviceForfeited(..)));
            let Logged::Entry(entry) = &mut events[place].logged else { panic!("it is one") };
            entry.postings.last_mut().expect("there is one").amount.0 += 1;
            place as u64
        }),
    ),
    (
        "what was held back is released for claims that were not paid",
        Check::Entries,
        Pool(|events| {
            // Bob was never released: all of his receipts hold something back, and four are not paid.
            let bob = nth(events, Kind::DeviceEnrolled, 1);
            let Logged::DeviceEnrolled { key, owner, .. } = events[bob].logged.clone() else { panic!("it is one") };
            let (device, at) = (caii_trust::device_id(&key), events[events.len() - 1].logged.at());
            let held = events.iter().filter_map(|event| match &event.logged {
                Logged::Receipt(receipt) if receipt.claim.device == device => match receipt.verdict {
                    Verdict::Accepted(accepted) => Some(accepted.reward.held),
                    Verdict::Void(_) => None,
                },
                _ => None,
            });
            let held = MicroCredits::checked_sum(held).expect("it fits");
            let entry = events::holdback_released(device, 1_000, &owner, held, at).expect("it is something");
            insert(events, events.len() - 1, Logged::Entry(entry))
        }),
    ),
    (
        "a release goes back behind an earlier one",
        Check::Entries,
        Pool(|events| {
            let place = entry_for(events, |purpose| matches!(purpose, Purpose::HoldbackReleased(..)));
            let Logged::Entry(entry) = &events[place].logged else { panic!("it is one") };
            let Purpose::HoldbackReleased(device, through) = entry.purpose else { panic!("it is one") };
            // What was held back of the device since then, as the pool may count it.
            let later = all(events, Kind::Entry).into_iter().filter(|later| *later > place);
            let held = later.filter_map(|later| match &events[later].logged {
                Logged::Entry(entry) => entry
                    .postings
                    .iter()
                    .find(|posting| posting.credit == LedgerAccount::Held(sample::account("ann")))
                    .map(|posting| posting.amount),
                _ => None,
            });
            let held = MicroCredits::checked_sum(held).expect("it fits");
            let at = events[events.len() - 1].logged.at();
            let entry = events::holdback_released(device, through - 1, &sample::account("ann"), held, at);
            insert(events, events.len() - 1, Logged::Entry(entry.expect("it is something")))
        }),
    ),
];

/// What the report says of payments and voids, after a change that is not wrong.
fn notes(change: impl FnOnce(&mut Events)) -> (u64, Vec<String>) {
    let sample = sample::small();
    let mut events = sample.events;
    change(&mut events);
    let report = look(&publish_anyhow(&events, &sample.payouts, &sample::pool_key()), None);
    assert!(report.is_green(), "{report}");
    let finality = &report.outcomes[&Check::Finality];
    (finality.uncheckable, finality.notes.clone())
}

const WAITING: &str = "9 accepted claims of jobs that are not settled wait to be paid or voided";

#[test]
fn what_waits_and_what_is_the_pools_word_is_said() {
    let voided = "accepted claims were voided by the pool's word, nobody being guilty: 2 job-ended, 1 undecided";
    assert_eq!(notes(|_| ()), (3, vec![WAITING.into(), voided.into()]));
}

#[test]
fn outvoted_is_the_pools_word_unless_the_device_is_convicted() {
    let of_nobody = |events: &mut Events| {
        let place = voided(events, VoidReason::Undecided);
        *void_at(events, place).1 = VoidReason::Outvoted;
    };
    let said = "accepted claims were voided by the pool's word, nobody being guilty: 2 job-ended, 1 outvoted";
    assert_eq!(notes(of_nobody), (3, vec![WAITING.into(), said.into()]));
    let of_the_cheat = |events: &mut Events| {
        let place = voided(events, VoidReason::Distrusted);
        *void_at(events, place).1 = VoidReason::Outvoted;
    };
    assert_eq!(notes(of_the_cheat), notes(|_| ()));
}

/// The auditor's claim that waits has come to nothing; where the outcome stands, and the claim.
fn end_audit(events: &mut Events) -> (usize, ClaimRef) {
    let last = *all(events, Kind::Receipt).last().expect("there are some");
    let (auditor, at) = (id(receipt(events, last)), events[last].logged.at());
    let of = drawn_of(events, 5, 0);
    let of = drawn(events, of).claim.device;
    let place = events.len() - 1;
    insert(events, place, Logged::AuditOutcome(AuditOutcome { of, auditor: Some(auditor), items: vec![], at }));
    (place + 1, auditor)
}

/// A pool that does not pay what is final is not caught before the job is settled, but seen.
#[test]
fn what_is_final_and_not_paid_is_said() {
    let (_, said) = notes(|events| {
        end_audit(events);
    });
    assert_eq!(said[..2], [WAITING, "1 of those that wait are final: the pool should have paid them"]);
}

#[test]
fn an_audit_that_decides_nothing_and_is_paid_is_said() {
    let (_, said) = notes(|events| {
        let (place, auditor) = end_audit(events);
        pay(events, auditor, place);
    });
    assert_eq!(said[0], WAITING.replace('9', "8"));
    assert_eq!(said.last().map(String::as_str), Some("1 audits were paid that decided nothing"));
}
