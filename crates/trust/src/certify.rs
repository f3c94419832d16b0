//! The gate: whether this device may run this workload now, decided from what stewards signed and nothing else.
//!
//! It counts different keys, not signatures: each that the charter gives the mandate for this device's region, that
//! nobody revoked, and whose holder signed a certification of exactly this workload that holds now and stays within
//! what the contributor allows. Everything that did not count is named with its reason.

use crate::charter::{Charter, Steward};
use crate::dsse::Envelope;
use crate::keys::KeyId;
use crate::revocation::{Revocation, Revocations, Revoked};
use crate::signature::SignatureError;
use crate::statement::{Certification, PAYLOAD_TYPE, Statement, StatementError};
use crate::time::format_time;
use caii_model::{
    DataTier, Digest, Limits, Manifest, MeterId, Millis, Region, RuntimeClass, RuntimeVersion, Timestamp, UseCategory,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use thiserror::Error;

/// Signatures that are looked at for one decision; more are refused unseen, or checking them would be a way to keep a
/// device busy.
pub const SIGNATURES_CHECKED_MAX: usize = 256;
/// How far ahead of this device's clock a steward's may be. Machines are hours off when their time zone is set wrong, and
/// little is at stake: when a certification begins is no protection against anything, when it ends is.
const CLOCK_SKEW_MAX: Millis = Millis(26 * 3_600_000);

/// What this device verified about its charter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// The charter.
    pub charter: Charter,
    /// Until when its metadata vouches that nothing newer is being held back.
    pub fresh_until: Timestamp,
    /// Everything that this device ever saw revoked.
    pub revocations: Revocations,
}

impl Trusted {
    /// Why this was stopped, if it was.
    pub fn revoked(&self, what: Revoked) -> Option<&Revocation> {
        self.revocations.of(what).or_else(|| self.charter.revoked.of(what))
    }
}

/// What is certified of a workload: taken from the manifest that is about to be run, never from what others say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    workload: Digest,
    runtime: RuntimeClass,
    meter: MeterId,
    limits: Limits,
}

impl Facts {
    /// Of this manifest. Its program and files must have the digests that it names.
    pub fn of(manifest: &Manifest) -> Self {
        let Manifest { runtime, meter, limits, .. } = manifest;
        Self { workload: manifest.digest(), runtime: *runtime, meter: *meter, limits: *limits }
    }

    /// The workload's digest.
    pub fn workload(&self) -> Digest {
        self.workload
    }
}

/// What the contributor allows on this device. Nothing that stewards sign goes beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPolicy {
    /// Where the device is.
    pub region: Region,
    /// The runtime that it has.
    pub runtime: RuntimeVersion,
    /// What it may be used for.
    pub uses: BTreeSet<UseCategory>,
    /// On which data.
    pub data_tiers: BTreeSet<DataTier>,
    /// How much a program may ask for.
    pub limits: LimitCaps,
}

impl LocalPolicy {
    /// Everything that stewards certify for an ordinary device: data for attested hardware is not among it.
    pub fn open(region: Region, runtime: RuntimeVersion) -> Self {
        let tiers = DataTier::ALL.iter().copied().filter(|tier| *tier != DataTier::Attested);
        Self {
            region,
            runtime,
            uses: UseCategory::ALL.iter().copied().collect(),
            data_tiers: tiers.collect(),
            limits: LimitCaps::default(),
        }
    }

    /// Whether a program that asks for so much may run here at all: known from its manifest alone, before anybody is
    /// asked who certified it. [`decide`] asks the same.
    ///
    /// # Errors
    /// [`Uncertified::LimitBeyondPolicy`].
    pub fn takes(&self, facts: &Facts) -> Result<(), Uncertified> {
        within(&facts.limits, &self.limits)
    }
}

/// The most that a program may ask for; nothing is no cap beyond that of the runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitCaps {
    /// Fuel of an item.
    pub fuel_per_item: Option<u64>,
    /// Fuel of the initialiser.
    pub fuel_init: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of an item's output.
    pub output_per_item: Option<u64>,
    /// Milliseconds that an item may take.
    pub wall_per_item: Option<u64>,
}

