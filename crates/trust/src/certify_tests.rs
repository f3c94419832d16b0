//! The gate, tried from every side.

use crate::certify::{Limit, LimitCaps, Rejection, SIGNATURES_CHECKED_MAX, Uncertified, decide};
use crate::charter::{Mandate, Steward};
use crate::dsse::Envelope;
use crate::keys::PublicKey;
use crate::revocation::{Revocation, Revoked};
use crate::signature::SignatureError;
use crate::statement::{Certification, PAYLOAD_TYPE};
use crate::testing::{
    at, certification, charter, envelope, facts, key, manifest, policy, revocation_envelope, sign, trusted,
};
use crate::{Certified, Facts};
use caii_model::{DataTier, Digest, Region, RuntimeVersion, Timestamp, UseCategory};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn now() -> Timestamp {
    at("2026-03-01T12:00:00Z")
}

fn ask(envelopes: &[Envelope]) -> Result<Certified, Uncertified> {
    decide(&trusted(), now(), &facts(), envelopes, &policy())
}

fn signed_by(signers: &[u8]) -> Envelope {
    envelope(&certification(&charter()), signers)
}

fn changed(change: impl FnOnce(&mut Certification)) -> Certification {
    let mut certification = certification(&charter());
    change(&mut certification);
    certification
}

fn names(certified: &Certified) -> Vec<&str> {
    certified.by.iter().map(|steward| steward.name.as_str()).collect()
}

/// Alice signs what is fine; bob signs this. What is said of bob.
#[track_caller]
fn bob_does_not_count(certification: &Certification) -> Rejection {
    let error = ask(&[signed_by(&[1]), envelope(certification, &[2])]).unwrap_err();
    let Uncertified::Missing { signed, threshold: 2, mut rejected, .. } = error else { panic!("{error}") };
    assert_eq!(signed.iter().map(|steward| steward.name.as_str()).collect::<Vec<_>>(), ["alice"]);
    assert_eq!((rejected.len(), rejected[0].who.as_deref()), (1, Some("bob")));
    rejected.remove(0).why
}

#[test]
fn the_threshold_certifies_in_one_envelope_or_in_several() {
    let certified = ask(&[signed_by(&[1, 3])]).unwrap();
    assert_eq!(names(&certified), ["alice", "carol"]);
    assert_eq!((certified.workload, certified.threshold), (manifest().digest(), 2));
    let pair = |tier| (UseCategory::Embedding, tier);
    assert_eq!(certified.scope, BTreeSet::from([pair(DataTier::Public), pair(DataTier::Internal)]));
    assert_eq!(certified.until, at("2026-03-08T00:00:00Z"), "the metadata ends first");
    let certified = ask(&[signed_by(&[3]), signed_by(&[2]), signed_by(&[1])]).unwrap();
    assert_eq!(names(&certified), ["alice", "bob", "carol"]);
}

#[test]
fn people_read_who_signed_and_what_is_missing() {
    let said = |envelopes: &[Envelope]| ask(envelopes).unwrap_err().to_string();
    assert_eq!(said(&[]), "nobody certified it; 2 of 2 keys are missing for the region eu");
    assert_eq!(said(&[signed_by(&[1])]), "alice (lab) certified it; 1 of 2 keys is missing for the region eu");
    let expired = changed(|c| c.expires = at("2026-02-01T00:00:00Z"));
    assert_eq!(
        said(&[signed_by(&[1]), envelope(&expired, &[2])]),
        "alice (lab) certified it; 1 of 2 keys is missing for the region eu; not counted: bob: the certification \
         expired on 2026-02-01T00:00:00Z"
    );
    assert_eq!(ask(&[]).unwrap_err().code(), "signatures-missing");
}

