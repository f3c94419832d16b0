//! Transfers, the entries that they stand in, and the ids that follow from what an entry is for.

use crate::LedgerAccount;
use caii_model::canonical::{CanonicalError, CanonicalReader, CanonicalWriter};
use caii_model::{Account, DeviceId, Digest, JobId, MicroCredits, TaskId, TaskIndex, Timestamp};
use std::fmt;

/// What names a transfer, and what it is applied once by: 15 bytes that follow from the entry's purpose, and the place
/// within the entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransferId(pub [u8; 16]);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tr_")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the operator's client names a grant or a recorded payment by, so that asking twice gives once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GrantKey(pub [u8; 16]);

/// One file of payments; counted up by the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PayoutRun(pub u64);

impl fmt::Display for PayoutRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "payout_{}", self.0)
    }
}

/// What an entry is for. Two entries for one purpose are one entry: whatever is told twice is paid once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The operator gives credits.
    Granted(GrantKey),
    /// The operator received money from a member.
    PaymentRecorded(GrantKey),
    /// A job is admitted.
    JobReserved(JobId),
    /// A job ended.
    JobReturned(JobId),
    /// A device's result for a task is accepted.
    TaskAccepted(TaskId, DeviceId),
    /// It turned out not to count.
    TaskVoided(TaskId, DeviceId),
    /// What was held back for the device is released, for so many times.
    HoldbackReleased(DeviceId, u64),
    /// A device was caught; its claims up to this sequence number lose what was held back.
    DeviceForfeited(DeviceId, u64),
    /// A device was present on this day, counted from 1970.
    AvailabilityPaid(DeviceId, u32),
    /// A member asks to be paid out, for so many times.
    PayoutRequested(Account, u64),
    /// The bank answered: paid or not. One purpose for both, so that only one of them can happen.
    PayoutSettled(PayoutRun, Account),
}

impl Purpose {
    /// The job that it belongs to, if any.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::JobReserved(job) | Self::JobReturned(job) => Some(*job),
            Self::TaskAccepted(task, _) | Self::TaskVoided(task, _) => Some(task.job),
            Self::Granted(_)
            | Self::PaymentRecorded(_)
            | Self::HoldbackReleased(..)
            | Self::DeviceForfeited(..)
            | Self::AvailabilityPaid(..)
            | Self::PayoutRequested(..)
            | Self::PayoutSettled(..) => None,
        }
    }

    fn write(&self, writer: CanonicalWriter) -> CanonicalWriter {
        let task = |writer: CanonicalWriter, code, task: &TaskId, device: &DeviceId| {
            writer.u8(code).u64(task.job.0).u32(task.index.0).fixed(&device.0)
        };
        match self {
            Self::Granted(key) => writer.u8(1).fixed(&key.0),
            Self::PaymentRecorded(key) => writer.u8(2).fixed(&key.0),
            Self::JobReserved(job) => writer.u8(3).u64(job.0),
            Self::JobReturned(job) => writer.u8(4).u64(job.0),
            Self::TaskAccepted(id, device) => task(writer, 5, id, device),
            Self::TaskVoided(id, device) => task(writer, 6, id, device),
            Self::HoldbackReleased(device, through) => writer.u8(7).fixed(&device.0).u64(*through),
            Self::DeviceForfeited(device, through) => writer.u8(8).fixed(&device.0).u64(*through),
            Self::AvailabilityPaid(device, day) => writer.u8(9).fixed(&device.0).u32(*day),
            Self::PayoutRequested(account, number) => writer.u8(10).account(account).u64(*number),
            Self::PayoutSettled(run, account) => writer.u8(11).u64(run.0).account(account),
        }
    }

    fn read(reader: &mut CanonicalReader<'_>) -> Result<Self, CanonicalError> {
        let code = reader.u8("purpose")?;
        let job = |reader: &mut CanonicalReader<'_>| reader.u64("job").map(JobId);
        let device = |reader: &mut CanonicalReader<'_>| reader.fixed("device").map(DeviceId);
        let task = |reader: &mut CanonicalReader<'_>| {
            Ok((TaskId { job: job(reader)?, index: reader.u32("index").map(TaskIndex)? }, device(reader)?))
        };
        match code {
            1 => reader.fixed("key").map(GrantKey).map(Self::Granted),
            2 => reader.fixed("key").map(GrantKey).map(Self::PaymentRecorded),
            3 => job(reader).map(Self::JobReserved),
            4 => job(reader).map(Self::JobReturned),
            5 => task(reader).map(|(task, device)| Self::TaskAccepted(task, device)),
            6 => task(reader).map(|(task, device)| Self::TaskVoided(task, device)),
            7 => Ok(Self::HoldbackReleased(device(reader)?, reader.u64("through")?)),
            8 => Ok(Self::DeviceForfeited(device(reader)?, reader.u64("through")?)),
            9 => Ok(Self::AvailabilityPaid(device(reader)?, reader.u32("day")?)),
            10 => Ok(Self::PayoutRequested(reader.account("account")?, reader.u64("number")?)),
            11 => Ok(Self::PayoutSettled(reader.u64("run").map(PayoutRun)?, reader.account("account")?)),
            _ => Err(CanonicalError::Field { field: "purpose" }),
        }
    }

    /// The id of the entry's transfer at this place.
    pub fn transfer_id(&self, place: u8) -> TransferId {
        let digest = Digest::of(&self.write(CanonicalWriter::new(b"caiiprp1")).finish());
        let mut id: [u8; 16] = *digest.0.first_chunk().expect("a digest has 32 bytes");
        id[15] = place;
        TransferId(id)
    }
}

