//! What each event transfers: pure functions from an event to an entry. Nothing is transferred where nothing is owed.

use crate::{Entry, GrantKey, LedgerAccount, PayoutRun, Posting, Purpose, TransferKind};
use caii_model::{Account, DeviceId, JobId, MicroCredits, Price, Settlement, SplitError, TaskId, Timestamp, split};

use LedgerAccount::{Escrow, Fees, Held, Member, Payable, Treasury, Verification};

/// The operator gives credits.
pub fn granted(key: GrantKey, to: &Account, amount: MicroCredits, at: Timestamp) -> Option<Entry> {
    one(Purpose::Granted(key), at, Treasury, Member(to.clone()), amount, TransferKind::Grant)
}

/// The operator received money from a member.
pub fn payment_recorded(key: GrantKey, from: &Account, amount: MicroCredits, at: Timestamp) -> Option<Entry> {
    one(Purpose::PaymentRecorded(key), at, Treasury, Member(from.clone()), amount, TransferKind::Payment)
}

/// A job is admitted: the most that it can cost is set aside.
pub fn job_reserved(job: JobId, requester: &Account, quote: MicroCredits, at: Timestamp) -> Option<Entry> {
    one(Purpose::JobReserved(job), at, Member(requester.clone()), Escrow(job), quote, TransferKind::Reserve)
}

/// A job ended: what is left in its escrow goes back. The ledger can forget it then ([`crate::Ledger::close`]).
pub fn job_returned(job: JobId, requester: &Account, rest: MicroCredits, at: Timestamp) -> Option<Entry> {
    one(Purpose::JobReturned(job), at, Escrow(job), Member(requester.clone()), rest, TransferKind::Return)
}

/// A device's result is accepted, by this settlement.
///
/// Out of the job's escrow, the price: to the device's owner what the requester's items earned, to verification the
/// surcharge and what was not earned, to the pool its fee. Out of verification: to the owner what audited items earned
/// that came along. What is held back of the whole reward is taken from both parts in proportion, by largest remainder,
/// the part that is paid first among equals.
///
/// # Errors
/// If the settlement's amounts are none that [`caii_model::settle`] gives.
pub fn task_accepted(
    task: TaskId,
    device: DeviceId,
    owner: &Account,
    settlement: &Settlement,
    at: Timestamp,
) -> Result<Option<Entry>, SplitError> {
    let Settlement { price, reward, earned, earned_by_audits, unearned } = settlement;
    let difference = |of: MicroCredits, less: MicroCredits| of.checked_sub(less).ok_or(SplitError::Negative);
    let weight = |amount: MicroCredits| u64::try_from(amount.0).map_err(|_| SplitError::Negative);
    let paid = difference(reward.total, reward.held)?;
    let [own_paid, own_held] = split(*earned, [weight(paid)?, weight(reward.held)?])?;
    let audits_held = difference(reward.held, own_held)?;
    let audits_paid = difference(*earned_by_audits, audits_held)?;
    let (escrow, member, held) = (Escrow(task.job), Member(owner.clone()), Held(owner.clone()));
    let postings = [
        (&escrow, &member, own_paid, TransferKind::Reward),
        (&escrow, &held, own_held, TransferKind::Holdback),
        (&escrow, &Verification, price.surcharge, TransferKind::Surcharge),
        (&escrow, &Verification, *unearned, TransferKind::Unearned),
        (&escrow, &Fees, price.fee, TransferKind::Fee),
        (&Verification, &member, audits_paid, TransferKind::AuditReward),
        (&Verification, &held, audits_held, TransferKind::AuditHoldback),
    ];
    Ok(entry(Purpose::TaskAccepted(task, device), at, &postings))
}

/// An accepted result turned out not to count: an audit found it wrong, or its device was caught before it was final.
///
/// The rule: the requester gets back the whole price at once, whatever the cheat still has. Verification bears it, but for
/// the fee, which the pool gives back; what can be had from the device's owner goes to verification by
/// [`device_forfeited`]. While the job is open the price goes back to its escrow, since the task is done again and paid
/// again; afterwards it goes to the requester.
pub fn task_voided(
    task: TaskId,
    device: DeviceId,
    requester: &Account,
    job_open: bool,
    price: &Price,
    at: Timestamp,
) -> Option<Entry> {
    let to = if job_open { Escrow(task.job) } else { Member(requester.clone()) };
    let postings = [
        (&Verification, &to, price.work, TransferKind::Refund),
        (&Verification, &to, price.surcharge, TransferKind::Refund),
        (&Fees, &to, price.fee, TransferKind::FeeRefund),
    ];
    entry(Purpose::TaskVoided(task, device), at, &postings)
}