#[test]
fn one_key_counts_once() {
    let later = changed(|c| c.expires = at("2026-08-01T00:00:00Z"));
    let mut twice = signed_by(&[1]);
    twice.signatures.push(twice.signatures[0].clone());
    for envelopes in
        [vec![twice], vec![signed_by(&[1]), signed_by(&[1])], vec![signed_by(&[1]), envelope(&later, &[1])]]
    {
        let error = ask(&envelopes).unwrap_err();
        assert!(matches!(&error, Uncertified::Missing { signed, .. } if signed.len() == 1), "{error}");
    }
    // Under another key's name it is a signature that does not hold.
    let mut aliased = signed_by(&[1]);
    let mut again = aliased.signatures[0].clone();
    again.key = Some(PublicKey::Ed25519(key(2).public()).id());
    aliased.signatures.push(again);
    let error = ask(&[aliased]).unwrap_err();
    let Uncertified::Missing { rejected, .. } = &error else { panic!("{error}") };
    assert_eq!(rejected[0].why, Rejection::Signature(SignatureError::Mismatch));
    // A charter in which one key has two names is refused where it is read; here it is still one key.
    let mut trusted = trusted();
    trusted.charter.stewards[1].key = trusted.charter.stewards[0].key.clone();
    let error = decide(&trusted, now(), &facts(), &[signed_by(&[1]), signed_by(&[1])], &policy());
    assert!(matches!(error, Err(Uncertified::Missing { .. })), "an aliased key was counted twice");
}

#[test]
fn strangers_and_stewards_without_the_mandate_do_not_count() {
    let error = ask(&[signed_by(&[1, 9])]).unwrap_err();
    let Uncertified::Missing { rejected, .. } = &error else { panic!("{error}") };
    assert_eq!(rejected[0].who, None);
    assert!(error.to_string().contains("which no steward holds"), "{error}");

    let mut trusted = trusted();
    trusted.charter.certify[0].stewards.retain(|name| name != "bob");
    let error = decide(&trusted, now(), &facts(), &[signed_by(&[1, 2])], &policy()).unwrap_err();
    assert!(error.to_string().contains("bob: has no mandate to certify for the region eu"), "{error}");
    assert!(decide(&trusted, now(), &facts(), &[signed_by(&[1, 3])], &policy()).is_ok());
    // A mandate of the region's own is the one that counts there.
    let eu = Mandate { region: "eu".parse().unwrap(), threshold: 1, stewards: vec!["bob".into()] };
    trusted.charter.certify.push(eu);
    let ask = |signers: &[u8]| decide(&trusted, now(), &facts(), &[signed_by(signers)], &policy());
    assert_eq!(names(&ask(&[2]).unwrap()), ["bob"]);
    assert!(ask(&[1, 3]).is_err());
    trusted.charter.certify.clear();
    let error = decide(&trusted, now(), &facts(), &[signed_by(&[1, 2, 3])], &policy()).unwrap_err();
    assert_eq!(error, Uncertified::NoMandate { region: "eu".parse().unwrap() });
}

#[test]
fn keys_of_an_algorithm_that_cannot_be_checked_never_count() {
    let mut trusted = trusted();
    let key = PublicKey::MlDsa44(Box::new([5; 1_312]));
    trusted.charter.stewards[1] = Steward { name: "bob".into(), body: "lab".into(), key: key.clone() };
    let mut envelope = signed_by(&[1]);
    envelope.add(key.id(), vec![0; 2_420]);
    let error = decide(&trusted, now(), &facts(), &[envelope], &policy()).unwrap_err();
    assert!(error.to_string().contains("bob: the signature does not hold: this release cannot check"), "{error}");
}

#[test]
fn only_exactly_this_workload_is_certified() {
    let other = changed(|c| c.workload = Digest([9; 32]));
    assert_eq!(bob_does_not_count(&other), Rejection::OtherWorkload(Digest([9; 32])));
    let other = changed(|c| c.charter = Digest([9; 32]));
    assert_eq!(bob_does_not_count(&other), Rejection::OtherCharter(Digest([9; 32])));
    let other = changed(|c| c.limits.memory.0 += 1);
    assert_eq!(bob_does_not_count(&other), Rejection::OtherThanManifest("limits"));
    let other = changed(|c| c.meter.0.0[0] ^= 1);
    assert_eq!(bob_does_not_count(&other), Rejection::OtherThanManifest("meter"));
    // What everybody certified, and a coordinator's other manifest.
    let mut manifest = manifest();
    manifest.limits.memory.0 *= 2;
    assert!(decide(&trusted(), now(), &Facts::of(&manifest), &[signed_by(&[1, 2, 3])], &policy()).is_err());
}

