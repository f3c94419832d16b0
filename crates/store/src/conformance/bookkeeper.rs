//! The part of a random history that is logged: entries of every kind, of which the books follow.

use super::script::{Random, Script};
use caii_audit::{
    AuditDrawn, AuditDrawnMore, AuditOutcome, AuditedItem, ClaimRef, DeviceConvicted, Event, Finding, Logged,
    PayoutSent, PoolOpened,
};
use caii_coordinator::{Change, PayoutDraft, PayoutPreference};
use caii_ledger::events::{self, Forfeiture};
use caii_ledger::{CreditLimit, Entry, GrantKey, Ledger, LedgerAccount, Outcome, PayoutRun};
use caii_model::*;
use caii_payout::{Currency, MinorUnits, Payee, Rate, SepaText};
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// What was logged so far, as far as it bounds what may follow.
#[derive(Clone, Default)]
pub(super) struct Bookkeeper {
    opened: Option<CreditLimit>,
    tariffs: Vec<Tariff>,
    ledger: Ledger,
    devices: BTreeMap<DeviceId, Kept>,
    jobs: BTreeMap<JobId, OfJob>,
    secrets: u64,
    requests: BTreeMap<Account, u64>,
    runs: u64,
    unsettled: BTreeMap<Account, (PayoutRun, MicroCredits)>,
    draft: Option<PayoutSent>,
    /// The last of the kinds that may not come again.
    last: BTreeMap<&'static str, Logged>,
}

#[derive(Clone, Copy, Default)]
struct Kept {
    decided: u64,
    accepted: u64,
    held: i64,
    releases: u64,
}

#[derive(Clone)]
struct OfJob {
    owner: Account,
    workload: Digest,
    reserved: bool,
    claims: BTreeMap<TaskIndex, Live>,
}

/// A claim that counts.
#[derive(Clone, Copy)]
struct Live {
    claim: ClaimRef,
    settlement: Settlement,
    paid: bool,
    refunded: bool,
}

const RATE: u64 = 1_000;

impl Bookkeeper {
    pub(super) fn submitted(&mut self, job: JobId, owner: Account, workload: Digest) {
        self.jobs.insert(job, OfJob { owner, workload, reserved: false, claims: BTreeMap::new() });
    }

    /// A job is about to end: what has to be logged before.
    pub(super) fn before_the_end(&mut self, job: JobId, at: Timestamp) -> Option<Change> {
        // Nothing is logged of it after this.
        let owner = self.jobs.remove(&job).map(|of| of.owner);
        let rest = self.ledger.balance(&LedgerAccount::Escrow(job));
        let returned = owner.and_then(|owner| self.post(events::job_returned(job, &owner, rest, at)));
        if returned.is_none() {
            self.ledger.close(job).unwrap();
        }
        returned.map(change)
    }

    /// The next entry; nothing if what was tried is not possible now.
    pub(super) fn logged(&mut self, random: &mut Random, at: Timestamp) -> Option<Change> {
        let Some(limit) = self.opened else { return Some(change(self.open(random, at))) };
        if self.tariffs.is_empty() {
            return Some(change(self.tariff(random, at)));
        }
        let logged = match random.below(24) {
            0 => Some(self.tariff(random, at)),
            1 => Some(Logged::DeviceEnrolled { key: random.bytes(), owner: owner_of(device(random)), at }),
            2 => return Some(certified(random, at)),
            3 => {
                self.secrets += 1;
                Some(Logged::SecretCommitted { period: self.secrets, commitment: Digest(random.bytes()), at })
            }
            4 if self.secrets > 0 => Some(Logged::SecretRevealed { period: self.secrets, secret: random.bytes(), at }),
            5 => Some(drawn(random, at)),
            6 => Some(outcome(random, at)),
            7 | 8 => self.granted(random, at),
            9 => self.payout_requested(random, at),
            10 => self.payout_sent(random, at),
            11 => self.payout_settled(random, at),
            12 => self.released(random, at),
            13 => self.forfeited(random, at),
            14 => {
                self.post(events::availability_paid(device(random), random.next() as u32, &account(random), CREDIT, at))
            }
            15 => self.voided(random, at),
            16 | 17 => self.paid(random, at),
            18 => self.refunded(random, at),
            _ => self.receipt(random, at, limit),
        };
        let logged = logged?;
        let kind = match &logged {
            Logged::Receipt(_) => "receipt",
            Logged::ClaimVoided { .. } => "void",
            Logged::Entry(_) => "entry",
            _ => "other",
        };
        self.last.insert(kind, logged.clone());
        Some(change(logged))
    }