/// What a caught device loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forfeiture {
    /// Which device.
    pub device: DeviceId,
    /// The last of its claims that are concerned.
    pub through: u64,
    /// Whose it is.
    pub owner: Account,
    /// What is held back for the device's claims, void or not.
    pub held: MicroCredits,
    /// What was paid to the owner, beyond what is held back, for claims that are void now.
    pub paid_for_void: MicroCredits,
}

/// A device was caught. Its owner loses what is held back for it, for good work too: that is the stake. And what was
/// paid for work that is void now is taken back as far as the owner has it: never below zero, and never what is already
/// payable. Both go to verification, which made the requesters whole.
///
/// What the owner has is an argument: told again later with another balance, this is another entry for the same purpose
/// and refused. Whoever replays an event replays the entry that was made of it.
pub fn device_forfeited(forfeiture: &Forfeiture, owner_balance: MicroCredits, at: Timestamp) -> Option<Entry> {
    let Forfeiture { device, through, owner, held, paid_for_void } = forfeiture;
    let recoverable = (*paid_for_void).min(owner_balance).max(MicroCredits::ZERO);
    let postings = [
        (&Held(owner.clone()), &Verification, *held, TransferKind::Forfeit),
        (&Member(owner.clone()), &Verification, recoverable, TransferKind::Clawback),
    ];
    entry(Purpose::DeviceForfeited(*device, *through), at, &postings)
}

/// A device has earned trust: what was held back for it is free; `number` counts its releases.
pub fn holdback_released(
    device: DeviceId,
    number: u64,
    owner: &Account,
    amount: MicroCredits,
    at: Timestamp,
) -> Option<Entry> {
    let purpose = Purpose::HoldbackReleased(device, number);
    one(purpose, at, Held(owner.clone()), Member(owner.clone()), amount, TransferKind::Release)
}

/// A device was present on a day.
pub fn availability_paid(
    device: DeviceId,
    day: u32,
    owner: &Account,
    amount: MicroCredits,
    at: Timestamp,
) -> Option<Entry> {
    let purpose = Purpose::AvailabilityPaid(device, day);
    one(purpose, at, Treasury, Member(owner.clone()), amount, TransferKind::Availability)
}

/// A member asks to be paid out; `number` counts the member's requests.
pub fn payout_requested(member: &Account, number: u64, amount: MicroCredits, at: Timestamp) -> Option<Entry> {
    let purpose = Purpose::PayoutRequested(member.clone(), number);
    one(purpose, at, Member(member.clone()), Payable(member.clone()), amount, TransferKind::PayoutRequest)
}

/// The bank paid what the run's file says for this member. What was too little for a cent stays payable.
pub fn payout_done(run: PayoutRun, member: &Account, amount: MicroCredits, at: Timestamp) -> Option<Entry> {
    let purpose = Purpose::PayoutSettled(run, member.clone());
    one(purpose, at, Payable(member.clone()), Treasury, amount, TransferKind::PayoutDone)
}

/// The bank did not pay: the member has it back.
pub fn payout_failed(run: PayoutRun, member: &Account, amount: MicroCredits, at: Timestamp) -> Option<Entry> {
    let purpose = Purpose::PayoutSettled(run, member.clone());
    one(purpose, at, Payable(member.clone()), Member(member.clone()), amount, TransferKind::PayoutFailed)
}

fn one(
    purpose: Purpose,
    at: Timestamp,
    debit: LedgerAccount,
    credit: LedgerAccount,
    amount: MicroCredits,
    kind: TransferKind,
) -> Option<Entry> {
    entry(purpose, at, &[(&debit, &credit, amount, kind)])
}

/// Leaves out what is zero; what is negative stays and is refused by the ledger.
fn entry(
    purpose: Purpose,
    at: Timestamp,
    postings: &[(&LedgerAccount, &LedgerAccount, MicroCredits, TransferKind)],
) -> Option<Entry> {
    let owed = postings.iter().filter(|(_, _, amount, _)| *amount != MicroCredits::ZERO);
    let postings: Vec<Posting> = owed
        .map(|(debit, credit, amount, kind)| Posting {
            debit: (*debit).clone(),
            credit: (*credit).clone(),
            amount: *amount,
            kind: *kind,
        })
        .collect();
    (!postings.is_empty()).then_some(Entry { purpose, at, postings })
}