#[test]
fn certifications_hold_for_their_time() {
    let later = changed(|c| c.issued = at("2026-03-02T14:01:00Z"));
    assert_eq!(bob_does_not_count(&later), Rejection::NotYet { from: later.issued });
    let ahead = changed(|c| c.issued = at("2026-03-02T13:59:00Z"));
    assert!(ask(&[signed_by(&[1]), envelope(&ahead, &[2])]).is_ok(), "clocks differ");
    let ended = changed(|c| c.expires = now());
    assert_eq!(bob_does_not_count(&ended), Rejection::Expired { since: now() });
    let long = changed(|c| c.expires = at("2027-01-03T00:00:00Z"));
    assert!(matches!(bob_does_not_count(&long), Rejection::ValidTooLong { .. }));
    // It ends when fewer than two remain: with the second last of three.
    let until =
        |day: &str, signer: u8| envelope(&changed(|c| c.expires = at(&format!("2026-03-{day}T00:00:00Z"))), &[signer]);
    let certified = ask(&[until("03", 1), until("05", 2), until("04", 3)]).unwrap();
    assert_eq!(certified.until, at("2026-03-04T00:00:00Z"));
}

#[test]
fn uses_and_data_are_what_the_threshold_agrees_on() {
    let certify = |uses: &[UseCategory], tiers: &[DataTier], signer: u8| {
        let uses = uses.iter().copied().collect();
        envelope(&changed(|c| (c.uses, c.data_tiers) = (uses, tiers.iter().copied().collect())), &[signer])
    };
    use DataTier::{Internal, Public};
    use UseCategory::{Embedding, Translation};
    let envelopes = [
        certify(&[Embedding], &[Public, Internal], 1),
        certify(&[Embedding, Translation], &[Public], 2),
        certify(&[Translation], &[Internal], 3),
    ];
    assert_eq!(ask(&envelopes).unwrap().scope, BTreeSet::from([(Embedding, Public)]));
    let envelopes = [certify(&[Embedding], &[Public], 1), certify(&[Translation], &[Public], 2)];
    let error = ask(&envelopes).unwrap_err();
    assert!(matches!(error, Uncertified::NothingInCommon { threshold: 2, .. }), "{error}");
    // Embeddings of public data by one, translations of internal data by another, are neither of the crosses.
    let envelopes = [
        certify(&[Embedding], &[Public], 1),
        certify(&[Translation], &[Internal], 1),
        certify(&[Embedding], &[Internal], 2),
    ];
    assert!(matches!(ask(&envelopes), Err(Uncertified::NothingInCommon { .. })));
}

#[test]
fn the_contributor_has_the_last_word() {
    let mut policy = policy();
    let ask = |policy: &_| decide(&trusted(), now(), &facts(), &[signed_by(&[1, 2])], policy);
    assert!(ask(&policy).is_ok());
    policy.uses.remove(&UseCategory::Embedding);
    let error = ask(&policy).unwrap_err().to_string();
    assert!(error.contains("bob: certified it for embedding, which this device does not allow"), "{error}");
    policy.uses.insert(UseCategory::Embedding);
    policy.data_tiers.remove(&DataTier::Internal);
    let error = ask(&policy).unwrap_err().to_string();
    assert!(error.contains("alice: certified it for data of t1, which this device does not allow"), "{error}");
    policy.data_tiers.insert(DataTier::Internal);
    policy.limits = LimitCaps { memory: Some(536_870_911), ..LimitCaps::default() };
    let error = ask(&policy).unwrap_err();
    let words = "limit of 536870911 bytes of memory is below the workload's 512 MiB";
    assert_eq!((error.to_string(), error.to_owner()), (format!("its owner's {words}"), format!("your {words}")));
    assert_eq!(policy.takes(&facts()), Err(error));
    let caps: [(LimitCaps, Limit); 4] = [
        (LimitCaps { fuel_per_item: Some(1), ..LimitCaps::default() }, Limit::FuelPerItem),
        (LimitCaps { fuel_init: Some(1), ..LimitCaps::default() }, Limit::FuelInit),
        (LimitCaps { output_per_item: Some(1), ..LimitCaps::default() }, Limit::OutputPerItem),
        (LimitCaps { wall_per_item: Some(1), ..LimitCaps::default() }, Limit::WallPerItem),
    ];
    for (limits, expected) in caps {
        policy.limits = limits;
        let error = ask(&policy).unwrap_err();
        assert!(matches!(error, Uncertified::LimitBeyondPolicy { limit, .. } if limit == expected), "{error}");
    }
    policy.limits = LimitCaps { wall_per_item: Some(90_000), ..LimitCaps::default() };
    let words = "your limit of 90 s per item is below the workload's 120 s";
    assert_eq!(ask(&policy).unwrap_err().to_owner(), words);
    policy.limits = LimitCaps { memory: Some(536_870_912), ..LimitCaps::default() };
    assert!(ask(&policy).is_ok() && policy.takes(&facts()).is_ok());
}

