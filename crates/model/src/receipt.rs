//! The receipt of a task: what a device claims by its signature, and what the pool decided on it by its own.
//!
//! A receipt holds everything that its reward follows from, so that anybody can compute it again. Every claim gets one,
//! accepted or void: a device numbers its claims without a gap, so that a receipt that is left out is seen.

use crate::canonical::{CanonicalError, CanonicalReader, CanonicalWriter};
use crate::{
    Account, DeviceId, Digest, Energy, EnergyMethod, Fuel, JobId, Lease, MeterId, MicroCredits, Millijoules, Millis,
    Overflow, PoolId, Reward, Settlement, Tariff, TaskId, TaskIndex, TaskReport, Timestamp, TrackRecord,
    VerificationPolicy, WorkFacts, settle,
};
use std::fmt;

/// What a device says of a task that it did. It signs the digest of the canonical bytes for [`Claim::SIGNED_FOR`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// To which pool.
    pub pool: PoolId,
    /// Which device.
    pub device: DeviceId,
    /// Counts up with every claim of the device to this pool, from 1, without a gap.
    pub sequence: u64,
    /// The task.
    pub task: TaskId,
    /// What was run.
    pub workload: Digest,
    /// What counted its fuel.
    pub meter: MeterId,
    /// Digest of the task's input.
    pub input: Digest,
    /// The commitment to what came of its items.
    pub root: Digest,
    /// Items in the task.
    pub items: u32,
    /// Items without a result; at most `items`.
    pub items_failed: u32,
    /// Fuel of all items together.
    pub fuel: Fuel,
    /// CPU time of the runner.
    pub cpu: Millis,
    /// Time from start to end.
    pub wall: Millis,
    /// Energy.
    pub energy: Energy,
    /// [`JailLayers::digest`](crate::JailLayers::digest) of the layers that were in force.
    pub jail: Digest,
}

/// What a device says beside a result: the parts of the [`Claim`] that neither the lease nor the report has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedClaim {
    /// The claim's number.
    pub sequence: u64,
    /// What the task took.
    pub energy: Energy,
    /// The device's, over [`Claim::digest`] for [`Claim::SIGNED_FOR`].
    pub signature: [u8; 64],
}

impl SignedClaim {
    /// One that its device has yet to sign.
    pub fn unsigned(sequence: u64, energy: Energy) -> Self {
        Self { sequence, energy, signature: [0; 64] }
    }
}

/// A claim and what the pool decided on it. The pool signs the digest of the canonical bytes for
/// [`Receipt::SIGNED_FOR`]; the log's leaf is made of the same bytes after a salt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What the device said.
    pub claim: Claim,
    /// By its signature.
    pub claim_signature: [u8; 64],
    /// Whose device it was.
    pub owner: Account,
    /// How the job's results are verified.
    pub policy: VerificationPolicy,
    /// The tariff in force.
    pub tariff: Digest,
    /// When it was decided.
    pub at: Timestamp,
    /// What was decided.
    pub verdict: Verdict,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is paid.
    Accepted(Accepted),
    /// It is not.
    Void(VoidReason),
}

/// What an accepted claim earned, and the rest of what that follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The device's record before this task.
    pub record: TrackRecord,
    /// Whether the device was on probation.
    pub probation: bool,
    /// Of the claim's fuel, that of audited items of other tasks which came along; at most all of it.
    pub audit_fuel: Fuel,
    /// What the device's owner gets.
    pub reward: Reward,
    /// What the requester pays.
    pub charge: MicroCredits,
}

/// Why a claim is not paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VoidReason {
    /// Another device's result was accepted before.
    Late,
    /// The job had ended.
    JobEnded,
    /// The lease had run out or was not this device's.
    Lease,
    /// The result does not fit the task or the claim's own commitment.
    Malformed,
    /// The device counts with another meter than the workload's.
    Meter,
    /// An audit found a wrong result.
    Wrong,
    /// It disagrees with the quorum.
    Outvoted,
    /// The device was caught on other work, and this was not final yet.
    Distrusted,
    /// The build that the device runs diverges; nobody is accused.
    Quarantined,
    /// An audit differed, and nobody could decide who was right.
    Undecided,
}