/// A limit that contributors cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Fuel of an item.
    FuelPerItem,
    /// Fuel of the initialiser.
    FuelInit,
    /// Bytes of memory.
    Memory,
    /// Bytes of an item's output.
    OutputPerItem,
    /// Milliseconds that an item may take.
    WallPerItem,
}

impl Limit {
    /// So much of it, for people: `512 MiB of memory`.
    pub fn of(self, amount: u64) -> String {
        format!("{} {}", self.amount(amount), self.what())
    }

    fn amount(self, amount: u64) -> String {
        match self {
            Self::FuelPerItem | Self::FuelInit => amount.to_string(),
            // As they are configured, where that is exact.
            Self::Memory | Self::OutputPerItem if amount.is_multiple_of(1 << 20) => format!("{} MiB", amount >> 20),
            Self::Memory | Self::OutputPerItem => format!("{amount} bytes"),
            Self::WallPerItem if amount.is_multiple_of(1_000) => format!("{} s", amount / 1_000),
            Self::WallPerItem => format!("{amount} ms"),
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::FuelPerItem => "units of fuel per item",
            Self::FuelInit => "units of fuel for the initialiser",
            Self::Memory => "of memory",
            Self::OutputPerItem => "of output per item",
            Self::WallPerItem => "per item",
        }
    }
}

fn too_low(limit: Limit, asked: u64, allowed: u64) -> String {
    format!("limit of {} is below the workload's {}", limit.of(allowed), limit.amount(asked))
}

/// The workload may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// Which.
    pub workload: Digest,
    /// Whose certifications count, in the charter's order.
    pub by: Vec<Steward>,
    /// How many it took.
    pub threshold: u32,
    /// For what, each pair certified by the threshold.
    pub scope: BTreeSet<(UseCategory, DataTier)>,
    /// What did not count.
    pub rejected: Vec<Rejected>,
    /// When it must be decided again at the latest: a certification that counts or the charter's metadata ends.
    pub until: Timestamp,
}

/// The workload may not run here now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Uncertified {
    /// Something newer could be held back.
    #[error(
        "the charter's metadata was fresh until {}; until newer metadata arrives nothing runs, because a revocation \
         could be held back", format_time(*.since)
    )]
    MetadataStale {
        /// Since when.
        since: Timestamp,
    },
    /// The charter shuts this runtime out.
    #[error("the charter asks for runtime {needed} or newer and this device has {found}; update caii")]
    RuntimeTooOld {
        /// What the charter asks for.
        needed: RuntimeVersion,
        /// What is here.
        found: RuntimeVersion,
    },
    /// A steward stopped it.
    #[error("{} revoked the workload on {}: {}", .0.by, format_time(.0.issued), .0.why)]
    Revoked(Box<Revocation>),
    /// Nobody may certify for this place.
    #[error("nobody has the mandate to certify for the region {region}")]
    NoMandate {
        /// Where.
        region: Region,
    },
    /// It asks for more than the contributor allows.
    #[error("its owner's {}", too_low(*limit, *asked, *allowed))]
    LimitBeyondPolicy {
        /// Of what.
        limit: Limit,
        /// How much it asks for.
        asked: u64,
        /// How much is allowed.
        allowed: u64,
    },
    /// There are more signatures than anybody needs.
    #[error("{found} signatures came with the workload; at most {SIGNATURES_CHECKED_MAX} are checked")]
    TooManySignatures {
        /// How many.
        found: usize,
    },
    /// Too few keys.
    #[error("{}", missing(signed, *threshold, region, rejected))]
    Missing {
        /// Whose certifications count.
        signed: Vec<Steward>,
        /// How many it takes.
        threshold: u32,
        /// Where.
        region: Region,
        /// What did not count.
        rejected: Vec<Rejected>,
    },
    /// Enough keys, but no use on any data that enough of them agree on.
    #[error("{} certified it, but there is no use and data tier on which {threshold} of them agree", names(signed))]
    NothingInCommon {
        /// Whose certifications count.
        signed: Vec<Steward>,
        /// How many it takes.
        threshold: u32,
    },
}

