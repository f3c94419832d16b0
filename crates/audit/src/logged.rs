//! What a pool logs: a kind of entry for each thing that somebody's credits or trust depend on, with one form in bytes.
//!
//! Layouts are in `docs/publication.md`, field by field; fields are of fixed width, little endian, lists and names after
//! their length.

use caii_ledger::{CreditLimit, Entry, PayoutRun};
use caii_model::canonical::{CanonicalError, CanonicalReader, CanonicalWriter};
use caii_model::{Account, DeviceId, Digest, JobId, MicroCredits, Receipt, Tariff, Timestamp, VoidReason};
use caii_payout::{Currency, MinorUnits, Rate};
use std::fmt;
use std::num::NonZeroU64;

/// Bytes of the longest entry: a payout run of ten thousand payments.
pub const ENTRY_SIZE_MAX: usize = 1 << 20;

/// One entry of a pool's log, as its opening shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logged {
    /// The pool's log begins.
    PoolOpened(PoolOpened),
    /// A tariff was published; it holds from its own date.
    TariffEnacted {
        /// Which.
        tariff: Tariff,
        /// When.
        at: Timestamp,
    },
    /// A device joined.
    DeviceEnrolled {
        /// Its public key, from which its id follows.
        key: [u8; 32],
        /// Whose it is.
        owner: Account,
        /// When.
        at: Timestamp,
    },
    /// Stewards certified a workload. The envelope that they signed is published beside the entry.
    WorkloadCertified {
        /// Which.
        workload: Digest,
        /// By which charter.
        charter: Digest,
        /// Digest of the envelope's bytes.
        envelope: Digest,
        /// When.
        at: Timestamp,
    },
    /// A claim was decided.
    Receipt(Box<Receipt>),
    /// Credits moved.
    Entry(Entry),
    /// Draws depend on this secret from now on.
    SecretCommitted {
        /// Counts secrets, from 1.
        period: u64,
        /// What the secret must match.
        commitment: Digest,
        /// When.
        at: Timestamp,
    },
    /// Nothing is drawn by this secret any more.
    SecretRevealed {
        /// Which.
        period: u64,
        /// It.
        secret: [u8; 32],
        /// When.
        at: Timestamp,
    },
    /// Items of an accepted claim were drawn.
    AuditDrawn(AuditDrawn),
    /// At the end of a job more items of a device were drawn.
    AuditDrawnMore(AuditDrawnMore),
    /// Drawn items were run again.
    AuditOutcome(AuditOutcome),
    /// A device is trusted no more.
    DeviceConvicted(DeviceConvicted),
    /// Payables were sent to the bank.
    PayoutSent(PayoutSent),
    /// An accepted claim that was not paid yet does not count any more. No credits move.
    ClaimVoided {
        /// Which.
        claim: ClaimRef,
        /// Why.
        reason: VoidReason,
        /// When.
        at: Timestamp,
    },
}

/// What a pool is, as the first entry of its log says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOpened {
    /// The pool's public key, from which its id follows.
    pub key: [u8; 32],
    /// The charter under which workloads are certified; nothing if the pool runs what its operator adds.
    pub charter: Option<Digest>,
    /// How far members may go below zero by reserving for jobs.
    pub credit_limit: CreditLimit,
    /// When.
    pub at: Timestamp,
}

/// Names a claim: they are numbered by their device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimRef {
    /// Whose.
    pub device: DeviceId,
    /// Which.
    pub sequence: u64,
}

impl fmt::Display for ClaimRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claim {} of {}", self.sequence, self.device)
    }
}

/// Items drawn when a claim was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDrawn {
    /// Of which claim.
    pub claim: ClaimRef,
    /// By which secret.
    pub period: u64,
    /// How thoroughly the job is audited; 0 for spot checks.
    pub depth: u32,
    /// How many items of this device and workload had been drawn before.
    pub drawn_before: u64,
    /// Which items, ascending.
    pub items: Vec<u32>,
    /// When.
    pub at: Timestamp,
}

/// Items drawn so that a job can end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDrawnMore {
    /// Which job.
    pub job: JobId,
    /// Whose claims.
    pub device: DeviceId,
    /// By which secret.
    pub period: u64,
    /// How many items of this device and workload had been drawn before.
    pub drawn_before: u64,
    /// The claims that are not final, by task.
    pub open: Vec<u64>,
    /// Which items, each with its claim, in the order of tasks and items.
    pub items: Vec<(u64, u32)>,
    /// When.
    pub at: Timestamp,
}