impl VoidReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Late,
        Self::JobEnded,
        Self::Lease,
        Self::Malformed,
        Self::Meter,
        Self::Wrong,
        Self::Outvoted,
        Self::Distrusted,
        Self::Quarantined,
        Self::Undecided,
    ];

    /// Its number in canonical bytes, for ever.
    pub fn code(self) -> u8 {
        match self {
            Self::Late => 1,
            Self::JobEnded => 2,
            Self::Lease => 3,
            Self::Malformed => 4,
            Self::Meter => 5,
            Self::Wrong => 6,
            Self::Outvoted => 7,
            Self::Distrusted => 8,
            Self::Quarantined => 9,
            Self::Undecided => 10,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::JobEnded => "job-ended",
            Self::Lease => "lease",
            Self::Malformed => "malformed",
            Self::Meter => "meter",
            Self::Wrong => "wrong",
            Self::Outvoted => "outvoted",
            Self::Distrusted => "distrusted",
            Self::Quarantined => "quarantined",
            Self::Undecided => "undecided",
        }
    }
}

impl fmt::Display for VoidReason {
    /// To people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "another device's result was accepted before",
            Self::JobEnded => "the job had ended",
            Self::Lease => "the lease had run out or was not this device's",
            Self::Malformed => "the result did not fit the task or its own commitment",
            Self::Meter => "the device counts with another meter than the workload's",
            Self::Wrong => "an audit found a wrong result",
            Self::Outvoted => "the result disagreed with the quorum",
            Self::Distrusted => "the device was caught on other work before this was final",
            Self::Quarantined => "results of this build diverge; nobody is accused",
            Self::Undecided => "an audit differed, and nobody could decide who was right",
        })
    }
}

impl EnergyMethod {
    /// Its number in canonical bytes, for ever.
    fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Rapl => 1,
            Self::Emi => 2,
            Self::Tdp => 3,
            Self::Model => 4,
        }
    }
}

impl Claim {
    /// The purpose of the device's signature.
    pub const SIGNED_FOR: &str = "claim";

    const KIND: &[u8; 8] = b"caiiclm1";

    /// The claim to the result of a lease: what its device signs and whoever has lease, workload and report checks. The
    /// meter is that of the workload's manifest.
    pub fn of(lease: &Lease, meter: MeterId, report: &TaskReport, sequence: u64, energy: Energy) -> Self {
        Self {
            pool: lease.pool,
            device: lease.device,
            sequence,
            task: lease.task,
            workload: lease.workload,
            meter,
            input: lease.input.digest,
            root: report.root,
            items: report.items,
            items_failed: report.items_failed,
            fuel: report.fuel,
            cpu: report.cpu,
            wall: report.wall,
            energy,
            jail: report.jail.digest(),
        }
    }

    /// What the device signs.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_canonical())
    }

    /// Its canonical bytes, 245 of them:
    ///
    /// | offset | bytes | field |
    /// |---|---|---|
    /// | 0 | 8 | `caiiclm1` |
    /// | 8 | 8 | pool |
    /// | 16 | 8 | device |
    /// | 24 | 8 | sequence |
    /// | 32 | 8 | job |
    /// | 40 | 4 | task's index |
    /// | 44 | 32 | workload |
    /// | 76 | 32 | meter |
    /// | 108 | 32 | input |
    /// | 140 | 32 | root |
    /// | 172 | 4 | items |
    /// | 176 | 4 | items failed |
    /// | 180 | 8 | fuel |
    /// | 188 | 8 | CPU, milliseconds |
    /// | 196 | 8 | wall, milliseconds |
    /// | 204 | 8 | energy, millijoules |
    /// | 212 | 1 | its method: 0 none, 1 rapl, 2 emi, 3 tdp, 4 model |
    /// | 213 | 32 | jail |
    pub fn to_canonical(&self) -> Vec<u8> {
        CanonicalWriter::new(Self::KIND)
            .fixed(&self.pool.0)
            .fixed(&self.device.0)
            .u64(self.sequence)
            .u64(self.task.job.0)
            .u32(self.task.index.0)
            .digest(&self.workload)
            .digest(&self.meter.0)
            .digest(&self.input)
            .digest(&self.root)
            .u32(self.items)
            .u32(self.items_failed)
            .u64(self.fuel.0)
            .u64(self.cpu.0)
            .u64(self.wall.0)
            .u64(self.energy.used.0)
            .u8(self.energy.method.code())
            .digest(&self.jail)
            .finish()
    }

    /// The claim of these bytes.
    ///
    /// # Errors
    /// If they are not the canonical form of a claim.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let mut reader = CanonicalReader::new(Self::KIND, bytes)?;
        let claim = Self {
            pool: reader.fixed("pool").map(PoolId)?,
            device: reader.fixed("device").map(DeviceId)?,
            sequence: reader.u64("sequence")?,
            task: TaskId { job: reader.u64("job").map(JobId)?, index: reader.u32("index").map(TaskIndex)? },
            workload: reader.digest("workload")?,
            meter: reader.digest("meter").map(MeterId)?,
            input: reader.digest("input")?,
            root: reader.digest("root")?,
            items: reader.u32("items")?,
            items_failed: reader.u32("items_failed")?,
            fuel: reader.fuel("fuel")?,
            cpu: reader.millis("cpu")?,
            wall: reader.millis("wall")?,
            energy: Energy {
                used: reader.u64("energy").map(Millijoules)?,
                method: {
                    let code = reader.u8("energy_method")?;
                    let method = EnergyMethod::ALL.into_iter().find(|method| method.code() == code);
                    method.ok_or(CanonicalError::Field { field: "energy_method" })?
                },
            },
            jail: reader.digest("jail")?,
        };
        reader.end()?;
        if claim.items_failed > claim.items {
            return Err(CanonicalError::Field { field: "items_failed" });
        }
        Ok(claim)
    }
}