impl Uncertified {
    /// The same, said to the contributor whose device it is.
    pub fn to_owner(&self) -> String {
        match self {
            Self::LimitBeyondPolicy { limit, asked, allowed } => format!("your {}", too_low(*limit, *asked, *allowed)),
            Self::MetadataStale { .. }
            | Self::RuntimeTooOld { .. }
            | Self::Revoked(_)
            | Self::NoMandate { .. }
            | Self::TooManySignatures { .. }
            | Self::Missing { .. }
            | Self::NothingInCommon { .. } => self.to_string(),
        }
    }

    /// A stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MetadataStale { .. } => "metadata-stale",
            Self::RuntimeTooOld { .. } => "runtime-too-old",
            Self::Revoked(_) => "revoked",
            Self::NoMandate { .. } => "no-mandate",
            Self::LimitBeyondPolicy { .. } => "limit-beyond-policy",
            Self::TooManySignatures { .. } => "too-many-signatures",
            Self::Missing { .. } => "signatures-missing",
            Self::NothingInCommon { .. } => "nothing-in-common",
        }
    }
}

/// A signature or an envelope that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{why}", who.as_ref().map(|who| format!("{who}: ")).unwrap_or_default())]
pub struct Rejected {
    /// The steward whose key is named, if the charter knows it.
    pub who: Option<String>,
    /// Why.
    pub why: Rejection,
}

/// Why a signature or an envelope does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The payload is of another type.
    #[error("an envelope's payload is `{0}`, not an in-toto statement")]
    PayloadType(String),
    /// The payload says nothing that is understood.
    #[error("an envelope cannot be read: {0}")]
    Statement(StatementError),
    /// The payload certifies nothing.
    #[error("an envelope revokes; it certifies nothing")]
    NotCertification,
    /// The key is not in the charter.
    #[error("a signature by {}, which no steward holds", key.map_or("a key without a name".to_owned(), |key| format!("{key:?}")))]
    KeyUnknown {
        /// Which, if the envelope names one.
        key: Option<KeyId>,
    },
    /// The steward may not certify here.
    #[error("has no mandate to certify for the region {region}")]
    Unmandated {
        /// Where.
        region: Region,
    },
    /// The key was revoked.
    #[error("the key was revoked by {} on {}: {}", .0.by, format_time(.0.issued), .0.why)]
    KeyRevoked(Box<Revocation>),
    /// The steward did not sign this.
    #[error("the signature does not hold: {0}")]
    Signature(SignatureError),
    /// It is about another workload.
    #[error("certified another workload ({})", .0.short())]
    OtherWorkload(Digest),
    /// It is by another charter.
    #[error("certified for another charter ({})", .0.short())]
    OtherCharter(Digest),
    /// What was certified is not what the manifest says.
    #[error("certified another {0} than the manifest has")]
    OtherThanManifest(&'static str),
    /// It holds later.
    #[error("the certification holds only from {}; check this device's clock", format_time(*.from))]
    NotYet {
        /// From when.
        from: Timestamp,
    },
    /// It held once.
    #[error("the certification expired on {}", format_time(*.since))]
    Expired {
        /// When.
        since: Timestamp,
    },
    /// It holds longer than the charter allows.
    #[error("the certification is valid for {} days; the charter allows {}", found.0 / 86_400_000, allowed.0 / 86_400_000)]
    ValidTooLong {
        /// How long.
        found: Millis,
        /// How long at most.
        allowed: Millis,
    },
    /// It is for other places.
    #[error("certified for {}, and this device is in {here}", list(regions))]
    RegionElsewhere {
        /// Where.
        regions: BTreeSet<Region>,
        /// Where the device is.
        here: Region,
    },
    /// It is for uses that the contributor does not allow.
    #[error("certified it for {}, which this device does not allow", list(uses))]
    UseBeyondPolicy {
        /// Which are not allowed.
        uses: BTreeSet<UseCategory>,
    },
    /// It is for data that the contributor does not allow.
    #[error("certified it for data of {}, which this device does not allow", list(tiers))]
    DataBeyondPolicy {
        /// Which are not allowed.
        tiers: BTreeSet<DataTier>,
    },
}

