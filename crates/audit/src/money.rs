//! The ledger's entries: each there once, each for a reason, with the amounts that follow from it.

use crate::files::{FileError, payout_paths};
use crate::logged::{ClaimRef, Kind, PayoutSent};
use crate::report::Check;
use crate::walk::Walk;
use caii_ledger::{
    Entry, Ledger, LedgerAccount, Outcome, PayoutRun, Posting, Purpose, Refusal, TransferId, TransferKind, events,
};
use caii_model::{Account, DeviceId, Digest, JobId, MicroCredits, Millis, TaskId, Timestamp, availability};
use caii_payout::{MinorUnits, pain001};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of credits so far.
#[derive(Default)]
pub(crate) struct Money {
    pub(crate) ledger: Ledger,
    /// The ids of all entries.
    seen: BTreeSet<TransferId>,
    jobs: BTreeMap<JobId, Job>,
    runs: BTreeMap<PayoutRun, Run>,
    requests: BTreeMap<Account, u64>,
    /// What was paid and taken back, by kind of transfer.
    totals: BTreeMap<TransferKind, i128>,
}

struct Job {
    requester: Account,
    reserved: Timestamp,
    returned: bool,
}

/// A payout run: what is still to be settled of it.
struct Run {
    open: BTreeMap<Account, MicroCredits>,
}

impl Money {
    pub(crate) fn reserved_at(&self, job: JobId) -> Option<Timestamp> {
        self.jobs.get(&job).map(|job| job.reserved)
    }

    /// Whether what was left of a job was returned. Of one that used up all of its escrow nothing says so.
    pub(crate) fn is_returned(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.returned)
    }
}