/// What came of an item that was run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// It agreed.
    Agreed,
    /// The claim is wrong: an executor of the pool's own found so.
    ClaimWrong,
    /// Nobody could run it: it counts as if it had not been drawn.
    Waived,
    /// The claim is right and the auditor was wrong.
    AuditorWrong,
    /// Neither is right.
    BothWrong,
}

impl Finding {
    /// All of them, in the order of their numbers, which count from 1.
    pub const ALL: [Self; 5] = [Self::Agreed, Self::ClaimWrong, Self::Waived, Self::AuditorWrong, Self::BothWrong];

    fn code(self) -> u8 {
        match self {
            Self::Agreed => 1,
            Self::ClaimWrong => 2,
            Self::Waived => 3,
            Self::AuditorWrong => 4,
            Self::BothWrong => 5,
        }
    }
}

/// One item's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedItem {
    /// The audited device's claim.
    pub sequence: u64,
    /// The item's place in the task.
    pub item: u32,
    /// What was found.
    pub finding: Finding,
}

/// What an audit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOutcome {
    /// Whose claims were audited.
    pub of: DeviceId,
    /// By which claim; nothing if the pool did it itself.
    pub auditor: Option<ClaimRef>,
    /// What was found, item by item.
    pub items: Vec<AuditedItem>,
    /// When.
    pub at: Timestamp,
}

/// A device was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConvicted {
    /// Which.
    pub device: DeviceId,
    /// The claim with the item that shows it.
    pub evidence: ClaimRef,
    /// The item.
    pub item: u32,
    /// Whether it lied as the auditor of that item.
    pub as_auditor: bool,
    /// When.
    pub at: Timestamp,
}

/// A file of payments went to the bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutSent {
    /// Which run.
    pub run: PayoutRun,
    /// In which currency.
    pub currency: Currency,
    /// At which rate.
    pub rate: Rate,
    /// Digest of the ISO 20022 file.
    pub pain001: Digest,
    /// Digest of the CSV.
    pub csv: Digest,
    /// To whom how much, in the file's order.
    pub payments: Vec<(Account, MinorUnits)>,
    /// When.
    pub at: Timestamp,
}

impl PayoutSent {
    /// All payments together, if that can be counted.
    pub fn total(&self) -> Option<MinorUnits> {
        self.payments.iter().try_fold(0u64, |sum, (_, amount)| sum.checked_add(amount.0)).map(MinorUnits)
    }
}

/// What an entry is, without its content: what is left of it when its opening was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// [`Logged::PoolOpened`].
    PoolOpened,
    /// [`Logged::TariffEnacted`].
    TariffEnacted,
    /// [`Logged::DeviceEnrolled`].
    DeviceEnrolled,
    /// [`Logged::WorkloadCertified`].
    WorkloadCertified,
    /// [`Logged::Receipt`].
    Receipt,
    /// [`Logged::Entry`].
    Entry,
    /// [`Logged::SecretCommitted`].
    SecretCommitted,
    /// [`Logged::SecretRevealed`].
    SecretRevealed,
    /// [`Logged::AuditDrawn`].
    AuditDrawn,
    /// [`Logged::AuditDrawnMore`].
    AuditDrawnMore,
    /// [`Logged::AuditOutcome`].
    AuditOutcome,
    /// [`Logged::DeviceConvicted`].
    DeviceConvicted,
    /// [`Logged::PayoutSent`].
    PayoutSent,
    /// [`Logged::ClaimVoided`].
    ClaimVoided,
}

impl Kind {
    /// All of them, in the order of their numbers, which count from 1.
    pub const ALL: [Self; 14] = [
        Self::PoolOpened,
        Self::TariffEnacted,
        Self::DeviceEnrolled,
        Self::WorkloadCertified,
        Self::Receipt,
        Self::Entry,
        Self::SecretCommitted,
        Self::SecretRevealed,
        Self::AuditDrawn,
        Self::AuditDrawnMore,
        Self::AuditOutcome,
        Self::DeviceConvicted,
        Self::PayoutSent,
        Self::ClaimVoided,
    ];

    /// Its number in opening files, for ever.
    pub fn code(self) -> u8 {
        // Declared in the order of `ALL`, to which a test holds it.
        self as u8 + 1
    }