/// Why an amount goes from one account to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransferKind {
    /// The operator gave credits.
    Grant,
    /// The operator received money.
    Payment,
    /// A job's highest price is set aside.
    Reserve,
    /// What was not used of it comes back.
    Return,
    /// A contributor's work.
    Reward,
    /// The part of a reward that is held back on probation.
    Holdback,
    /// What a requester pays for verification.
    Surcharge,
    /// What a requester pays and the device did not earn.
    Unearned,
    /// The pool's fee.
    Fee,
    /// Work on audited items.
    AuditReward,
    /// The part of it that is held back.
    AuditHoldback,
    /// A requester gets back what work cost that turned out not to count.
    Refund,
    /// And the fee on it.
    FeeRefund,
    /// What was held back is free.
    Release,
    /// What was held back is lost.
    Forfeit,
    /// What was paid for work that does not count is taken back.
    Clawback,
    /// Presence.
    Availability,
    /// A member asked to be paid out.
    PayoutRequest,
    /// The bank paid.
    PayoutDone,
    /// The bank did not pay.
    PayoutFailed,
}

impl TransferKind {
    /// All of them, in the order of their numbers in canonical bytes, which count from 1 and stay for ever.
    pub const ALL: [Self; 20] = [
        Self::Grant,
        Self::Payment,
        Self::Reserve,
        Self::Return,
        Self::Reward,
        Self::Holdback,
        Self::Surcharge,
        Self::Unearned,
        Self::Fee,
        Self::AuditReward,
        Self::AuditHoldback,
        Self::Refund,
        Self::FeeRefund,
        Self::Release,
        Self::Forfeit,
        Self::Clawback,
        Self::Availability,
        Self::PayoutRequest,
        Self::PayoutDone,
        Self::PayoutFailed,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Payment => "payment",
            Self::Reserve => "reserve",
            Self::Return => "return",
            Self::Reward => "reward",
            Self::Holdback => "holdback",
            Self::Surcharge => "surcharge",
            Self::Unearned => "unearned",
            Self::Fee => "fee",
            Self::AuditReward => "audit-reward",
            Self::AuditHoldback => "audit-holdback",
            Self::Refund => "refund",
            Self::FeeRefund => "fee-refund",
            Self::Release => "release",
            Self::Forfeit => "forfeit",
            Self::Clawback => "clawback",
            Self::Availability => "availability",
            Self::PayoutRequest => "payout-request",
            Self::PayoutDone => "payout-done",
            Self::PayoutFailed => "payout-failed",
        }
    }

    /// Its number in canonical bytes, for ever.
    pub fn code(self) -> u8 {
        // Declared in the order of `ALL`, to which a test holds it.
        self as u8 + 1
    }
}

