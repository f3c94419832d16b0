//! Every way to tamper with what a pool published is found, and named.

use crate::sample::{WITNESSES, charter, cosign, key, log_signer, policy, pool_file, pool_key, publish, small};
use crate::ways::Way::*;
use crate::ways::*;
use caii_audit::{Asked, Check, Kind, MemoryFiles, Options, Publisher, Report, Signers, audit};
use std::collections::BTreeMap;

pub(crate) fn look(files: &MemoryFiles, last: Option<&[u8]>) -> Report {
    let (charter, policy) = (charter(), policy());
    let options = Options { policy: Some(&policy), charter: Some(&charter), last, ..Options::default() };
    audit(files, &options).unwrap()
}

/// As [`publish`], by whoever has the pool's keys and does not care about times.
fn publish_anyhow(events: &Events, payouts: &BTreeMap<String, Vec<u8>>, pool: &caii_trust::SigningKey) -> MemoryFiles {
    let log = log_signer();
    let signers = Signers { log: &[&log], pool };
    let published = Publisher::new(pool_file()).append_anyhow(events, &[1; 32], signers).unwrap();
    let mut files = MemoryFiles(payouts.clone());
    files.0.extend(published.files.into_iter().map(|file| (file.path, file.bytes)));
    cosign(&mut files, &WITNESSES);
    files
}

/// The files after one of the ways to tamper, what is wrong then, and where.
pub(crate) fn tampered(name: &str) -> (MemoryFiles, Check, Option<u64>) {
    let (_, check, way) = WAYS.iter().find(|(known, ..)| *known == name).expect("there is such a way");
    let sample = small();
    match way {
        Files(change) => {
            let mut files = publish(&sample.events, &sample.payouts, 100).files;
            let index = change(&mut files);
            (files, *check, index)
        }
        Pool(change) => {
            let mut events = sample.events;
            let index = change(&mut events);
            (publish_anyhow(&events, &sample.payouts, &pool_key()), *check, Some(index))
        }
        Later(_) => panic!("{name} takes a checkpoint that was seen before"),
    }
}

#[test]
fn every_way_of_tampering_is_named() {
    let sample = small();
    let published = publish(&sample.events, &sample.payouts, 100);
    assert!(look(&published.files, None).is_green());
    let mut missed = Vec::new();
    for (name, check, way) in WAYS {
        let (report, index) = match way {
            Files(change) => {
                let mut files = published.files.clone();
                let index = change(&mut files);
                (look(&files, None), index)
            }
            Pool(change) => {
                let mut events = sample.events.clone();
                let index = change(&mut events);
                let signer = if events == sample.events { key(42) } else { pool_key() };
                (look(&publish_anyhow(&events, &sample.payouts, &signer), None), Some(index))
            }
            Later(change) => {
                let (files, last) = change(&sample, &published);
                (look(&files, Some(&last)), None)
            }
        };
        let first = report.outcomes.get(check).and_then(|outcome| outcome.first.clone());
        let said = first.as_ref().map_or("nothing".into(), |wrong| {
            let index = wrong.index.map_or("-".into(), |index| index.to_string());
            format!("{index} {}: {}", wrong.file, wrong.why)
        });
        println!("{name} → {}: {said}", check.as_str());
        let right_row = |wrong: &caii_audit::Wrong| index.is_none() || wrong.index == index;
        if report.is_green() || !first.as_ref().is_some_and(right_row) {
            let wrong: Vec<&str> = report.wrong().into_iter().map(Check::as_str).collect();
            missed.push(format!("{name}: expected {} at {index:?}, found {wrong:?}, {said}", check.as_str()));
        }
    }
    println!("{} ways to tamper", WAYS.len());
    assert!(WAYS.len() >= 40);
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// A receipt and a device's enrolment are erased: the log verifies, and the audit says what nobody can check any more.
#[test]
fn what_was_erased_is_said_and_not_wrong() {
    let sample = small();
    let published = publish(&sample.events, &sample.payouts, 100);
    let (mut files, mut publisher) = (published.files, published.publisher);
    let erased =
        [nth(&sample.events, Kind::Receipt, 20), nth(&sample.events, Kind::DeviceEnrolled, 2), sample.events.len() - 3];
    for index in erased {
        let (next, file) = publisher.erase(&files, index as u64).unwrap();
        files.0.insert(file.path, file.bytes);
        publisher = next;
    }
    let report = look(&files, None);
    assert!(report.is_green(), "{report}");
    assert_eq!(report.erased.values().sum::<u64>(), 3);
    assert_eq!(report.outcomes[&Check::Openings].uncheckable, 3);
    assert!(report.outcomes[&Check::ClaimSignatures].uncheckable > 0, "{report}");
    assert!(report.outcomes[&Check::Sequences].uncheckable > 0, "{report}");
    // And what the pool appends afterwards does not bring it back.
    let again = Publisher::take_up(pool_file(), &files).unwrap();
    assert_eq!(again, publisher);
}

/// A contributor's count is more than the log has.
#[test]
fn a_contributor_finds_what_is_left_out_at_the_end() {
    let sample = small();
    let files = publish(&sample.events, &sample.payouts, 100).files;
    let policy = policy();
    for (claims, green) in [(86, true), (87, false)] {
        let device = Some(Asked { device: sample.id(0), claims: Some(claims) });
        let options = Options { policy: Some(&policy), device, ..Options::default() };
        assert_eq!(audit(&files, &options).unwrap().is_green(), green, "{claims}");
    }
}

/// However events are gathered, the files at the end are the same, and a publisher can go on from them at any point.
#[test]
fn publishing_goes_on_from_the_files_alone() {
    let sample = small();
    let (log, pool) = (log_signer(), pool_key());
    let signers = Signers { log: &[&log], pool: &pool };
    for cut in [1, 255, 256, 257, 600] {
        let before = publish(&sample.events[..cut], &sample.payouts, 100);
        let again = Publisher::take_up(pool_file(), &before.files).unwrap();
        assert_eq!(again, before.publisher, "{cut}");
        let published = again.append(&sample.events[cut..], &[7; 32], signers).unwrap();
        let mut files = before.files;
        assert_eq!(published.files.last().unwrap().path, "checkpoint");
        files.0.extend(published.files.into_iter().map(|file| (file.path, file.bytes)));
        cosign(&mut files, &WITNESSES);
        assert!(look(&files, None).is_green(), "{cut}");
    }
    let late = vec![sample.events[5].clone()];
    let whole = publish(&sample.events, &sample.payouts, 100);
    assert!(whole.publisher.append(&late, &[8; 32], signers).is_err());
}