    /// An entry that a log with these cannot go on with.
    pub(super) fn contradiction(&self, random: &mut Random, now: Timestamp) -> Option<Change> {
        let again = |kind: &str| {
            let mut again = self.last.get(kind)?.clone();
            match &mut again {
                Logged::Receipt(receipt) => receipt.at = now,
                Logged::ClaimVoided { at, .. } => *at = now,
                Logged::Entry(entry) => entry.at = now,
                _ => return None,
            }
            Some(change(again))
        };
        match random.below(7) {
            6 => Some(Change::PayoutApproved(PayoutRun(1_000_000), vec![1])),
            0 => Some(Change::Carried(Box::default())),
            1 => again("receipt"),
            2 => again("void"),
            3 => again("entry"),
            4 => match self.last.get("entry")? {
                Logged::Entry(entry) => {
                    let mut entry = Entry { at: now, ..entry.clone() };
                    entry.purpose = caii_ledger::Purpose::Granted(GrantKey(random.bytes()));
                    entry.postings[0].amount = MicroCredits::ZERO;
                    Some(change(Logged::Entry(entry)))
                }
                _ => None,
            },
            _ => {
                self.opened?;
                Some(change(Logged::SecretRevealed { period: 1, secret: [0; 32], at: Timestamp(1) }))
            }
        }
    }

    fn open(&mut self, random: &mut Random, at: Timestamp) -> Logged {
        let credit_limit = random.pick(&[CreditLimit::Unlimited, CreditLimit::Below(MicroCredits(50_000_000))]);
        self.opened = Some(credit_limit);
        let charter = random.pick(&[None, Some(Digest([4; 32]))]);
        Logged::PoolOpened(PoolOpened { key: random.bytes(), charter, credit_limit, at })
    }

    fn tariff(&mut self, random: &mut Random, at: Timestamp) -> Logged {
        let terms = TariffTerms {
            number: self.tariffs.len() as u32 + 1,
            effective_from: at,
            compute_rate: MicroCredits(1_000 + random.below(9) as i64),
            reliability_bonus: Ppm(200_000),
            reliability_share_floor: Ppm(500_000),
            availability_rate: MicroCredits(3_600),
            availability_daily_max: Millis(8 * 3_600_000),
            energy_rate: MicroCredits(500),
            energy_certified_joules: 40,
            verification_surcharge: Ppm(20_000),
            pool_fee: Ppm(50_000),
            probation_holdback: Ppm(250_000),
        };
        let tariff = Tariff::new(terms).unwrap();
        self.tariffs.push(tariff.clone());
        Logged::TariffEnacted { tariff, at }
    }

    fn receipt(&mut self, random: &mut Random, at: Timestamp, limit: CreditLimit) -> Option<Logged> {
        let job = self.any_job(random)?;
        if !self.jobs[&job].reserved {
            self.jobs.get_mut(&job)?.reserved = true;
            let _ = limit;
            let owner = self.jobs[&job].owner.clone();
            return self.post(events::job_reserved(job, &owner, MicroCredits(10_000_000), at));
        }
        let (device, tariff) = (device(random), random.pick(&self.tariffs));
        let kept = self.devices.get(&device).copied().unwrap_or_default();
        let task = TaskId { job, index: TaskIndex(random.below(12) as u32) };
        let sequence = kept.decided + 1;
        let fuel = Fuel(random.below(3_000_000_000));
        let claim = Claim {
            pool: PoolId([1; 8]),
            device,
            sequence,
            task,
            workload: self.jobs[&job].workload,
            meter: MeterId(Digest([3; 32])),
            input: Digest(random.bytes()),
            root: Digest(random.bytes()),
            items: 7,
            items_failed: 1,
            fuel,
            cpu: Millis(random.number()),
            wall: Millis(random.number()),
            energy: Energy { used: Millijoules(random.below(90_000)), method: EnergyMethod::Model },
            jail: Digest(random.bytes()),
        };
        let policy = random.pick(&[
            VerificationPolicy::Audit,
            VerificationPolicy::Spot,
            VerificationPolicy::Quorum { copies: 2 },
        ]);
        let free = !self.jobs[&job].claims.contains_key(&task.index);
        let verdict = if free && random.below(4) > 0 {
            let record = TrackRecord::new(kept.accepted, kept.decided).unwrap();
            let audit_fuel = random.pick(&[Fuel(0), Fuel(0), fuel, Fuel(fuel.0 / 2)]);
            let facts = WorkFacts {
                fuel: Fuel(fuel.0 - audit_fuel.0),
                audit_fuel,
                record,
                energy: claim.energy,
                probation: random.below(2) == 0,
            };
            let settlement = settle(&tariff, &facts, policy).unwrap();
            let claim = ClaimRef { device, sequence };
            let live = Live { claim, settlement, paid: false, refunded: false };
            self.jobs.get_mut(&job)?.claims.insert(task.index, live);
            let (reward, charge) = (settlement.reward, settlement.price.total);
            Verdict::Accepted(Accepted { record, probation: facts.probation, audit_fuel, reward, charge })
        } else {
            Verdict::Void(random.pick(&VoidReason::ALL))
        };
        let kept = self.devices.entry(device).or_default();
        kept.decided += 1;
        kept.accepted += u64::from(matches!(verdict, Verdict::Accepted(_)));
        let mut claim_signature = [0; 64];
        claim_signature[..32].copy_from_slice(&random.bytes::<32>());
        let (owner, tariff) = (owner_of(device), tariff.digest());
        Some(Logged::Receipt(Box::new(Receipt { claim, claim_signature, owner, policy, tariff, at, verdict })))
    }

