//! The audit once more in Python: the same checks find the same rows, in a good pool and in tampered ones.

use crate::sample::{policy, publish, small};
use crate::tampering::{look, names, tampered};
use caii_audit::{Check, MemoryFiles, Report};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Ways to tamper that concern what the Python audit leaves out, and says so: witnesses, stewards' signatures, and files
/// of tariffs and payouts.
const LEFT_OUT: [&str; 8] = [
    "a cosignature is missing",
    "a cosignature is by a stranger",
    "a tariff's coefficient is changed in its file",
    "a tariff's file is missing",
    "a payment in the bank's file is changed",
    "a payment is left out of the ISO 20022 file",
    "a certification is signed by too few stewards",
    "a certification is signed by strangers",
];

/// The checks that find something wrong, each with the first row.
type Wrong = BTreeMap<String, Option<u64>>;

/// What the Python audit finds in each of these.
fn python(pools: &[MemoryFiles]) -> Vec<Wrong> {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/audit.py");
    let mut command = Command::new("python3");
    command.arg(script);
    for (number, files) in pools.iter().enumerate() {
        let pool = dir.path().join(number.to_string());
        for (path, bytes) in &files.0 {
            let at = pool.join(path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(at, bytes).unwrap();
        }
        command.arg(pool);
    }
    for key in policy().logs().iter().map(|log| &log.key).chain(policy().witnesses().iter().map(|one| &one.key)) {
        command.arg("--key").arg(key.to_string());
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let read = |line: &str| {
        let said: serde_json::Value = serde_json::from_str(line).unwrap();
        let wrong = said["wrong"].as_object().unwrap();
        wrong.iter().map(|(check, index)| (check.clone(), index.as_u64())).collect()
    };
    let said: Vec<Wrong> = text.lines().map(read).collect();
    assert_eq!(said.len(), pools.len(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(i32::from(said.iter().any(|wrong| !wrong.is_empty()))));
    said
}

fn rust(report: &Report) -> Wrong {
    let wrong = report.outcomes.iter().filter_map(|(check, outcome)| Some((check, outcome.first.as_ref()?)));
    // Left out there, or summed otherwise.
    let other = [Check::TrialBalance, Check::Consistency, Check::Inclusion];
    wrong
        .filter(|(check, _)| !other.contains(check))
        .map(|(check, first)| (check.as_str().into(), first.index))
        .collect()
}

#[test]
fn python_finds_the_same_rows() {
    let names: Vec<&str> = names().into_iter().filter(|name| !LEFT_OUT.contains(name)).collect();
    std::thread::scope(|scope| {
        for names in names.chunks(names.len().div_ceil(2)) {
            scope.spawn(move || {
                let pools: Vec<(MemoryFiles, Check, Option<u64>)> = names.iter().map(|name| tampered(name)).collect();
                let files: Vec<MemoryFiles> = pools.iter().map(|(files, ..)| files.clone()).collect();
                for ((name, theirs), (files, check, index)) in names.iter().zip(python(&files)).zip(pools) {
                    assert_eq!(theirs.get(check.as_str()).copied().flatten(), index, "{name}: {theirs:?}");
                    // A log or tile that is wrong ends the Python audit.
                    if ![Check::Tiles, Check::Checkpoint].contains(&check) {
                        assert_eq!(rust(&look(&files, None)), theirs, "{name}");
                    }
                }
            });
        }
    });
}

/// The good pool, and what is left when single entries of it are erased.
#[test]
fn python_finds_nothing_where_nothing_is_wrong() {
    let sample = small();
    let published = publish(&sample.events, &sample.payouts, 100);
    let mut pools = vec![published.files.clone()];
    for index in (1..sample.events.len()).step_by(23) {
        let mut files = published.files.clone();
        let (_, file) = published.publisher.clone().erase(&files, index as u64).unwrap();
        files.0.insert(file.path, file.bytes);
        pools.push(files);
    }
    let count = pools.len();
    assert_eq!(python(&pools), vec![Wrong::new(); count]);
}