fn list<T: fmt::Display>(words: &BTreeSet<T>) -> String {
    words.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn names(stewards: &[Steward]) -> String {
    let names: Vec<String> = stewards.iter().map(|steward| format!("{} ({})", steward.name, steward.body)).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

fn missing(signed: &[Steward], threshold: u32, region: &Region, rejected: &[Rejected]) -> String {
    let more = threshold as usize - signed.len().min(threshold as usize);
    let place = if *region == Region::any() { String::new() } else { format!(" for the region {region}") };
    let missing = if more == 1 { "is" } else { "are" };
    let mut text = format!("{} certified it; {more} of {threshold} keys {missing} missing{place}", names(signed));
    if !rejected.is_empty() {
        let reasons: Vec<String> = rejected.iter().map(ToString::to_string).collect();
        text.push_str(&format!("; not counted: {}", reasons.join("; ")));
    }
    text
}

/// Whether this device may run this workload now, and until when, or why not.
///
/// # Errors
/// The reason why not. Everything that is unknown, missing or in doubt is a no.
pub fn decide(
    trusted: &Trusted,
    now: Timestamp,
    facts: &Facts,
    envelopes: &[Envelope],
    policy: &LocalPolicy,
) -> Result<Certified, Uncertified> {
    let charter = &trusted.charter;
    if now > trusted.fresh_until {
        return Err(Uncertified::MetadataStale { since: trusted.fresh_until });
    }
    if policy.runtime < charter.runtime_min {
        return Err(Uncertified::RuntimeTooOld { needed: charter.runtime_min, found: policy.runtime });
    }
    if let Some(revocation) = trusted.revoked(Revoked::Workload(facts.workload)) {
        return Err(Uncertified::Revoked(Box::new(revocation.clone())));
    }
    policy.takes(facts)?;
    let region = &policy.region;
    let mandate = charter.mandate(region).ok_or_else(|| Uncertified::NoMandate { region: region.clone() })?;
    let found = envelopes.iter().map(|envelope| envelope.signatures.len()).sum();
    if found > SIGNATURES_CHECKED_MAX {
        return Err(Uncertified::TooManySignatures { found });
    }

    let stewards: BTreeMap<KeyId, &Steward> =
        charter.stewards.iter().map(|steward| (steward.key.id(), steward)).collect();
    let mut votes: BTreeMap<KeyId, Vec<Certification>> = BTreeMap::new();
    let mut rejected = Vec::new();
    for envelope in envelopes {
        let certification = match read(envelope) {
            Ok(certification) => certification,
            Err(why) => {
                rejected.push(Rejected { who: None, why });
                continue;
            }
        };
        let signed = envelope.signed_bytes();
        for signature in &envelope.signatures {
            let Some((key, steward)) = signature.key.and_then(|key| Some((key, *stewards.get(&key)?))) else {
                rejected.push(Rejected { who: None, why: Rejection::KeyUnknown { key: signature.key } });
                continue;
            };
            let counts = if !mandate.stewards.contains(&steward.name) {
                Err(Rejection::Unmandated { region: region.clone() })
            } else if let Some(revocation) = trusted.revoked(Revoked::Key(key)) {
                Err(Rejection::KeyRevoked(Box::new(revocation.clone())))
            } else if let Err(error) = steward.key.verify(&signed, &signature.bytes) {
                Err(Rejection::Signature(error))
            } else {
                // Only now is it known that it is this steward who says so.
                holds(charter, now, facts, &certification, policy)
            };
            match counts {
                Ok(()) => votes.entry(key).or_default().push(certification.clone()),
                Err(why) => rejected.push(Rejected { who: Some(steward.name.clone()), why }),
            }
        }
    }

    let threshold = mandate.threshold;
    let counted = |steward: &&Steward| votes.keys().any(|key| stewards.get(key).is_some_and(|known| known == steward));
    let by: Vec<Steward> = charter.stewards.iter().filter(counted).cloned().collect();
    if votes.len() < threshold as usize {
        return Err(Uncertified::Missing { signed: by, threshold, region: region.clone(), rejected });
    }
    let mut scope = BTreeSet::new();
    let mut until = trusted.fresh_until;
    for pair in UseCategory::ALL.iter().flat_map(|r#use| DataTier::ALL.iter().map(|tier| (*r#use, *tier))) {
        if let Some(end) = certified_until(&votes, pair, threshold) {
            scope.insert(pair);
            until = until.min(end);
        }
    }
    if scope.is_empty() {
        return Err(Uncertified::NothingInCommon { signed: by, threshold });
    }
    Ok(Certified { workload: facts.workload, by, threshold, scope, rejected, until })
}

/// When fewer than the threshold of keys still certify this use on this data; nothing if fewer do already.
fn certified_until(
    votes: &BTreeMap<KeyId, Vec<Certification>>,
    (r#use, tier): (UseCategory, DataTier),
    threshold: u32,
) -> Option<Timestamp> {
    let last = |certifications: &Vec<Certification>| {
        let for_this = certifications.iter().filter(|c| c.uses.contains(&r#use) && c.data_tiers.contains(&tier));
        for_this.map(|certification| certification.expires).max()
    };
    let mut ends: Vec<Timestamp> = votes.values().filter_map(last).collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    ends.get((threshold as usize).checked_sub(1)?).copied()
}

fn read(envelope: &Envelope) -> Result<Certification, Rejection> {
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Rejection::PayloadType(envelope.payload_type.chars().take(64).collect()));
    }
    match Statement::from_json(&envelope.payload).map_err(Rejection::Statement)? {
        Statement::Certification(certification) => Ok(*certification),
        Statement::Revocation(_) => Err(Rejection::NotCertification),
    }
}

/// Whether what a steward certified is this workload, holds now and here, and is allowed here.
fn holds(
    charter: &Charter,
    now: Timestamp,
    facts: &Facts,
    certification: &Certification,
    policy: &LocalPolicy,
) -> Result<(), Rejection> {
    let Certification { workload, charter: for_charter, issued, expires, regions, .. } = certification;
    if *workload != facts.workload {
        return Err(Rejection::OtherWorkload(*workload));
    }
    if *for_charter != charter.id {
        return Err(Rejection::OtherCharter(*for_charter));
    }
    // The digest covers all three; a steward who wrote other ones did not look at what was signed.
    for (differs, what) in [
        (certification.runtime != facts.runtime, "runtime class"),
        (certification.meter != facts.meter, "meter"),
        (certification.limits != facts.limits, "limits"),
    ] {
        if differs {
            return Err(Rejection::OtherThanManifest(what));
        }
    }
    if *issued > now + CLOCK_SKEW_MAX {
        return Err(Rejection::NotYet { from: *issued });
    }
    if now >= *expires {
        return Err(Rejection::Expired { since: *expires });
    }
    let (found, allowed) = (expires.since(*issued), charter.certification_valid_max);
    if found > allowed {
        return Err(Rejection::ValidTooLong { found, allowed });
    }
    if !regions.contains(&policy.region) && !regions.contains(&Region::any()) {
        return Err(Rejection::RegionElsewhere { regions: regions.clone(), here: policy.region.clone() });
    }
    // The device does not see what a job is for: all that was certified must be allowed.
    let uses: BTreeSet<_> = certification.uses.difference(&policy.uses).copied().collect();
    if !uses.is_empty() {
        return Err(Rejection::UseBeyondPolicy { uses });
    }
    let tiers: BTreeSet<_> = certification.data_tiers.difference(&policy.data_tiers).copied().collect();
    if !tiers.is_empty() {
        return Err(Rejection::DataBeyondPolicy { tiers });
    }
    Ok(())
}

fn within(limits: &Limits, caps: &LimitCaps) -> Result<(), Uncertified> {
    for (limit, asked, cap) in [
        (Limit::FuelPerItem, limits.fuel_per_item.0, caps.fuel_per_item),
        (Limit::FuelInit, limits.fuel_init.0, caps.fuel_init),
        (Limit::Memory, limits.memory.0, caps.memory),
        (Limit::OutputPerItem, limits.output_per_item.0, caps.output_per_item),
        (Limit::WallPerItem, limits.wall_per_item.0, caps.wall_per_item),
    ] {
        if let Some(allowed) = cap.filter(|allowed| asked > *allowed) {
            return Err(Uncertified::LimitBeyondPolicy { limit, asked, allowed });
        }
    }
    Ok(())
}