    /// One of the claims for which this holds, to be changed.
    fn any_claim(&mut self, random: &mut Random, wanted: fn(&Live) -> bool) -> Option<(TaskId, &mut OfJob)> {
        let job = self.any_job(random)?;
        let of = self.jobs.get_mut(&job)?;
        let claims: Vec<TaskIndex> =
            of.claims.iter().filter(|(_, live)| wanted(live)).map(|(index, _)| *index).collect();
        (!claims.is_empty()).then(|| (TaskId { job, index: random.pick(&claims) }, of))
    }

    fn voided(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let (task, of) = self.any_claim(random, |live| !live.paid)?;
        let claim = of.claims.remove(&task.index)?.claim;
        Some(Logged::ClaimVoided { claim, reason: random.pick(&VoidReason::ALL), at })
    }

    fn paid(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let (task, of) = self.any_claim(random, |live| !live.paid)?;
        let live = of.claims[&task.index];
        let device = live.claim.device;
        let entry = events::task_accepted(task, device, &owner_of(device), &live.settlement, at).unwrap();
        let logged = self.post(entry)?;
        self.jobs.get_mut(&task.job)?.claims.get_mut(&task.index)?.paid = true;
        let Reward { held, .. } = live.settlement.reward;
        self.devices.entry(device).or_default().held += held.0;
        Some(logged)
    }

    fn refunded(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let (task, of) = self.any_claim(random, |live| live.paid && !live.refunded)?;
        let (live, owner) = (of.claims[&task.index], of.owner.clone());
        of.claims.get_mut(&task.index)?.refunded = true;
        self.post(events::task_voided(task, live.claim.device, &owner, true, &live.settlement.price, at))
    }

    fn granted(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let event = if random.below(2) == 0 { events::granted } else { events::payment_recorded };
        self.post(event(GrantKey(random.bytes()), &account(random), MicroCredits(1 + random.below(1 << 30) as i64), at))
    }

    fn released(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let device = device(random);
        let kept = *self.devices.get(&device)?;
        let amount = MicroCredits(kept.held);
        let number = kept.releases + 1;
        let logged = self.post(events::holdback_released(device, number, &owner_of(device), amount, at))?;
        let kept = self.devices.get_mut(&device)?;
        (kept.held, kept.releases) = (0, number);
        Some(logged)
    }

    fn forfeited(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let device = device(random);
        let kept = *self.devices.get(&device)?;
        if random.below(2) == 0 {
            let evidence = ClaimRef { device, sequence: kept.decided.max(1) };
            return Some(Logged::DeviceConvicted(DeviceConvicted { device, evidence, item: 3, as_auditor: true, at }));
        }
        let forfeiture = Forfeiture {
            device,
            through: kept.decided,
            owner: owner_of(device),
            held: MicroCredits(kept.held),
            paid_for_void: MicroCredits::ZERO,
        };
        let logged = self.post(events::device_forfeited(&forfeiture, MicroCredits::ZERO, at))?;
        self.devices.get_mut(&device)?.held = 0;
        Some(logged)
    }

    fn payout_requested(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let member = account(random);
        let balance = self.ledger.balance(&LedgerAccount::Member(member.clone()));
        let number = self.requests.get(&member).map_or(1, |number| number + 1);
        let logged = self.post(events::payout_requested(&member, number, MicroCredits(balance.0 / 2), at))?;
        self.requests.insert(member, number);
        Some(logged)
    }