#[test]
fn certifications_are_for_their_regions() {
    let us = changed(|c| c.regions = BTreeSet::from(["us".parse().unwrap()]));
    assert!(matches!(bob_does_not_count(&us), Rejection::RegionElsewhere { .. }));
    let eu = changed(|c| c.regions = BTreeSet::from(["us".parse().unwrap(), "eu".parse().unwrap()]));
    assert!(ask(&[envelope(&eu, &[1, 2])]).is_ok());
    let mut nowhere = policy();
    nowhere.region = Region::any();
    assert!(decide(&trusted(), now(), &facts(), &[envelope(&eu, &[1, 2])], &nowhere).is_err());
}

#[test]
fn a_revocation_by_one_stops_what_everybody_certified() {
    let mut trusted = trusted();
    let revoke = |what, signer| {
        Revocation::read(&charter(), &revocation_envelope(&charter(), what, "it leaks", &[signer])).unwrap()
    };
    trusted.revocations.add(revoke(Revoked::Workload(facts().workload()), 3));
    let all = [signed_by(&[1, 2, 3])];
    let error = decide(&trusted, now(), &facts(), &all, &policy()).unwrap_err();
    assert_eq!(error.to_string(), "carol revoked the workload on 2026-02-01T00:00:00Z: it leaks");
    // Certifying it again, later, brings nothing back.
    let again = changed(|c| c.issued = at("2026-02-20T00:00:00Z"));
    assert!(decide(&trusted, now(), &facts(), &[envelope(&again, &[1, 2, 3])], &policy()).is_err());

    let mut trusted = crate::testing::trusted();
    let bob = PublicKey::Ed25519(key(2).public()).id();
    trusted.charter.revoked.add(revoke(Revoked::Key(bob), 1));
    let error = decide(&trusted, now(), &facts(), &[signed_by(&[1, 2])], &policy()).unwrap_err();
    assert!(
        error.to_string().contains("bob: the key was revoked by alice on 2026-02-01T00:00:00Z: it leaks"),
        "{error}"
    );
    assert!(decide(&trusted, now(), &facts(), &all, &policy()).is_ok(), "two others are left");
}

#[test]
fn stale_metadata_and_old_runtimes_start_nothing() {
    let all = [signed_by(&[1, 2, 3])];
    let mut trusted = trusted();
    trusted.fresh_until = at("2026-03-01T11:59:59Z");
    let error = decide(&trusted, now(), &facts(), &all, &policy()).unwrap_err();
    assert_eq!(error, Uncertified::MetadataStale { since: trusted.fresh_until });
    trusted.fresh_until = now();
    assert!(decide(&trusted, now(), &facts(), &all, &policy()).is_ok());
    trusted.charter.runtime_min = RuntimeVersion([48, 0, 9]);
    let error = decide(&trusted, now(), &facts(), &all, &policy()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the charter asks for runtime 48.0.9 or newer and this device has 48.0.8; update caii"
    );
}

#[test]
fn other_payloads_certify_nothing() {
    let mut swapped = signed_by(&[1, 2]);
    swapped.payload_type = "application/json".into();
    let revocation = revocation_envelope(&charter(), Revoked::Workload(Digest([1; 32])), "x", &[1, 2]);
    let mut garbage = Envelope::unsigned(PAYLOAD_TYPE, b"{}".to_vec());
    sign(&mut garbage, 1);
    sign(&mut garbage, 2);
    let said = ask(&[swapped, revocation, garbage]).unwrap_err().to_string();
    for part in ["`application/json`, not an in-toto statement", "revokes; it certifies nothing", "cannot be read"] {
        assert!(said.contains(part), "{said}");
    }
    // Signed over the type too: signing under one and showing under another is no signature.
    let mut other = Envelope::unsigned("application/json", certification(&charter()).to_json());
    sign(&mut other, 1);
    sign(&mut other, 2);
    other.payload_type = PAYLOAD_TYPE.into();
    assert!(ask(&[other]).is_err());
}

