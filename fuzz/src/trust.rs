//! What stewards sign, and the gate that reads it.

use crate::memory::at_most;
use crate::seeds;
use caii_model::{RuntimeVersion, Timestamp};
use caii_trust::{
    Certification, Charter, Envelope, Facts, KeyId, LocalPolicy, PAYLOAD_TYPE, PublicKey, Revocation, Revocations,
    SigningKey, Statement, Trusted, Uncertified, decide,
};
use std::sync::LazyLock;

/// Made once: deriving keys takes longer than most of what is tried here.
static CHARTER: LazyLock<Charter> = LazyLock::new(seeds::charter);
static TRUSTED: LazyLock<Trusted> = LazyLock::new(|| Trusted {
    charter: CHARTER.clone(),
    fresh_until: Timestamp(NOW.0 + 1),
    revocations: Revocations::new(),
});
static KEYS: LazyLock<[(KeyId, SigningKey); 2]> = LazyLock::new(|| {
    [1, 2].map(|seed| {
        let key = SigningKey::from_seed([seed; 32]);
        (PublicKey::Ed25519(key.public()).id(), key)
    })
});

fn heap(bytes: &[u8]) -> usize {
    (64 << 10) + 1_024 * bytes.len()
}

/// An envelope as anybody may send it.
pub fn envelope(bytes: &[u8]) {
    let Ok(envelope) = at_most(heap(bytes), || Envelope::from_json(bytes)) else { return };
    assert_eq!(Envelope::from_json(&envelope.to_json()).as_ref(), Ok(&envelope));
    // Nobody's: it names keys that the fuzzer does not hold.
    assert!(certified(std::slice::from_ref(&envelope)).is_err());
    assert!(Revocation::read(&CHARTER, &envelope).is_err());
}

/// A payload, as what stewards signed: a fuzzer forges no signature, and stewards may sign anything.
pub fn statement(bytes: &[u8]) {
    let Ok(statement) = at_most(heap(bytes), || Statement::from_json(bytes)) else {
        assert!(certified(&[Envelope::unsigned(PAYLOAD_TYPE, bytes.to_vec())]).is_err());
        return;
    };
    let written = match &statement {
        Statement::Certification(certification) => certification.to_json(),
        Statement::Revocation(revocation) => revocation.to_json(),
    };
    assert_eq!(Statement::from_json(&written).as_ref(), Ok(&statement));
    let one = signed(bytes, &KEYS[0]);
    assert!(matches!(certified(std::slice::from_ref(&one)), Err(Uncertified::Missing { .. })));
    let revoked = Revocation::read(&CHARTER, &one);
    let two = certified(&[one, signed(bytes, &KEYS[1])]);
    match &statement {
        Statement::Certification(certification) => {
            assert!(revoked.is_err());
            assert_eq!(two.is_ok(), says_so(certification), "{two:?}");
        }
        Statement::Revocation(statement) => {
            assert!(two.is_err());
            let Ok(revoked) = revoked else {
                assert_ne!(statement.charter, CHARTER.id);
                return;
            };
            assert_eq!((revoked.what, revoked.by.as_str(), &revoked.why), (statement.what, "alice", &statement.why));
            let all: Revocations = [revoked].into_iter().collect();
            assert_eq!(Revocations::from_json(&all.to_json()), Ok(all));
        }
    }
}

/// The rules of the gate, once more and plainly.
fn says_so(certification: &Certification) -> bool {
    let (charter, manifest) = (&*CHARTER, seeds::certified_manifest());
    certification.workload == manifest.digest()
        && certification.charter == charter.id
        && (certification.meter, certification.limits) == (manifest.meter, manifest.limits)
        && certification.issued.0 <= NOW.0 + 26 * 3_600_000
        && NOW < certification.expires
        && certification.expires.0 - certification.issued.0 <= charter.certification_valid_max.0
        && certification.regions.iter().any(|region| ["any", "eu"].contains(&region.as_str()))
        && certification.data_tiers.iter().all(|tier| tier.as_str() != "t3")
}

const NOW: Timestamp = Timestamp(1_772_000_000_000);

fn certified(envelopes: &[Envelope]) -> Result<caii_trust::Certified, Uncertified> {
    let policy = LocalPolicy::open("eu".parse().expect("it is a region"), RuntimeVersion([48, 0, 8]));
    decide(&TRUSTED, NOW, &Facts::of(&seeds::certified_manifest()), envelopes, &policy)
}

fn signed(payload: &[u8], (id, key): &(KeyId, SigningKey)) -> Envelope {
    let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, payload.to_vec());
    let signature = key.sign_message(&envelope.signed_bytes());
    envelope.add(*id, signature.to_vec());
    envelope
}

/// A charter, as TUF delivers it: what is read keeps its rules.
pub fn charter(bytes: &[u8]) {
    let id = CHARTER.id;
    let Ok(charter) = at_most(heap(bytes), || Charter::from_json(id, bytes)) else { return };
    assert_eq!(charter.check(), Ok(()));
    assert_eq!(Charter::from_json(id, &charter.to_json()).as_ref(), Ok(&charter));
    assert!(!charter.describe().is_empty());
    for mandate in &charter.certify {
        let found = charter.mandate(&mandate.region).expect("its own region has it");
        assert!(found.threshold as usize <= found.stewards.len() && found.threshold > 0);
        assert!(found.stewards.iter().all(|name| charter.steward_named(name).is_some()));
    }
}

/// The revocations that a device or a charter keeps.
pub fn revocations(bytes: &[u8]) {
    let Ok(revocations) = at_most(heap(bytes), || Revocations::from_json(bytes)) else { return };
    assert_eq!(Revocations::from_json(&revocations.to_json()).as_ref(), Ok(&revocations));
    assert!(revocations.iter().all(|revocation| revocations.of(revocation.what) == Some(revocation)));
}