/// An amount that goes from one account to another as a part of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// From where.
    pub debit: LedgerAccount,
    /// To where.
    pub credit: LedgerAccount,
    /// How much; more than nothing.
    pub amount: MicroCredits,
    /// Why.
    pub kind: TransferKind,
}

/// The transfers that one event makes. They are applied together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is for.
    pub purpose: Purpose,
    /// When.
    pub at: Timestamp,
    /// At least one, at most [`Entry::POSTINGS_MAX`].
    pub postings: Vec<Posting>,
}

impl Entry {
    /// No event makes more.
    pub const POSTINGS_MAX: usize = 16;

    /// What names it: the id of its first transfer.
    pub fn id(&self) -> TransferId {
        self.purpose.transfer_id(0)
    }

    /// Its transfers, as they are stored: a row each, whose id is unique.
    pub fn transfers(&self) -> impl Iterator<Item = Transfer> {
        (0u8..).zip(&self.postings).map(|(place, posting)| Transfer {
            purpose: self.purpose.clone(),
            place,
            posting: posting.clone(),
            at: self.at,
        })
    }

    const KIND: &[u8; 8] = b"caiient1";

    /// Its canonical bytes, as the transparency log has them; purposes and accounts are written as in
    /// [`Transfer::to_canonical`]:
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 8 | `caiient1` |
    /// | n | the purpose |
    /// | 8 | time, milliseconds since 1970 |
    /// | 1 | number of postings, 1 to [`Entry::POSTINGS_MAX`]; of each then |
    /// | n | debit |
    /// | n | credit |
    /// | 8 | amount |
    /// | 1 | kind |
    pub fn to_canonical(&self) -> Vec<u8> {
        let writer = self.purpose.write(CanonicalWriter::new(Self::KIND)).u64(self.at.0);
        // More than that are refused by the reader; no event makes them.
        let writer = writer.u8(u8::try_from(self.postings.len()).unwrap_or(u8::MAX));
        self.postings.iter().fold(writer, write_posting).finish()
    }

    /// The entry of these bytes. Whether it may be applied is not looked at.
    ///
    /// # Errors
    /// If they are not the canonical form of an entry.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let mut reader = CanonicalReader::new(Self::KIND, bytes)?;
        let purpose = Purpose::read(&mut reader)?;
        let at = reader.time("at")?;
        let count = usize::from(reader.u8("postings")?);
        if !(1..=Self::POSTINGS_MAX).contains(&count) {
            return Err(CanonicalError::Field { field: "postings" });
        }
        let postings = (0..count).map(|_| read_posting(&mut reader)).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { purpose, at, postings })
    }

    /// Of everything but the time: what is told again is the same although it is later.
    pub(crate) fn fingerprint(&self) -> u64 {
        let writer = self.purpose.write(CanonicalWriter::new(b"caiifpr1"));
        let digest = Digest::of(&self.postings.iter().fold(writer, write_posting).finish());
        u64::from_le_bytes(*digest.0.first_chunk().expect("a digest has 32 bytes"))
    }
}

/// One debit and one credit. It never changes; what was wrong is put right by another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What its entry is for.
    pub purpose: Purpose,
    /// Its place there, from 0.
    pub place: u8,
    /// From where, to where, how much, why.
    pub posting: Posting,
    /// When.
    pub at: Timestamp,
}

impl Transfer {
    const KIND: &[u8; 8] = b"caiitrn1";

    /// What names it: its idempotency key.
    pub fn id(&self) -> TransferId {
        self.purpose.transfer_id(self.place)
    }

    /// Its canonical bytes, in which an account's name has two bytes of length before it:
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 8 | `caiitrn1` |
    /// | 1 | number of the purpose |
    /// | 16 | of 1 granted and 2 payment recorded: the key |
    /// | 8 | of 3 reserved and 4 returned: the job |
    /// | 20 | of 5 accepted and 6 voided: the job (8), the task's index (4), the device (8) |
    /// | 16 | of 7 released and 8 forfeited: the device (8), the sequence number (8) |
    /// | 12 | of 9 availability: the device (8), the day (4) |
    /// | n | of 10 payout requested: the account, the number (8) |
    /// | n | of 11 payout settled: the run (8), the account |
    /// | 1 | place in the entry |
    /// | 1 + n | debit: 1 member, 3 held and 7 payable with the account; 2 escrow with the job (8); 4 fees, 5 verification and 6 treasury with nothing |
    /// | 1 + n | credit, the same |
    /// | 8 | amount |
    /// | 1 | kind, in the order of [`TransferKind::ALL`], from 1 |
    /// | 8 | time, milliseconds since 1970 |
    pub fn to_canonical(&self) -> Vec<u8> {
        let writer = self.purpose.write(CanonicalWriter::new(Self::KIND)).u8(self.place);
        write_posting(writer, &self.posting).u64(self.at.0).finish()
    }

