//! What the conversions of all messages share: fixed widths, limits, and the values that several messages hold.

use crate::{DecodeError, proto};
use caii_model::{
    AttemptFailure, AttemptFailureKind, Bytes, DeviceId, Digest, Energy, EnergyMethod, Fuel, JailLayers, JobId, Lease,
    LeaseId, Millijoules, Millis, PoolId, SignedClaim, SignedLease, TaskId, TaskIndex, TaskInput, TaskReport,
    Timestamp,
};

/// A field of exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Width { field, found: bytes.len(), expected: N })
}

pub(crate) fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, DecodeError> {
    fixed(field, bytes).map(Digest)
}

pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { field })
}

/// A text of at most `max` bytes.
pub(crate) fn text(field: &'static str, text: String, max: usize) -> Result<String, DecodeError> {
    at_most(field, text.len(), max)?;
    Ok(text)
}

pub(crate) fn at_most(field: &'static str, found: usize, max: usize) -> Result<(), DecodeError> {
    if found > max { Err(DecodeError::TooLong { field, found, max }) } else { Ok(()) }
}

/// A choice by its number; 0 stands for none made.
pub(crate) fn choice<T: TryFrom<i32>>(field: &'static str, number: i32) -> Result<T, DecodeError> {
    T::try_from(number).map_err(|_| DecodeError::Choice { field, found: number })
}

impl From<&SignedLease> for proto::SignedLease {
    fn from(signed: &SignedLease) -> Self {
        Self { lease: Some((&signed.lease).into()), signature: signed.signature.to_vec() }
    }
}

impl TryFrom<proto::SignedLease> for SignedLease {
    type Error = DecodeError;

    fn try_from(signed: proto::SignedLease) -> Result<Self, DecodeError> {
        Ok(Self {
            lease: required("SignedLease.lease", signed.lease)?.try_into()?,
            signature: fixed("SignedLease.signature", &signed.signature)?,
        })
    }
}

impl From<&Lease> for proto::Lease {
    fn from(lease: &Lease) -> Self {
        Self {
            id: lease.id.0.to_vec(),
            pool: lease.pool.0.to_vec(),
            job: lease.task.job.0,
            task: lease.task.index.0,
            device: lease.device.0.to_vec(),
            workload: lease.workload.0.to_vec(),
            input: lease.input.digest.0.to_vec(),
            offset: lease.input.offset,
            len: lease.input.len,
            records: lease.input.records,
            blob: lease.blob.0.to_vec(),
            issued_ms: lease.issued.0,
            expires_ms: lease.expires.0,
        }
    }
}

impl TryFrom<proto::Lease> for Lease {
    type Error = DecodeError;

    fn try_from(lease: proto::Lease) -> Result<Self, DecodeError> {
        Ok(Self {
            id: LeaseId(fixed("Lease.id", &lease.id)?),
            pool: PoolId(fixed("Lease.pool", &lease.pool)?),
            task: TaskId { job: JobId(lease.job), index: TaskIndex(lease.task) },
            device: DeviceId(fixed("Lease.device", &lease.device)?),
            workload: digest("Lease.workload", &lease.workload)?,
            input: TaskInput {
                digest: digest("Lease.input", &lease.input)?,
                offset: lease.offset,
                len: lease.len,
                records: lease.records,
            },
            blob: digest("Lease.blob", &lease.blob)?,
            issued: Timestamp(lease.issued_ms),
            expires: Timestamp(lease.expires_ms),
        })
    }
}

impl From<&TaskReport> for proto::TaskReport {
    fn from(report: &TaskReport) -> Self {
        Self {
            root: report.root.0.to_vec(),
            result: report.result.0.to_vec(),
            size: report.size.0,
            items: report.items,
            items_failed: report.items_failed,
            records_failed: report.records_failed,
            fuel: report.fuel.0,
            cpu_ms: report.cpu.0,
            wall_ms: report.wall.0,
            jail: report.jail.0,
        }
    }
}

impl TryFrom<proto::TaskReport> for TaskReport {
    type Error = DecodeError;

    fn try_from(report: proto::TaskReport) -> Result<Self, DecodeError> {
        Ok(Self {
            root: digest("TaskReport.root", &report.root)?,
            result: digest("TaskReport.result", &report.result)?,
            size: Bytes(report.size),
            items: report.items,
            items_failed: report.items_failed,
            records_failed: report.records_failed,
            fuel: Fuel(report.fuel),
            cpu: Millis(report.cpu_ms),
            wall: Millis(report.wall_ms),
            jail: JailLayers(report.jail),
        })
    }
}

