//! A charter of three stewards and a workload, for the tests of this crate.

use crate::certify::{Facts, LocalPolicy, Trusted};
use crate::charter::{Body, Charter, Mandate, Steward};
use crate::dsse::Envelope;
use crate::keys::PublicKey;
use crate::revocation::{Revocations, Revoked};
use crate::statement::{Certification, PAYLOAD_TYPE, RevocationStatement};
use crate::time::parse_time;
use crate::{SigningKey, dsse};
use caii_model::{
    Bytes, DataTier, Digest, Limits, Manifest, MeterId, Millis, Region, RuntimeClass, RuntimeVersion, Scope, Timestamp,
    UseCategory,
};
use std::collections::BTreeSet;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

pub(crate) fn at(text: &str) -> Timestamp {
    parse_time(text).unwrap()
}

/// alice, bob and carol, with keys 1 to 3; two of them certify anywhere, each can stop.
pub(crate) fn charter() -> Charter {
    let names = ["alice", "bob", "carol"].map(str::to_owned);
    let steward = |(name, seed): (&String, u8)| Steward {
        name: name.clone(),
        body: if seed == 3 { "union" } else { "lab" }.into(),
        key: PublicKey::Ed25519(key(seed).public()),
    };
    Charter {
        id: Digest([0xc4; 32]),
        name: "a test".into(),
        bodies: ["lab", "union"].map(|name| Body { name: name.into(), about: String::new() }).into(),
        stewards: names.iter().zip(1..).map(steward).collect(),
        certify: vec![Mandate { region: Region::any(), threshold: 2, stewards: names.to_vec() }],
        revoke: names.to_vec(),
        runtime_min: RuntimeVersion([48, 0, 0]),
        certification_valid_max: Millis(366 * 86_400_000),
        revoked: Revocations::new(),
    }
}

pub(crate) fn trusted() -> Trusted {
    Trusted { charter: charter(), fresh_until: at("2026-03-08T00:00:00Z"), revocations: Revocations::new() }
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        name: "echo".into(),
        program: Digest([1; 32]),
        program_size: Bytes(10),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![],
        args: vec![],
        limits: Limits::default(),
        meter: MeterId(Digest([3; 32])),
    }
}

pub(crate) fn facts() -> Facts {
    Facts::of(&manifest())
}

pub(crate) fn policy() -> LocalPolicy {
    LocalPolicy::open("eu".parse().unwrap(), RuntimeVersion([48, 0, 8]))
}

/// The first half of 2026, embeddings on public and internal data, anywhere.
pub(crate) fn certification(charter: &Charter) -> Certification {
    let manifest = manifest();
    Certification {
        workload: manifest.digest(),
        name: manifest.name.clone(),
        charter: charter.id,
        runtime: manifest.runtime,
        meter: manifest.meter,
        limits: manifest.limits,
        uses: BTreeSet::from([UseCategory::Embedding]),
        data_tiers: BTreeSet::from([DataTier::Public, DataTier::Internal]),
        regions: BTreeSet::from([Region::any()]),
        issued: at("2026-01-01T00:00:00Z"),
        expires: at("2026-07-01T00:00:00Z"),
        build: None,
    }
}

pub(crate) fn sign(envelope: &mut Envelope, seed: u8) {
    let signature = key(seed).sign_message(&dsse::pae(&envelope.payload_type, &envelope.payload));
    envelope.add(PublicKey::Ed25519(key(seed).public()).id(), signature.to_vec());
}

/// The certification, signed by these.
pub(crate) fn envelope(certification: &Certification, signers: &[u8]) -> Envelope {
    let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, certification.to_json());
    signers.iter().for_each(|seed| sign(&mut envelope, *seed));
    envelope
}

pub(crate) fn revocation_envelope(charter: &Charter, what: Revoked, why: &str, signers: &[u8]) -> Envelope {
    let issued = at("2026-02-01T00:00:00Z");
    let statement = RevocationStatement { what, charter: charter.id, issued, why: why.into() };
    let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, statement.to_json());
    signers.iter().for_each(|seed| sign(&mut envelope, *seed));
    envelope
}