impl Walk<'_> {
    pub(crate) fn ledger_entry(&mut self, entry: &Entry) {
        if !self.money.seen.insert(entry.id()) {
            return self.wrong(Check::Entries, format!("{} stands there a second time ({})", entry.id(), words(entry)));
        }
        match self.justified(entry) {
            Ok(()) => self.good(Check::Entries),
            Err(Unjustified::No(why)) => self.wrong(Check::Entries, format!("{}: {why}", words(entry))),
            Err(Unjustified::Missing(kinds, why)) => {
                self.missing(Check::Entries, kinds, format!("{}: {why}", words(entry)));
            }
        }
        match self.money.ledger.apply(entry, self.credit_limit) {
            Ok(Outcome::Applied) => self.good(Check::Balances),
            Ok(Outcome::Exists) => self.wrong(Check::Entries, "it stands there a second time".into()),
            Err(refusal @ (Refusal::Insufficient { .. } | Refusal::Overflow { .. })) => {
                self.missing(Check::Balances, &[Kind::Entry], refusal.to_string());
            }
            Err(refusal) => self.wrong(Check::Entries, refusal.to_string()),
        }
        for posting in &entry.postings {
            *self.money.totals.entry(posting.kind).or_default() += i128::from(posting.amount.0);
        }
        self.follow(entry);
    }

    /// What is otherwise once this entry stands.
    fn follow(&mut self, entry: &Entry) {
        match &entry.purpose {
            Purpose::JobReserved(job) => {
                if let Some(Posting { debit: LedgerAccount::Member(requester), .. }) = entry.postings.first() {
                    let job_state = Job { requester: requester.clone(), reserved: entry.at, returned: false };
                    self.money.jobs.entry(*job).or_insert(job_state);
                }
            }
            Purpose::JobReturned(job) => {
                if let Some(state) = self.money.jobs.get_mut(job) {
                    state.returned = true;
                }
                if self.money.ledger.close(*job).is_err() {
                    let why = "credits are left in the escrow of a job that ended".into();
                    self.missing(Check::Balances, &[Kind::Entry], why);
                }
                self.job_ended(*job);
                self.job_paid(*job);
            }
            Purpose::TaskAccepted(task, device) => {
                if let Some(id) = self.accepted_claim(*task, *device) {
                    self.claim_paid(id);
                }
            }
            Purpose::TaskVoided(task, device) => {
                if let Some(id) = self.accepted_claim(*task, *device) {
                    self.claim_refunded(id);
                }
            }
            Purpose::HoldbackReleased(device, through) => {
                if let Some(state) = self.devices.get_mut(device) {
                    (state.held, state.releases) = (MicroCredits::ZERO, state.releases + 1);
                    state.released = state.released.max(*through);
                }
            }
            Purpose::DeviceForfeited(device, through) => {
                if let Some(state) = self.devices.get_mut(device) {
                    (state.held, state.paid_for_void) = (MicroCredits::ZERO, MicroCredits::ZERO);
                    state.released = state.released.max(*through);
                }
            }
            Purpose::PayoutRequested(account, number) => {
                self.money.requests.insert(account.clone(), *number);
            }
            Purpose::PayoutSettled(run, account) => {
                if let Some(run) = self.money.runs.get_mut(run) {
                    run.open.remove(account);
                }
            }
            Purpose::Granted(_) | Purpose::PaymentRecorded(_) | Purpose::AvailabilityPaid(..) => {}
        }
    }

    fn accepted_claim(&self, task: TaskId, device: DeviceId) -> Option<ClaimRef> {
        self.accepted.get(&task)?.iter().find(|claim| claim.device == device).copied()
    }

    /// Whether the log has a reason for the entry, and it is the one that follows.
    fn justified(&self, entry: &Entry) -> Result<(), Unjustified> {
        let at = entry.at;
        match &entry.purpose {
            Purpose::Granted(key) => match single(entry)? {
                Posting { credit: LedgerAccount::Member(to), amount, .. } => {
                    same(entry, events::granted(*key, to, *amount, at))
                }
                _ => Err(no("a grant goes to a member")),
            },
            Purpose::PaymentRecorded(key) => match single(entry)? {
                Posting { credit: LedgerAccount::Member(to), amount, .. } => {
                    same(entry, events::payment_recorded(*key, to, *amount, at))
                }
                _ => Err(no("a payment goes to a member")),
            },
            Purpose::JobReserved(job) => match single(entry)? {
                Posting { debit: LedgerAccount::Member(from), amount, .. } => {
                    same(entry, events::job_reserved(*job, from, *amount, at))
                }
                _ => Err(no("a job is reserved for by a member")),
            },
            Purpose::JobReturned(job) => {
                let state = self.money.jobs.get(job);
                let state = state.ok_or(missing(&[Kind::Entry], "nothing was reserved for the job"))?;
                let rest = self.money.ledger.balance(&LedgerAccount::Escrow(*job));
                same(entry, events::job_returned(*job, &state.requester, rest, at)).map_err(unless_erased)
            }
            Purpose::TaskAccepted(task, device) => {
                let why = "no accepted receipt of this task by this device stands before it";
                let id = self.accepted_claim(*task, *device).ok_or(missing(&[Kind::Receipt], why))?;
                let claim = self.claim(id).ok_or(missing(&[Kind::Receipt], why))?;
                let why = "the tariff of its receipt is not in the log";
                let settlement = claim.settlement.as_ref().ok_or(missing(&[Kind::TariffEnacted], why))?;
                let owner = &self.devices[device].owner;
                let expected = events::task_accepted(*task, *device, owner, settlement, at);
                same(entry, expected.map_err(|error| no(&error.to_string()))?)
            }
            Purpose::TaskVoided(task, device) => {
                let state = self.devices.get(device).filter(|device| device.convicted);
                state.ok_or(missing(&[Kind::DeviceConvicted], "its device is not convicted"))?;
                let why = "no accepted receipt of this task by this device stands before it";
                let id = self.accepted_claim(*task, *device).ok_or(missing(&[Kind::Receipt], why))?;
                let claim = self.claim(id).ok_or(missing(&[Kind::Receipt], why))?;
                let why = "the tariff of its receipt is not in the log";
                let settlement = claim.settlement.ok_or(missing(&[Kind::TariffEnacted], why))?;
                if claim.paid.is_none() {
                    return Err(missing(
                        &[Kind::Entry],
                        "the claim was not paid: what is not is voided without credits",
                    ));
                }
                let job = self.money.jobs.get(&task.job);
                let job = job.ok_or(missing(&[Kind::Entry], "nothing was reserved for the job"))?;
                // Of a job that used up all of its escrow nothing says in the ledger that it ended.
                let expected = |open| events::task_voided(*task, *device, &job.requester, open, &settlement.price, at);
                match job.returned {
                    false if expected(false).as_ref() == Some(entry) => Ok(()),
                    returned => same(entry, expected(!returned)),
                }
            }
            Purpose::HoldbackReleased(device, through) => {
                let state = self.devices.get(device);
                let state =
                    state.ok_or(missing(&[Kind::DeviceEnrolled, Kind::Receipt], "its device is not enrolled"))?;
                if state.convicted {
                    return Err(no("its device is convicted"));
                }
                if *through < state.released {
                    return Err(no(&format!("what was held back up to claim {} was moved before", state.released)));
                }
                let expected = events::holdback_released(*device, *through, &state.owner, state.held, at);
                same(entry, expected).map_err(unless_erased)
            }
            Purpose::DeviceForfeited(device, through) => {
                let state = self.devices.get(device).filter(|device| device.convicted);
                let state = state.ok_or(missing(&[Kind::DeviceConvicted], "its device is not convicted"))?;
                if *through < state.released {
                    return Err(no(&format!("what was held back up to claim {} was moved before", state.released)));
                }
                let forfeiture = events::Forfeiture {
                    device: *device,
                    through: *through,
                    owner: state.owner.clone(),
                    held: state.held,
                    paid_for_void: state.paid_for_void,
                };
                let has = self.money.ledger.balance(&LedgerAccount::Member(state.owner.clone()));
                same(entry, events::device_forfeited(&forfeiture, has, at)).map_err(unless_erased)
            }
            Purpose::AvailabilityPaid(device, day) => {
                let state = self.devices.get(device);
                let state =
                    state.ok_or(missing(&[Kind::DeviceEnrolled, Kind::Receipt], "its device is not enrolled"))?;
                let amount = single(entry)?.amount;
                let (_, tariff) =
                    self.tariff_at(at).ok_or(missing(&[Kind::TariffEnacted], "no tariff was in force"))?;
                let most = availability(tariff, Millis(u64::MAX)).map_err(|error| no(&error.to_string()))?;
                if amount > most.amount {
                    return Err(no(&format!("a day of presence earns at most {} credits", most.amount)));
                }
                same(entry, events::availability_paid(*device, *day, &state.owner, amount, at))
            }
            Purpose::PayoutRequested(account, number) => {
                let expected = self.money.requests.get(account).map_or(1, |last| last + 1);
                if *number != expected {
                    let why = format!("it is request {number} of the member; the next one is {expected}");
                    return Err(Unjustified::Missing(&[Kind::Entry], why));
                }
                same(entry, events::payout_requested(account, *number, single(entry)?.amount, at))
            }
            Purpose::PayoutSettled(run, account) => {
                let state = self.money.runs.get(run);
                let state = state.ok_or(missing(&[Kind::PayoutSent], "no such run was sent"))?;
                let amount = state.open.get(account).copied().ok_or(no("the run does not pay this member"))?;
                match events::payout_failed(*run, account, amount, at) {
                    failed if failed.as_ref() == Some(entry) => Ok(()),
                    _ => same(entry, events::payout_done(*run, account, amount, at)),
                }
            }
        }
    }

    pub(crate) fn payout_sent(&mut self, sent: &PayoutSent) {
        let check = Check::Payouts;
        if self.money.runs.last_key_value().is_some_and(|(last, _)| *last >= sent.run) {
            return self.wrong(check, format!("{} was sent before, or a later one was", sent.run));
        }
        let mut open = BTreeMap::new();
        let mut wrong = None;
        for (account, amount) in &sent.payments {
            let on_its_way = self.money.runs.values().any(|run| run.open.contains_key(account));
            let payable = self.money.ledger.balance(&LedgerAccount::Payable(account.clone()));
            let due = sent.rate.convert(payable).map(|(due, _)| due);
            let credits = amount.0.checked_mul(sent.rate.0.get()).and_then(|credits| i64::try_from(credits).ok());
            let twice = open.insert(account.clone(), credits.map_or(MicroCredits::MAX, MicroCredits)).is_some();
            if twice {
                wrong.get_or_insert(format!("{account} is paid twice"));
            } else if on_its_way {
                wrong.get_or_insert(format!("an earlier run that pays {account} is not settled"));
            } else if due != Some(*amount) || amount.0 == 0 || credits.is_none() {
                let due = due.unwrap_or_default().0;
                wrong.get_or_insert(format!("{account} is paid {} and {due} was payable", amount.0));
            }
        }
        self.money.runs.insert(sent.run, Run { open });
        match wrong {
            Some(why) => self.missing(check, &[Kind::Entry], format!("{}: {why}", sent.run)),
            None => self.good(check),
        }
        self.payout_files(sent);
    }

    /// The files of a run, for auditors who have them.
    fn payout_files(&mut self, sent: &PayoutSent) {
        let paths = payout_paths(sent.run.0);
        for (path, digest) in paths.into_iter().zip([sent.pain001, sent.csv]) {
            let bytes = match self.files.read(&path) {
                Ok(bytes) => bytes,
                Err(FileError::Missing { .. } | FileError::Unreadable { .. }) => {
                    self.uncheckable(Check::Payouts);
                    self.note(
                        Check::Payouts,
                        "payout files name people, so they are not published: without them their digests stand alone",
                    );
                    continue;
                }
            };
            let why = if Digest::of(&bytes) != digest {
                Some("it is not the file whose digest was logged".to_owned())
            } else if path.ends_with(".xml") {
                xml_differs(&bytes, sent)
            } else {
                csv_differs(&bytes, sent)
            };
            match why {
                None => self.good(Check::Payouts),
                Some(why) => {
                    let index = Some(self.index);
                    self.wrong_at(Check::Payouts, index, path, why);
                }
            }
        }
    }

    /// Every kind of account once more, from the kinds of transfers alone.
    pub(crate) fn trial_balance(&mut self) {
        use TransferKind as K;
        let totals = &self.money.totals;
        let total = |kinds: &[K]| kinds.iter().map(|kind| totals.get(kind).copied().unwrap_or_default()).sum::<i128>();
        let void_paid: i128 = total(&[K::Refund, K::FeeRefund]);
        let treasury = total(&[K::PayoutDone]) - total(&[K::Grant, K::Payment, K::Availability]);
        let fees = total(&[K::Fee]) - total(&[K::FeeRefund]);
        let held = total(&[K::Holdback, K::AuditHoldback]) - total(&[K::Release, K::Forfeit]);
        let payable = total(&[K::PayoutRequest]) - total(&[K::PayoutDone, K::PayoutFailed]);
        let verification = total(&[K::Surcharge, K::Unearned, K::Forfeit, K::Clawback])
            - total(&[K::AuditReward, K::AuditHoldback, K::Refund]);
        // Refunds go to escrow or to requesters, so these two are known together.
        let members_and_escrow =
            total(&[K::Grant, K::Payment, K::Availability, K::AuditReward, K::Release, K::PayoutFailed]) + void_paid
                - total(&[K::Holdback, K::Surcharge, K::Unearned, K::Fee, K::Clawback, K::PayoutRequest]);
        let found = self.money.ledger.trial_balance();
        let rows = [
            ("treasury", treasury, found.treasury),
            ("fees", fees, found.fees),
            ("held back", held, found.held),
            ("payable", payable, found.payable),
            ("verification", verification, found.verification),
            ("members and escrow", members_and_escrow, found.members + found.escrow),
            ("all together", 0, found.sum()),
        ];
        for (what, expected, found) in rows {
            if expected == found {
                self.good(Check::TrialBalance);
            } else {
                let why = format!("{what}: {found} millionths of a credit; the transfers recompute to {expected}");
                if self.is_erased(&[Kind::Entry]) {
                    self.uncheckable(Check::TrialBalance);
                } else {
                    self.wrong_file(Check::TrialBalance, "opening", why);
                }
            }
        }
    }
}

