//! What the gate costs each time that a cached workload is started: `cargo run --release -p caii-trust --example
//! certification_cost`.

use caii_model::{
    Bytes, DataTier, Digest, Limits, Manifest, MeterId, Millis, Region, RuntimeClass, RuntimeVersion, Scope, Timestamp,
    UseCategory,
};
use caii_trust::{
    Body, Certification, Charter, Envelope, Facts, LocalPolicy, Mandate, PAYLOAD_TYPE, PublicKey, Revocation,
    Revocations, Revoked, SigningKey, Steward, Trusted, decide,
};
use std::collections::BTreeSet;

const ROUNDS: u32 = 2_000;
const DAY: u64 = 86_400_000;

fn main() {
    for (threshold, signers) in [(1, 1), (2, 3), (3, 5), (10, 20)] {
        let (trusted, manifest, envelopes) = scene(threshold, signers);
        let texts: Vec<Vec<u8>> = envelopes.iter().map(Envelope::to_json).collect();
        let policy = LocalPolicy::open(Region::any(), RuntimeVersion([48, 0, 8]));
        let mut times = Vec::new();
        #[expect(clippy::disallowed_methods, reason = "this measures; the crate itself reads no clock")]
        let clock = std::time::Instant::now;
        for _ in 0..ROUNDS {
            let start = clock();
            // All that a device does before it starts a workload that it has compiled already: the manifest's digest,
            // the envelopes from their bytes, every signature, the decision.
            let read: Result<Vec<Envelope>, _> = texts.iter().map(|text| Envelope::from_json(text)).collect();
            let envelopes = read.expect("they were written by this program");
            let decision = decide(&trusted, Timestamp(10 * DAY), &Facts::of(&manifest), &envelopes, &policy);
            times.push(start.elapsed());
            assert!(decision.is_ok(), "{decision:?}");
        }
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100].as_micros();
        println!("{threshold} of {signers}, all signed, 1000 revocations: median {} µs, p99 {} µs", at(50), at(99));
    }
}

fn scene(threshold: u32, signers: u8) -> (Trusted, Manifest, Vec<Envelope>) {
    let key = |seed: u8| SigningKey::from_seed([seed; 32]);
    let public = |seed: u8| PublicKey::Ed25519(key(seed).public());
    let steward = |seed: u8| Steward { name: format!("s{seed}"), body: "lab".into(), key: public(seed) };
    let stewards: Vec<Steward> = (1..=signers).map(steward).collect();
    let names: Vec<String> = stewards.iter().map(|steward| steward.name.clone()).collect();
    let charter = Charter {
        id: Digest([1; 32]),
        name: "a charter".into(),
        bodies: vec![Body { name: "lab".into(), about: String::new() }],
        stewards,
        certify: vec![Mandate { region: Region::any(), threshold, stewards: names.clone() }],
        revoke: names,
        runtime_min: RuntimeVersion([48, 0, 0]),
        certification_valid_max: Millis(366 * DAY),
        revoked: Revocations::new(),
    };
    let manifest = Manifest {
        name: "a workload".into(),
        program: Digest([2; 32]),
        program_size: Bytes(1 << 20),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![],
        args: vec![],
        limits: Limits::default(),
        meter: MeterId(Digest([3; 32])),
    };
    let certification = Certification {
        workload: manifest.digest(),
        name: manifest.name.clone(),
        charter: charter.id,
        runtime: manifest.runtime,
        meter: manifest.meter,
        limits: manifest.limits,
        uses: BTreeSet::from([UseCategory::Embedding]),
        data_tiers: BTreeSet::from([DataTier::Public]),
        regions: BTreeSet::from([Region::any()]),
        issued: Timestamp(DAY),
        expires: Timestamp(180 * DAY),
        build: None,
    };
    let envelope = |seed: u8| {
        let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, certification.to_json());
        let signature = key(seed).sign_message(&envelope.signed_bytes());
        envelope.add(public(seed).id(), signature.to_vec());
        envelope
    };
    let revocation = |number: u32| Revocation {
        what: Revoked::Workload(Digest::of(&number.to_le_bytes())),
        issued: Timestamp(DAY),
        by: "s1".into(),
        key: public(1).id(),
        why: "an example".into(),
    };
    let trusted =
        Trusted { charter, fresh_until: Timestamp(20 * DAY), revocations: (0..1_000).map(revocation).collect() };
    (trusted, manifest, (1..=signers).map(envelope).collect())
}
