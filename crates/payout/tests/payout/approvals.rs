use crate::{account, batch};
use caii_payout::{Approvers, ApproversInvalid, NotApproved, PAYLOAD_TYPE, Rejected, Statement, csv, pain001};
use caii_trust::{Envelope, PublicKey, SignatureError, SigningKey};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

fn public(seed: u8) -> PublicKey {
    PublicKey::Ed25519(key(seed).public())
}

fn people() -> [(String, PublicKey); 3] {
    [("alice".to_owned(), public(1)), ("bob".to_owned(), public(2)), ("carol".to_owned(), public(3))]
}

fn statement() -> Statement {
    let batch = batch();
    Statement::new(&batch, &pain001::write(&batch).unwrap(), csv(&batch).as_bytes())
}

fn sign(envelope: &mut Envelope, seed: u8) {
    let signature = key(seed).sign_message(&envelope.signed_bytes());
    envelope.add(public(seed).id(), signature.to_vec());
}

fn signed(seeds: &[u8]) -> Envelope {
    let mut envelope = statement().envelope();
    seeds.iter().for_each(|seed| sign(&mut envelope, *seed));
    Envelope::from_json(&envelope.to_json()).unwrap()
}

#[test]
fn the_statement_says_what_a_person_compares() {
    let text = String::from_utf8(statement().to_json()).unwrap();
    let digests = [statement().pain001, statement().csv].map(|digest| digest.to_string());
    assert_eq!(
        text,
        format!(
            "{{\"format\":\"caii-payout/1\",\"pool\":\"pool_abababababababab\",\"run\":7,\"pain001\":\"{}\",\
             \"csv\":\"{}\",\"payments\":2,\"currency\":\"EUR\",\"total\":\"21.23\"}}",
            digests[0], digests[1]
        )
    );
}

#[test]
fn as_many_different_people_as_it_takes() {
    let approvers = Approvers::new(2, people()).unwrap();
    let approved = |envelope: &Envelope| approvers.approved(&statement(), envelope);
    assert_eq!(approved(&signed(&[3, 1])), Ok(vec!["alice".into(), "carol".into()]));
    let few = |signed: &[&str], rejected: Vec<Rejected>| {
        let signed = signed.iter().map(|name| (*name).to_owned()).collect();
        Err(NotApproved::TooFew { needed: 2, signed, rejected })
    };
    assert_eq!(approved(&signed(&[])), few(&[], vec![]));
    assert_eq!(approved(&signed(&[1])), few(&["alice"], vec![]));
    // A stranger does not count.
    assert_eq!(approved(&signed(&[1, 9])), few(&["alice"], vec![Rejected { name: None, error: None }]));
    // One person twice does not either, and her name on another key's signature is seen through.
    let mut twice = signed(&[1]);
    twice.signatures.push(twice.signatures[0].clone());
    assert_eq!(approved(&twice), few(&["alice"], vec![]));
    let mut aliased = signed(&[1]);
    let bytes = aliased.signatures[0].bytes.clone();
    aliased.add(public(2).id(), bytes);
    let rejected = Rejected { name: Some("bob".into()), error: Some(SignatureError::Mismatch) };
    assert_eq!(approved(&aliased), few(&["alice"], vec![rejected]));
    assert_eq!(
        approved(&aliased).unwrap_err().to_string(),
        "1 of 2 approvals (alice); of bob: the signature does not belong to this key, purpose and content"
    );
}

#[test]
fn approval_is_of_these_files_alone() {
    let approvers = Approvers::new(2, people()).unwrap();
    let envelope = signed(&[1, 2, 3]);
    let mut other = batch();
    other.payments[0].account = account("mallory");
    let files = Statement::new(&batch(), &pain001::write(&batch()).unwrap(), csv(&other).as_bytes());
    assert_eq!(approvers.approved(&files, &envelope), Err(NotApproved::OtherFiles), "another line in the CSV");

    let mut retyped = envelope.clone();
    retyped.payload_type = "application/vnd.in-toto+json".into();
    assert!(matches!(approvers.approved(&statement(), &retyped), Err(NotApproved::PayloadType(_))));
    // Signed as something else, then relabelled: the type is signed too.
    let mut relabelled = Envelope::unsigned("text/plain", statement().to_json());
    [1, 2].into_iter().for_each(|seed| sign(&mut relabelled, seed));
    relabelled.payload_type = PAYLOAD_TYPE.into();
    let refused = approvers.approved(&statement(), &relabelled);
    assert!(matches!(refused, Err(NotApproved::TooFew { ref signed, .. }) if signed.is_empty()), "{refused:?}");
}

#[test]
fn approvers_are_different_people() {
    let threshold = |threshold| Err(ApproversInvalid::Threshold { threshold, people: 3 });
    assert_eq!(Approvers::new(0, people()), threshold(0));
    assert_eq!(Approvers::new(4, people()), threshold(4));
    let [alice, bob, _] = people();
    let same_key = [alice.clone(), ("bob".to_owned(), public(1))];
    assert_eq!(Approvers::new(2, same_key), Err(ApproversInvalid::Twice("bob".into())));
    let same_name = [alice, ("alice".to_owned(), bob.1)];
    assert_eq!(Approvers::new(2, same_name), Err(ApproversInvalid::Twice("alice".into())));
}