#[test]
fn floods_of_signatures_are_refused_unseen() {
    let mut flood = signed_by(&[1, 2]);
    let last = flood.signatures[0].clone();
    flood.signatures.resize(SIGNATURES_CHECKED_MAX, last.clone());
    assert!(ask(std::slice::from_ref(&flood)).is_ok());
    flood.signatures.push(last);
    assert_eq!(ask(&[flood]), Err(Uncertified::TooManySignatures { found: 257 }));
}

/// Every byte of an envelope as a device gets it, and every bit of a signature.
#[test]
fn a_flipped_byte_is_refused() {
    let good = signed_by(&[1, 2]);
    assert!(ask(std::slice::from_ref(&good)).is_ok());
    let json = good.to_json();
    for place in 0..json.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut bad = json.clone();
            bad[place] ^= mask;
            if let Ok(envelope) = Envelope::from_json(&bad) {
                let answer = ask(&[envelope]);
                assert!(answer.is_err(), "byte {place} ^ {mask}: {}", String::from_utf8_lossy(&bad));
            }
        }
    }
    for place in 0..good.payload.len() {
        let mut bad = good.clone();
        bad.payload[place] ^= 1;
        assert!(ask(&[bad]).is_err(), "payload byte {place}");
    }
    for place in 0..512 {
        let mut bad = good.clone();
        bad.signatures[1].bytes[place / 8] ^= 1 << (place % 8);
        assert!(ask(&[bad]).is_err(), "signature bit {place}");
    }
}

/// What an adversary who holds some keys can put into a signature.
#[derive(Debug, Clone)]
enum Trick {
    Honest,
    NamedAs(u8),
    Unnamed,
    OverOther,
    UnderOtherType,
}

fn trick() -> impl Strategy<Value = Trick> {
    prop_oneof![
        Just(Trick::Honest),
        (1u8..=5).prop_map(Trick::NamedAs),
        Just(Trick::Unnamed),
        Just(Trick::OverOther),
        Just(Trick::UnderOtherType),
    ]
}

proptest! {
    /// Whoever holds fewer keys than the threshold certifies nothing, however often and under whatever names they
    /// sign; whoever holds as many does.
    #[test]
    fn fewer_keys_than_the_threshold_never_pass(
        threshold in 1u32..=5,
        held in proptest::sample::subsequence(vec![1u8, 2, 3, 4, 5], 0..=5),
        tricks in proptest::collection::vec((any::<prop::sample::Index>(), trick()), 0..12),
    ) {
        let mut trusted = trusted();
        let steward = |seed: u8| Steward {
            name: format!("s{seed}"), body: "lab".into(), key: PublicKey::Ed25519(key(seed).public()),
        };
        trusted.charter.stewards = (1..=5).map(steward).collect();
        let names: Vec<String> = trusted.charter.stewards.iter().map(|steward| steward.name.clone()).collect();
        trusted.charter.certify = vec![Mandate { region: Region::any(), threshold, stewards: names.clone() }];
        trusted.charter.revoke = names;
        prop_assert_eq!(trusted.charter.check(), Ok(()));
        let good = certification(&trusted.charter);
        let other = changed(|c| c.workload = Digest([9; 32])).to_json();
        let mut envelopes = Vec::new();
        let mut honest = BTreeSet::new();
        for (who, trick) in tricks.iter().filter(|_| !held.is_empty()) {
            let seed = held[who.index(held.len())];
            let mut envelope = envelope(&good, &[seed]);
            match trick {
                Trick::Honest => { honest.insert(seed); }
                Trick::NamedAs(name) => {
                    envelope.signatures[0].key = Some(PublicKey::Ed25519(key(*name).public()).id());
                    if *name == seed { honest.insert(seed); }
                }
                Trick::Unnamed => envelope.signatures[0].key = None,
                Trick::OverOther => {
                    envelope.payload = other.clone();
                    envelope.signatures.clear();
                    sign(&mut envelope, seed);
                    envelope.payload = good.to_json();
                }
                Trick::UnderOtherType => envelope.payload_type.push('2'),
            }
            envelopes.push(envelope);
        }
        let answer = decide(&trusted, now(), &facts(), &envelopes, &policy());
        prop_assert_eq!(answer.is_ok(), honest.len() >= threshold as usize, "{:?}", answer);
        if let Ok(certified) = answer {
            prop_assert_eq!(certified.by.len(), honest.len());
        }
    }
}