    /// The eight bytes that its entries begin with.
    pub fn tag(self) -> &'static [u8; 8] {
        match self {
            Self::PoolOpened => b"caiiopn1",
            Self::TariffEnacted => b"caiitae1",
            Self::DeviceEnrolled => b"caiidev1",
            Self::WorkloadCertified => b"caiicrt1",
            Self::Receipt => b"caiircp1",
            Self::Entry => b"caiient1",
            Self::SecretCommitted => b"caiisec1",
            Self::SecretRevealed => b"caiisrv1",
            Self::AuditDrawn => b"caiidrw1",
            Self::AuditDrawnMore => b"caiidrm1",
            Self::AuditOutcome => b"caiiout1",
            Self::DeviceConvicted => b"caiicnv1",
            Self::PayoutSent => b"caiipay1",
            Self::ClaimVoided => b"caiivoi1",
        }
    }

    /// The kind of an entry that begins so.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let tag = bytes.first_chunk::<8>()?;
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PoolOpened => "pool-opened",
            Self::TariffEnacted => "tariff-enacted",
            Self::DeviceEnrolled => "device-enrolled",
            Self::WorkloadCertified => "workload-certified",
            Self::Receipt => "receipt",
            Self::Entry => "ledger-entry",
            Self::SecretCommitted => "secret-committed",
            Self::SecretRevealed => "secret-revealed",
            Self::AuditDrawn => "audit-drawn",
            Self::AuditDrawnMore => "audit-drawn-more",
            Self::AuditOutcome => "audit-outcome",
            Self::DeviceConvicted => "device-convicted",
            Self::PayoutSent => "payout-sent",
            Self::ClaimVoided => "claim-voided",
        }
    }
}