/// Why there is no reason for an entry.
enum Unjustified {
    /// There is none.
    No(String),
    /// It could be in what was erased of these kinds.
    Missing(&'static [Kind], String),
}

fn no(why: &str) -> Unjustified {
    Unjustified::No(why.to_owned())
}

fn missing(kinds: &'static [Kind], why: &str) -> Unjustified {
    Unjustified::Missing(kinds, why.to_owned())
}

/// Sums over receipts and payments are not known while one of them is erased.
fn unless_erased(why: Unjustified) -> Unjustified {
    match why {
        Unjustified::No(why) => Unjustified::Missing(&[Kind::TariffEnacted, Kind::Receipt, Kind::Entry], why),
        missing @ Unjustified::Missing(..) => missing,
    }
}

fn single(entry: &Entry) -> Result<&Posting, Unjustified> {
    match entry.postings.as_slice() {
        [posting] => Ok(posting),
        postings => Err(no(&format!("it has {} transfers instead of one", postings.len()))),
    }
}

fn same(entry: &Entry, expected: Option<Entry>) -> Result<(), Unjustified> {
    let Some(expected) = expected else { return Err(no("nothing is owed for it")) };
    if expected == *entry {
        return Ok(());
    }
    let differ = expected.postings.iter().zip(&entry.postings).position(|(one, other)| one != other);
    Err(match differ.map(|place| (place, &expected.postings[place], &entry.postings[place])) {
        Some((place, right, found)) => no(&format!(
            "transfer {place} is {} credits from {} to {}; what follows is {} from {} to {}",
            found.amount, found.debit, found.credit, right.amount, right.debit, right.credit
        )),
        None => no(&format!("it has {} transfers; what follows has {}", entry.postings.len(), expected.postings.len())),
    })
}

fn words(entry: &Entry) -> String {
    match &entry.purpose {
        Purpose::Granted(_) => "grant".into(),
        Purpose::PaymentRecorded(_) => "payment".into(),
        Purpose::JobReserved(job) => format!("reservation for {job}"),
        Purpose::JobReturned(job) => format!("rest of {job}"),
        Purpose::TaskAccepted(task, device) => format!("acceptance of {task} by {device}"),
        Purpose::TaskVoided(task, device) => format!("voiding of {task} by {device}"),
        Purpose::HoldbackReleased(device, through) => format!("release for {device} through claim {through}"),
        Purpose::DeviceForfeited(device, through) => format!("forfeit of {device} through claim {through}"),
        Purpose::AvailabilityPaid(device, day) => format!("presence of {device} on day {day}"),
        Purpose::PayoutRequested(account, number) => format!("payout request {number} of {account}"),
        Purpose::PayoutSettled(run, account) => format!("settlement of {run} for {account}"),
    }
}

fn xml_differs(bytes: &[u8], sent: &PayoutSent) -> Option<String> {
    let file = match pain001::read(bytes) {
        Ok(file) => file,
        Err(error) => return Some(error.to_string()),
    };
    let amounts = file.payments.iter().map(|payment| payment.amount);
    amounts_differ(amounts.collect(), sent)
}

fn csv_differs(bytes: &[u8], sent: &PayoutSent) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut amounts = Vec::new();
    for (line, (account, _)) in text.split("\r\n").skip(1).filter(|line| !line.is_empty()).zip(&sent.payments) {
        let fields = fields(line);
        let (Some(named), Some(amount)) = (fields.get(1), fields.get(6)) else {
            return Some("a line has too few fields".into());
        };
        if named != account.as_str() {
            return Some(format!("a line pays {named} where the log says {account}"));
        }
        amounts.push(sent.currency.read(amount).unwrap_or(MinorUnits(0)));
    }
    amounts_differ(amounts, sent)
}

/// Of a line as `caii_payout::csv` writes it: quotes only around a whole field.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("there is one from the start").push(c),
        }
    }
    fields
}

fn amounts_differ(found: Vec<MinorUnits>, sent: &PayoutSent) -> Option<String> {
    let logged: Vec<MinorUnits> = sent.payments.iter().map(|(_, amount)| *amount).collect();
    if found.len() != logged.len() {
        return Some(format!("it has {} payments; the log says {}", found.len(), logged.len()));
    }
    let place = found.iter().zip(&logged).position(|(one, other)| one != other)?;
    Some(format!("payment {} is {}; the log says {}", place + 1, found[place].0, logged[place].0))
}