/// Bytes of a claim.
const CLAIM_LEN: usize = 245;

impl Receipt {
    /// The purpose of the pool's signature.
    pub const SIGNED_FOR: &str = "receipt";

    const KIND: &[u8; 8] = b"caiircp1";

    /// What the pool signs.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_canonical())
    }

    /// What the log's leaf is made of: SHA-256 of the salt and the canonical bytes. Without the salt nobody can test a
    /// guess against the leaf, so deleting salt and receipt erases both from the log that goes on standing.
    pub fn commitment(&self, salt: &[u8; 32]) -> Digest {
        Digest::of(&[&salt[..], &self.to_canonical()].concat())
    }

    /// Its canonical bytes:
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 8 | `caiircp1` |
    /// | 245 | the claim's canonical bytes |
    /// | 64 | the device's signature |
    /// | 2 + n | length of the owner's name, and the name |
    /// | 1 | policy: 1 audit, 2 quorum, 3 spot |
    /// | 4 | copies; 0 unless a quorum |
    /// | 32 | tariff |
    /// | 8 | time, milliseconds since 1970 |
    /// | 1 | verdict: 1 accepted, 2 void |
    ///
    /// of an accepted claim then
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 8 | tasks of the device accepted before |
    /// | 8 | tasks of the device decided before |
    /// | 1 | probation: 0 or 1 |
    /// | 8 | fuel of audits |
    /// | 8 | reward for compute |
    /// | 8 | reward for reliability |
    /// | 8 | reward for energy (the whole reward is the sum of the three) |
    /// | 8 | held back |
    /// | 8 | charge |
    ///
    /// and of a void one
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 1 | reason: 1 late, 2 job-ended, 3 lease, 4 malformed, 5 meter, 6 wrong, 7 outvoted, 8 distrusted, 9 quarantined, 10 undecided |
    pub fn to_canonical(&self) -> Vec<u8> {
        let (policy, copies) = match self.policy {
            VerificationPolicy::Audit => (1, 0),
            VerificationPolicy::Quorum { copies } => (2, copies),
            VerificationPolicy::Spot => (3, 0),
        };
        let writer = CanonicalWriter::new(Self::KIND)
            .fixed(&self.claim.to_canonical())
            .fixed(&self.claim_signature)
            .account(&self.owner)
            .u8(policy)
            .u32(copies)
            .digest(&self.tariff)
            .u64(self.at.0);
        match &self.verdict {
            Verdict::Accepted(accepted) => writer
                .u8(1)
                .u64(accepted.record.accepted())
                .u64(accepted.record.decided())
                .u8(u8::from(accepted.probation))
                .u64(accepted.audit_fuel.0)
                .amount(accepted.reward.compute)
                .amount(accepted.reward.reliability)
                .amount(accepted.reward.energy)
                .amount(accepted.reward.held)
                .amount(accepted.charge)
                .finish(),
            Verdict::Void(reason) => writer.u8(2).u8(reason.code()).finish(),
        }
    }

    /// The receipt of these bytes. Whether the signature holds and the amounts are right is not looked at.
    ///
    /// # Errors
    /// If they are not the canonical form of a receipt.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let mut reader = CanonicalReader::new(Self::KIND, bytes)?;
        let claim = Claim::from_canonical(&reader.fixed::<CLAIM_LEN>("claim")?)?;
        let claim_signature = reader.fixed("claim_signature")?;
        let owner = reader.account("owner")?;
        let policy = match (reader.u8("policy")?, reader.u32("copies")?) {
            (1, 0) => VerificationPolicy::Audit,
            (2, copies @ 2..) => VerificationPolicy::Quorum { copies },
            (3, 0) => VerificationPolicy::Spot,
            _ => return Err(CanonicalError::Field { field: "policy" }),
        };
        let tariff = reader.digest("tariff")?;
        let at = reader.time("at")?;
        let verdict = match reader.u8("verdict")? {
            1 => Verdict::Accepted(Accepted::read(&mut reader, &claim)?),
            2 => {
                let code = reader.u8("reason")?;
                let reason = VoidReason::ALL.into_iter().find(|reason| reason.code() == code);
                Verdict::Void(reason.ok_or(CanonicalError::Field { field: "reason" })?)
            }
            _ => return Err(CanonicalError::Field { field: "verdict" }),
        };
        reader.end()?;
        Ok(Self { claim, claim_signature, owner, policy, tariff, at, verdict })
    }

    /// The facts that its reward follows from; nothing if it is void.
    pub fn work_facts(&self) -> Option<WorkFacts> {
        let Verdict::Accepted(accepted) = &self.verdict else { return None };
        Some(WorkFacts {
            fuel: Fuel(self.claim.fuel.0.checked_sub(accepted.audit_fuel.0)?),
            audit_fuel: accepted.audit_fuel,
            record: accepted.record,
            energy: self.claim.energy,
            probation: accepted.probation,
        })
    }

    /// What its amounts should be by this tariff; nothing if it is void.
    ///
    /// # Errors
    /// If a step's result does not fit.
    pub fn recompute(&self, tariff: &Tariff) -> Result<Option<Settlement>, Overflow> {
        self.work_facts().map(|facts| settle(tariff, &facts, self.policy)).transpose()
    }
}