    /// The transfer of these bytes.
    ///
    /// # Errors
    /// If they are not the canonical form of a transfer.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let mut reader = CanonicalReader::new(Self::KIND, bytes)?;
        let transfer = Self {
            purpose: Purpose::read(&mut reader)?,
            place: reader.u8("place")?,
            posting: read_posting(&mut reader)?,
            at: reader.time("at")?,
        };
        reader.end()?;
        Ok(transfer)
    }
}

fn write_posting(writer: CanonicalWriter, posting: &Posting) -> CanonicalWriter {
    let writer = write_account(write_account(writer, &posting.debit), &posting.credit);
    writer.amount(posting.amount).u8(posting.kind.code())
}

fn read_posting(reader: &mut CanonicalReader<'_>) -> Result<Posting, CanonicalError> {
    Ok(Posting {
        debit: read_account(reader, "debit")?,
        credit: read_account(reader, "credit")?,
        amount: reader.amount("amount")?,
        kind: {
            let code = reader.u8("kind")?;
            let kind = TransferKind::ALL.into_iter().find(|kind| kind.code() == code);
            kind.ok_or(CanonicalError::Field { field: "kind" })?
        },
    })
}

fn write_account(writer: CanonicalWriter, account: &LedgerAccount) -> CanonicalWriter {
    match account {
        LedgerAccount::Member(name) => writer.u8(1).account(name),
        LedgerAccount::Escrow(job) => writer.u8(2).u64(job.0),
        LedgerAccount::Held(name) => writer.u8(3).account(name),
        LedgerAccount::Fees => writer.u8(4),
        LedgerAccount::Verification => writer.u8(5),
        LedgerAccount::Treasury => writer.u8(6),
        LedgerAccount::Payable(name) => writer.u8(7).account(name),
    }
}