    /// What is said of payouts beside the log.
    pub(super) fn payout_changed(&mut self, random: &mut Random, at: Timestamp) -> Option<Change> {
        let account = account(random);
        match (random.below(3), &self.draft) {
            (0, _) => {
                let payee = Payee {
                    name: SepaText::new("Ann, of (Bonn)", SepaText::NAME_MAX).unwrap(),
                    iban: "DE89370400440532013000".parse().unwrap(),
                    bic: random.pick(&[None, Some("COBADEFFXXX".parse().unwrap())]),
                };
                let preference = random.pick(&[
                    PayoutPreference::Credits,
                    PayoutPreference::Direct(payee),
                    PayoutPreference::Priority,
                    PayoutPreference::Discount,
                ]);
                Some(Change::PayoutPreferred(account, preference))
            }
            (1, Some(sent)) => {
                let envelope = (0..random.below(30)).map(|_| random.next() as u8).collect();
                Some(Change::PayoutApproved(sent.run, envelope))
            }
            _ => {
                let payable = self.ledger.balance(&LedgerAccount::Payable(account.clone())).0 as u64;
                if payable < RATE || self.unsettled.contains_key(&account) {
                    return None;
                }
                let (pain001, csv) = (random.bytes::<9>().to_vec(), random.bytes::<7>().to_vec());
                let sent = PayoutSent {
                    run: PayoutRun(self.runs + 1),
                    currency: random.pick(&Currency::ALL),
                    rate: Rate(NonZeroU64::new(RATE).unwrap()),
                    pain001: Digest::of(&pain001),
                    csv: Digest::of(&csv),
                    payments: vec![(account, MinorUnits(payable / RATE))],
                    at,
                };
                self.draft = Some(sent.clone());
                Some(Change::PayoutPrepared(Box::new(PayoutDraft { sent, pain001, csv, approval: None })))
            }
        }
    }

    fn payout_sent(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let sent = PayoutSent { at, ..self.draft.take_if(|_| random.below(2) == 0)? };
        self.runs = sent.run.0;
        let (account, units) = sent.payments[0].clone();
        self.unsettled.insert(account, (sent.run, MicroCredits((units.0 * RATE) as i64)));
        Some(Logged::PayoutSent(sent))
    }

    fn payout_settled(&mut self, random: &mut Random, at: Timestamp) -> Option<Logged> {
        let member = account(random);
        let (run, amount) = *self.unsettled.get(&member)?;
        let event = if random.below(2) == 0 { events::payout_done } else { events::payout_failed };
        let logged = self.post(event(run, &member, amount, at))?;
        self.unsettled.remove(&member);
        Some(logged)
    }

    fn any_job(&self, random: &mut Random) -> Option<JobId> {
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        (!jobs.is_empty()).then(|| random.pick(&jobs))
    }

    /// The entry, if the ledger takes it.
    fn post(&mut self, entry: Option<Entry>) -> Option<Logged> {
        let (entry, limit) = (entry?, self.opened?);
        (self.ledger.apply(&entry, limit) == Ok(Outcome::Applied)).then_some(Logged::Entry(entry))
    }
}

const CREDIT: MicroCredits = MicroCredits(1_000_000);

fn change(logged: Logged) -> Change {
    Change::Logged(Box::new(Event::from(logged)))
}

/// Few, so that each has several claims.
pub(super) fn device(random: &mut Random) -> DeviceId {
    DeviceId([0, 0, 0, 0, 0, 0, 0, random.below(6) as u8])
}

fn owner_of(device: DeviceId) -> Account {
    Account::new(Script::ACCOUNTS[usize::from(device.0[7] % 2)]).unwrap()
}

fn account(random: &mut Random) -> Account {
    Account::new(random.pick(&Script::ACCOUNTS)).unwrap()
}

fn certified(random: &mut Random, at: Timestamp) -> Change {
    let attachment: Vec<u8> = (0..1 + random.below(300)).map(|_| random.next() as u8).collect();
    let (workload, envelope) = (Digest(random.bytes()), Digest::of(&attachment));
    let logged = Logged::WorkloadCertified { workload, charter: Digest([4; 32]), envelope, at };
    Change::Logged(Box::new(Event { logged, attachment }))
}

fn drawn(random: &mut Random, at: Timestamp) -> Logged {
    let claim = ClaimRef { device: device(random), sequence: 1 + random.number() / 2 };
    let (period, drawn_before) = (random.number(), random.number());
    if random.below(2) == 0 {
        let items = (0..random.below(5) as u32).collect();
        return Logged::AuditDrawn(AuditDrawn { claim, period, depth: 409, drawn_before, items, at });
    }
    let (job, device) = (JobId(1), claim.device);
    let (open, items) = (vec![claim.sequence], vec![(claim.sequence, 3)]);
    Logged::AuditDrawnMore(AuditDrawnMore { job, device, period, drawn_before, open, items, at })
}

fn outcome(random: &mut Random, at: Timestamp) -> Logged {
    let auditor = random.pick(&[None, Some(ClaimRef { device: DeviceId([9; 8]), sequence: 4 })]);
    let finding = |random: &mut Random| random.pick(&Finding::ALL);
    let items = (0..random.below(4) as u32)
        .map(|item| AuditedItem { sequence: 1 + random.below(9), item, finding: finding(random) })
        .collect();
    Logged::AuditOutcome(AuditOutcome { of: device(random), auditor, items, at })
}