impl From<&SignedClaim> for proto::SignedClaim {
    fn from(claim: &SignedClaim) -> Self {
        let method = match claim.energy.method {
            EnergyMethod::None => proto::EnergyMethod::None,
            EnergyMethod::Rapl => proto::EnergyMethod::Rapl,
            EnergyMethod::Emi => proto::EnergyMethod::Emi,
            EnergyMethod::Tdp => proto::EnergyMethod::Tdp,
            EnergyMethod::Model => proto::EnergyMethod::Model,
        };
        Self {
            sequence: claim.sequence,
            energy_mj: claim.energy.used.0,
            energy_method: method.into(),
            signature: claim.signature.to_vec(),
        }
    }
}

impl TryFrom<proto::SignedClaim> for SignedClaim {
    type Error = DecodeError;

    fn try_from(claim: proto::SignedClaim) -> Result<Self, DecodeError> {
        if claim.sequence == 0 {
            return Err(DecodeError::Missing { field: "SignedClaim.sequence" });
        }
        let method = match choice("SignedClaim.energy_method", claim.energy_method)? {
            proto::EnergyMethod::None => EnergyMethod::None,
            proto::EnergyMethod::Rapl => EnergyMethod::Rapl,
            proto::EnergyMethod::Emi => EnergyMethod::Emi,
            proto::EnergyMethod::Tdp => EnergyMethod::Tdp,
            proto::EnergyMethod::Model => EnergyMethod::Model,
        };
        Ok(Self {
            sequence: claim.sequence,
            energy: Energy { used: Millijoules(claim.energy_mj), method },
            signature: fixed("SignedClaim.signature", &claim.signature)?,
        })
    }
}

impl From<&AttemptFailure> for proto::AttemptFailure {
    fn from(failure: &AttemptFailure) -> Self {
        use proto::AttemptFailureKind as Kind;
        let kind = match failure.kind {
            AttemptFailureKind::DeviceLost => Kind::DeviceLost,
            AttemptFailureKind::DeviceForgot => Kind::DeviceForgot,
            AttemptFailureKind::GivenBack => Kind::GivenBack,
            AttemptFailureKind::LeaseExpired => Kind::LeaseExpired,
            AttemptFailureKind::RunnerDied => Kind::RunnerDied,
            AttemptFailureKind::ItemTooSlow => Kind::ItemTooSlow,
            AttemptFailureKind::PreparationFailed => Kind::PreparationFailed,
            AttemptFailureKind::BlobUnavailable => Kind::BlobUnavailable,
            AttemptFailureKind::DiskFull => Kind::DiskFull,
            AttemptFailureKind::MalformedResult => Kind::MalformedResult,
            AttemptFailureKind::Uncertified => Kind::Uncertified,
        };
        Self { kind: kind.into(), detail: failure.detail.clone() }
    }
}

impl proto::AttemptFailure {
    /// The failure, its detail at most `detail_max` bytes long.
    pub(crate) fn into_model(self, detail_max: usize) -> Result<AttemptFailure, DecodeError> {
        use proto::AttemptFailureKind as Kind;
        const FIELD: &str = "AttemptFailure.kind";
        let kind = match choice(FIELD, self.kind)? {
            Kind::Unspecified => return Err(DecodeError::Missing { field: FIELD }),
            Kind::DeviceLost => AttemptFailureKind::DeviceLost,
            Kind::DeviceForgot => AttemptFailureKind::DeviceForgot,
            Kind::GivenBack => AttemptFailureKind::GivenBack,
            Kind::LeaseExpired => AttemptFailureKind::LeaseExpired,
            Kind::RunnerDied => AttemptFailureKind::RunnerDied,
            Kind::ItemTooSlow => AttemptFailureKind::ItemTooSlow,
            Kind::PreparationFailed => AttemptFailureKind::PreparationFailed,
            Kind::BlobUnavailable => AttemptFailureKind::BlobUnavailable,
            Kind::DiskFull => AttemptFailureKind::DiskFull,
            Kind::MalformedResult => AttemptFailureKind::MalformedResult,
            Kind::Uncertified => AttemptFailureKind::Uncertified,
        };
        Ok(AttemptFailure { kind, detail: text("AttemptFailure.detail", self.detail, detail_max)? })
    }
}