fn read_account(reader: &mut CanonicalReader<'_>, field: &'static str) -> Result<LedgerAccount, CanonicalError> {
    match reader.u8(field)? {
        1 => reader.account(field).map(LedgerAccount::Member),
        2 => reader.u64(field).map(JobId).map(LedgerAccount::Escrow),
        3 => reader.account(field).map(LedgerAccount::Held),
        4 => Ok(LedgerAccount::Fees),
        5 => Ok(LedgerAccount::Verification),
        6 => Ok(LedgerAccount::Treasury),
        7 => reader.account(field).map(LedgerAccount::Payable),
        _ => Err(CanonicalError::Field { field }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_account() -> impl Strategy<Value = Account> {
        "[a-z0-9._-]{1,64}".prop_map(|name| Account::new(&name).unwrap())
    }

    fn any_ledger_account() -> impl Strategy<Value = LedgerAccount> {
        prop_oneof![
            any_account().prop_map(LedgerAccount::Member),
            any::<u64>().prop_map(JobId).prop_map(LedgerAccount::Escrow),
            any_account().prop_map(LedgerAccount::Held),
            Just(LedgerAccount::Fees),
            Just(LedgerAccount::Verification),
            Just(LedgerAccount::Treasury),
            any_account().prop_map(LedgerAccount::Payable),
        ]
    }

    /// From so few values that two of them are often the same.
    fn any_purpose() -> impl Strategy<Value = Purpose> {
        let key = || (0..2u8).prop_map(|byte| GrantKey([byte; 16]));
        let device = || (0..2u8).prop_map(|byte| DeviceId([byte; 8]));
        let job = || (0..2u64).prop_map(JobId);
        let task = || (job(), 0..2u32).prop_map(|(job, index)| TaskId { job, index: TaskIndex(index) });
        let account = || prop_oneof![Just("a"), Just("b"), Just("aa")].prop_map(|name| Account::new(name).unwrap());
        prop_oneof![
            key().prop_map(Purpose::Granted),
            key().prop_map(Purpose::PaymentRecorded),
            job().prop_map(Purpose::JobReserved),
            job().prop_map(Purpose::JobReturned),
            (task(), device()).prop_map(|(task, device)| Purpose::TaskAccepted(task, device)),
            (task(), device()).prop_map(|(task, device)| Purpose::TaskVoided(task, device)),
            (device(), 0..2u64).prop_map(|(device, through)| Purpose::HoldbackReleased(device, through)),
            (device(), 0..2u64).prop_map(|(device, through)| Purpose::DeviceForfeited(device, through)),
            (device(), 0..2u32).prop_map(|(device, day)| Purpose::AvailabilityPaid(device, day)),
            (account(), 0..2u64).prop_map(|(account, number)| Purpose::PayoutRequested(account, number)),
            (0..2u64, account()).prop_map(|(run, account)| Purpose::PayoutSettled(PayoutRun(run), account)),
        ]
    }

    fn any_transfer() -> impl Strategy<Value = Transfer> {
        let kind = prop::sample::select(&TransferKind::ALL[..]);
        let posting = (any_ledger_account(), any_ledger_account(), any::<i64>(), kind)
            .prop_map(|(debit, credit, amount, kind)| Posting { debit, credit, amount: MicroCredits(amount), kind });
        (any_purpose(), 0..3u8, posting, any::<u64>()).prop_map(|(purpose, place, posting, at)| Transfer {
            purpose,
            place,
            posting,
            at: Timestamp(at),
        })
    }

    #[test]
    fn kinds_are_numbered_in_their_order() {
        for (number, kind) in (1..).zip(TransferKind::ALL) {
            assert_eq!(kind.code(), number, "{}", kind.as_str());
        }
        let words: std::collections::BTreeSet<_> = TransferKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), TransferKind::ALL.len());
    }

    /// Stored rows are named by these: with another value what was paid would be paid again.
    #[test]
    fn ids_stay_as_they_are() {
        let task = TaskId { job: JobId(1), index: TaskIndex(2) };
        let id = Purpose::TaskAccepted(task, DeviceId([3; 8])).transfer_id(4);
        assert_eq!(id.to_string(), "tr_7153190ab0becc5b48b881ba8413a304");
    }

    proptest! {
        #[test]
        fn canonical_bytes_are_read_as_they_are_written(
            one in any_transfer(), other in any_transfer(), at: prop::sample::Index, bit in 0..8u8,
        ) {
            let bytes = one.to_canonical();
            prop_assert_eq!(Transfer::from_canonical(&bytes), Ok(one.clone()));
            prop_assert_eq!(one == other, bytes == other.to_canonical());
            prop_assert!(Transfer::from_canonical(&bytes[..bytes.len() - 1]).is_err());
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1 << bit;
            if let Ok(read) = Transfer::from_canonical(&changed) {
                prop_assert_ne!(&read, &one);
                prop_assert_eq!(read.to_canonical(), changed);
            }
        }

        #[test]
        fn entries_are_read_as_they_are_written(
            transfers in prop::collection::vec(any_transfer(), 1..=Entry::POSTINGS_MAX), at: prop::sample::Index,
        ) {
            let purpose = transfers[0].purpose.clone();
            let postings = transfers.iter().map(|transfer| transfer.posting.clone()).collect();
            let entry = Entry { purpose, at: transfers[0].at, postings };
            let bytes = entry.to_canonical();
            prop_assert_eq!(Entry::from_canonical(&bytes), Ok(entry.clone()));
            prop_assert!(Entry::from_canonical(&bytes[..bytes.len() - 1]).is_err());
            prop_assert!(Entry::from_canonical(&[&bytes[..], &[0]].concat()).is_err());
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1;
            if let Ok(read) = Entry::from_canonical(&changed) {
                prop_assert_ne!(&read, &entry);
                prop_assert_eq!(read.to_canonical(), changed);
            }
        }

        #[test]
        fn ids_are_those_of_purpose_and_place(one in any_transfer(), other in any_transfer()) {
            let same = one.purpose == other.purpose && one.place == other.place;
            prop_assert_eq!(same, one.id() == other.id());
        }
    }
}