impl Logged {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::PoolOpened(_) => Kind::PoolOpened,
            Self::TariffEnacted { .. } => Kind::TariffEnacted,
            Self::DeviceEnrolled { .. } => Kind::DeviceEnrolled,
            Self::WorkloadCertified { .. } => Kind::WorkloadCertified,
            Self::Receipt(_) => Kind::Receipt,
            Self::Entry(_) => Kind::Entry,
            Self::SecretCommitted { .. } => Kind::SecretCommitted,
            Self::SecretRevealed { .. } => Kind::SecretRevealed,
            Self::AuditDrawn(_) => Kind::AuditDrawn,
            Self::AuditDrawnMore(_) => Kind::AuditDrawnMore,
            Self::AuditOutcome(_) => Kind::AuditOutcome,
            Self::DeviceConvicted(_) => Kind::DeviceConvicted,
            Self::PayoutSent(_) => Kind::PayoutSent,
            Self::ClaimVoided { .. } => Kind::ClaimVoided,
        }
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::PoolOpened(PoolOpened { at, .. })
            | Self::TariffEnacted { at, .. }
            | Self::DeviceEnrolled { at, .. }
            | Self::WorkloadCertified { at, .. }
            | Self::SecretCommitted { at, .. }
            | Self::SecretRevealed { at, .. }
            | Self::AuditDrawn(AuditDrawn { at, .. })
            | Self::AuditDrawnMore(AuditDrawnMore { at, .. })
            | Self::AuditOutcome(AuditOutcome { at, .. })
            | Self::DeviceConvicted(DeviceConvicted { at, .. })
            | Self::PayoutSent(PayoutSent { at, .. })
            | Self::ClaimVoided { at, .. } => *at,
            Self::Receipt(receipt) => receipt.at,
            Self::Entry(entry) => entry.at,
        }
    }

    /// Its canonical bytes: what the log's entry commits to, after the salt.
    pub fn to_canonical(&self) -> Vec<u8> {
        let writer = CanonicalWriter::new(self.kind().tag());
        match self {
            Self::Receipt(receipt) => receipt.to_canonical(),
            Self::Entry(entry) => entry.to_canonical(),
            Self::PoolOpened(PoolOpened { key, charter, credit_limit, at }) => {
                let limit = match credit_limit {
                    CreditLimit::Below(limit) => *limit,
                    CreditLimit::Unlimited => MicroCredits(-1),
                };
                let charter = charter.unwrap_or(NO_CHARTER);
                writer.fixed(key).digest(&charter).amount(limit).u64(at.0).finish()
            }
            Self::TariffEnacted { tariff, at } => writer.fixed(&tariff.to_canonical()).u64(at.0).finish(),
            Self::DeviceEnrolled { key, owner, at } => writer.fixed(key).account(owner).u64(at.0).finish(),
            Self::WorkloadCertified { workload, charter, envelope, at } => {
                writer.digest(workload).digest(charter).digest(envelope).u64(at.0).finish()
            }
            Self::SecretCommitted { period, commitment, at } => {
                writer.u64(*period).digest(commitment).u64(at.0).finish()
            }
            Self::SecretRevealed { period, secret, at } => writer.u64(*period).fixed(secret).u64(at.0).finish(),
            Self::AuditDrawn(drawn) => {
                let AuditDrawn { claim, period, depth, drawn_before, items, at } = drawn;
                let writer = writer.fixed(&claim.device.0).u64(claim.sequence).u64(*period).u32(*depth);
                let writer = writer.u64(*drawn_before).u64(at.0);
                items.iter().fold(writer.u32(items.len() as u32), |writer, item| writer.u32(*item)).finish()
            }
            Self::AuditDrawnMore(AuditDrawnMore { job, device, period, drawn_before, open, items, at }) => {
                let writer = writer.u64(job.0).fixed(&device.0).u64(*period).u64(*drawn_before).u64(at.0);
                let writer = open.iter().fold(writer.u32(open.len() as u32), |writer, claim| writer.u64(*claim));
                let writer = writer.u32(items.len() as u32);
                items.iter().fold(writer, |writer, (claim, item)| writer.u64(*claim).u32(*item)).finish()
            }
            Self::AuditOutcome(AuditOutcome { of, auditor, items, at }) => {
                // Claims are numbered from 1.
                let auditor = auditor.unwrap_or(ClaimRef { device: DeviceId([0; 8]), sequence: 0 });
                let writer = writer.fixed(&of.0).fixed(&auditor.device.0).u64(auditor.sequence).u64(at.0);
                let writer = writer.u32(items.len() as u32);
                let write = |writer: CanonicalWriter, item: &AuditedItem| {
                    writer.u64(item.sequence).u32(item.item).u8(item.finding.code())
                };
                items.iter().fold(writer, write).finish()
            }
            Self::DeviceConvicted(DeviceConvicted { device, evidence, item, as_auditor, at }) => {
                let writer = writer.fixed(&device.0).fixed(&evidence.device.0).u64(evidence.sequence);
                writer.u32(*item).u8(u8::from(*as_auditor)).u64(at.0).finish()
            }
            Self::PayoutSent(PayoutSent { run, currency, rate, pain001, csv, payments, at }) => {
                let writer = writer.u64(run.0).fixed(currency.code().as_bytes()).u64(rate.0.get());
                let writer = writer.digest(pain001).digest(csv).u64(at.0).u32(payments.len() as u32);
                payments.iter().fold(writer, |writer, (account, amount)| writer.account(account).u64(amount.0)).finish()
            }
            Self::ClaimVoided { claim, reason, at } => {
                writer.fixed(&claim.device.0).u64(claim.sequence).u8(reason.code()).u64(at.0).finish()
            }
        }
    }

    /// The entry of these bytes. Whether what it says is so is the audit's business.
    ///
    /// # Errors
    /// If they are not the canonical form of any kind.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let kind = Kind::of(bytes).filter(|_| bytes.len() <= ENTRY_SIZE_MAX).ok_or(CanonicalError::Kind)?;
        match kind {
            Kind::Receipt => return Receipt::from_canonical(bytes).map(|receipt| Self::Receipt(Box::new(receipt))),
            Kind::Entry => return Entry::from_canonical(bytes).map(Self::Entry),
            _ => {}
        }
        let mut reader = CanonicalReader::new(kind.tag(), bytes)?;
        let logged = Self::read(kind, &mut reader)?;
        reader.end()?;
        Ok(logged)
    }

    fn read(kind: Kind, reader: &mut CanonicalReader<'_>) -> Result<Self, CanonicalError> {
        let device = |reader: &mut CanonicalReader<'_>, field| reader.fixed(field).map(DeviceId);
        Ok(match kind {
            Kind::Receipt | Kind::Entry => return Err(CanonicalError::Kind),
            Kind::PoolOpened => Self::PoolOpened(PoolOpened {
                key: reader.fixed("key")?,
                charter: Some(reader.digest("charter")?).filter(|charter| *charter != NO_CHARTER),
                credit_limit: match reader.amount("credit_limit")? {
                    MicroCredits(-1) => CreditLimit::Unlimited,
                    limit if limit >= MicroCredits::ZERO => CreditLimit::Below(limit),
                    _ => return Err(CanonicalError::Field { field: "credit_limit" }),
                },
                at: reader.time("at")?,
            }),
            Kind::TariffEnacted => Self::TariffEnacted {
                tariff: Tariff::from_canonical(&reader.fixed::<80>("tariff")?)?,
                at: reader.time("at")?,
            },
            Kind::DeviceEnrolled => Self::DeviceEnrolled {
                key: reader.fixed("key")?,
                owner: reader.account("owner")?,
                at: reader.time("at")?,
            },
            Kind::WorkloadCertified => Self::WorkloadCertified {
                workload: reader.digest("workload")?,
                charter: reader.digest("charter")?,
                envelope: reader.digest("envelope")?,
                at: reader.time("at")?,
            },
            Kind::SecretCommitted => Self::SecretCommitted {
                period: reader.u64("period")?,
                commitment: reader.digest("commitment")?,
                at: reader.time("at")?,
            },
            Kind::SecretRevealed => Self::SecretRevealed {
                period: reader.u64("period")?,
                secret: reader.fixed("secret")?,
                at: reader.time("at")?,
            },
            Kind::AuditDrawn => Self::AuditDrawn(AuditDrawn {
                claim: ClaimRef { device: device(reader, "device")?, sequence: reader.u64("sequence")? },
                period: reader.u64("period")?,
                depth: reader.u32("depth")?,
                drawn_before: reader.u64("drawn_before")?,
                at: reader.time("at")?,
                items: list(reader, "items", |reader| reader.u32("items"))?,
            }),
            Kind::AuditDrawnMore => Self::AuditDrawnMore(AuditDrawnMore {
                job: reader.u64("job").map(JobId)?,
                device: device(reader, "device")?,
                period: reader.u64("period")?,
                drawn_before: reader.u64("drawn_before")?,
                at: reader.time("at")?,
                open: list(reader, "open", |reader| reader.u64("open"))?,
                items: list(reader, "items", |reader| Ok((reader.u64("items")?, reader.u32("items")?)))?,
            }),
            Kind::AuditOutcome => Self::AuditOutcome(AuditOutcome {
                of: device(reader, "of")?,
                auditor: match (device(reader, "auditor")?, reader.u64("auditor")?) {
                    (DeviceId([0, 0, 0, 0, 0, 0, 0, 0]), 0) => None,
                    (_, 0) => return Err(CanonicalError::Field { field: "auditor" }),
                    (device, sequence) => Some(ClaimRef { device, sequence }),
                },
                at: reader.time("at")?,
                items: list(reader, "items", |reader| {
                    let (sequence, item, code) = (reader.u64("items")?, reader.u32("items")?, reader.u8("finding")?);
                    let finding = Finding::ALL.into_iter().find(|finding| finding.code() == code);
                    let finding = finding.ok_or(CanonicalError::Field { field: "finding" })?;
                    Ok(AuditedItem { sequence, item, finding })
                })?,
            }),
            Kind::DeviceConvicted => Self::DeviceConvicted(DeviceConvicted {
                device: device(reader, "device")?,
                evidence: ClaimRef { device: device(reader, "evidence")?, sequence: reader.u64("evidence")? },
                item: reader.u32("item")?,
                as_auditor: reader.flag("as_auditor")?,
                at: reader.time("at")?,
            }),
            Kind::PayoutSent => Self::PayoutSent(PayoutSent {
                run: reader.u64("run").map(PayoutRun)?,
                currency: {
                    let code: [u8; 3] = reader.fixed("currency")?;
                    let currency = std::str::from_utf8(&code).ok().and_then(|code| code.parse().ok());
                    currency.ok_or(CanonicalError::Field { field: "currency" })?
                },
                rate: {
                    let rate = NonZeroU64::new(reader.u64("rate")?);
                    Rate(rate.ok_or(CanonicalError::Field { field: "rate" })?)
                },
                pain001: reader.digest("pain001")?,
                csv: reader.digest("csv")?,
                at: reader.time("at")?,
                payments: list(reader, "payments", |reader| {
                    Ok((reader.account("payments")?, reader.u64("payments").map(MinorUnits)?))
                })?,
            }),
            Kind::ClaimVoided => Self::ClaimVoided {
                claim: ClaimRef { device: device(reader, "device")?, sequence: reader.u64("sequence")? },
                reason: {
                    let code = reader.u8("reason")?;
                    let reason = VoidReason::ALL.into_iter().find(|reason| reason.code() == code);
                    reason.ok_or(CanonicalError::Field { field: "reason" })?
                },
                at: reader.time("at")?,
            },
        })
    }
}

/// In place of a charter's id where there is none.
const NO_CHARTER: Digest = Digest([0; 32]);

/// Four bytes with how many, then so many. Reading ends with the bytes, whatever the number says.
fn list<T>(
    reader: &mut CanonicalReader<'_>,
    field: &'static str,
    mut read: impl FnMut(&mut CanonicalReader<'_>) -> Result<T, CanonicalError>,
) -> Result<Vec<T>, CanonicalError> {
    let count = reader.u32(field)?;
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(read(reader)?);
    }
    Ok(found)
}