impl Accepted {
    fn read(reader: &mut CanonicalReader<'_>, claim: &Claim) -> Result<Self, CanonicalError> {
        let (accepted, decided) = (reader.u64("accepted")?, reader.u64("decided")?);
        let record = TrackRecord::new(accepted, decided).ok_or(CanonicalError::Field { field: "accepted" })?;
        let probation = reader.flag("probation")?;
        let audit_fuel = reader.fuel("audit_fuel")?;
        if audit_fuel > claim.fuel {
            return Err(CanonicalError::Field { field: "audit_fuel" });
        }
        let mut amount = |field| match reader.amount(field)? {
            amount if amount >= MicroCredits::ZERO => Ok(amount),
            _ => Err(CanonicalError::Field { field }),
        };
        let (compute, reliability, energy) = (amount("compute")?, amount("reliability")?, amount("energy")?);
        let (held, charge) = (amount("held")?, amount("charge")?);
        let total = MicroCredits::checked_sum([compute, reliability, energy]);
        let total = total.ok_or(CanonicalError::Field { field: "energy" })?;
        if held > total {
            return Err(CanonicalError::Field { field: "held" });
        }
        let reward = Reward { compute, reliability, energy, total, held };
        Ok(Self { record, probation, audit_fuel, reward, charge })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, JailLayers, LeaseId, TaskInput};

    #[test]
    fn a_claim_names_what_was_leased_and_what_came_of_it() {
        let digest = |byte| Digest([byte; 32]);
        let lease = Lease {
            id: LeaseId([1; 8]),
            pool: PoolId([2; 8]),
            task: TaskId { job: JobId(3), index: TaskIndex(4) },
            device: DeviceId([5; 8]),
            workload: digest(6),
            input: TaskInput { digest: digest(7), offset: 8, len: 9, records: 10 },
            blob: digest(11),
            issued: Timestamp(12),
            expires: Timestamp(13),
        };
        let report = TaskReport {
            root: digest(14),
            result: digest(15),
            size: Bytes(16),
            items: 17,
            items_failed: 3,
            records_failed: 4,
            fuel: Fuel(18),
            cpu: Millis(19),
            wall: Millis(20),
            jail: JailLayers(21),
        };
        let energy = Energy { used: Millijoules(22), method: EnergyMethod::Tdp };
        let claim = Claim::of(&lease, MeterId(digest(23)), &report, 24, energy);
        let expected = Claim {
            pool: PoolId([2; 8]),
            device: DeviceId([5; 8]),
            sequence: 24,
            task: lease.task,
            workload: digest(6),
            meter: MeterId(digest(23)),
            input: digest(7),
            root: digest(14),
            items: 17,
            items_failed: 3,
            fuel: Fuel(18),
            cpu: Millis(19),
            wall: Millis(20),
            energy,
            jail: JailLayers(21).digest(),
        };
        assert_eq!(claim, expected);
        assert_eq!(Claim::from_canonical(&claim.to_canonical()), Ok(claim));
    }
}
