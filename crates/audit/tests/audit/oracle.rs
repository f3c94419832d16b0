//! The audit once more in Python: the same checks find the same rows, in a good pool and in tampered ones.

use crate::sample::{policy, publish, small};
use crate::tampering::{look, tampered};
use caii_audit::{Check, MemoryFiles, Report};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Ways to tamper that concern what the Python audit looks at.
const WAYS: [&str; 14] = [
    "an entry's bit is flipped",
    "a receipt's bit is flipped in its opening",
    "the pool's signature over a bundle is changed",
    "a receipt is left out",
    "a receipt is moved back in time",
    "the claim's signature is changed",
    "a reward is lower than the tariff says",
    "a tariff is applied before its date",
    "a certification begins later than what it is for",
    "an amount of a posting is changed",
    "less is released than was held back",
    "another item is audited than was drawn",
    "a device is convicted for nothing",
    "a payout pays more than is payable",
];

fn python(files: &MemoryFiles) -> BTreeMap<String, Option<u64>> {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in &files.0 {
        let at = dir.path().join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, bytes).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/audit.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(dir.path());
    for key in policy().logs().iter().map(|log| &log.key).chain(policy().witnesses().iter().map(|one| &one.key)) {
        command.arg("--key").arg(key.to_string());
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let wrong = said["wrong"].as_object().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!wrong.is_empty())));
    wrong.iter().map(|(check, index)| (check.clone(), index.as_u64())).collect()
}

fn rust(report: &Report) -> BTreeMap<String, Option<u64>> {
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
    let sample = small();
    let files = publish(&sample.events, &sample.payouts, 100).files;
    assert_eq!(python(&files), BTreeMap::new());
    std::thread::scope(|scope| {
        for names in WAYS.chunks(WAYS.len().div_ceil(2)) {
            scope.spawn(move || {
                for name in names {
                    let (files, check, index) = tampered(name);
                    let (mine, theirs) = (rust(&look(&files, None)), python(&files));
                    assert_eq!(theirs.get(check.as_str()).copied().flatten(), index, "{name}: {theirs:?}");
                    // A tile that is wrong ends the Python audit.
                    if check != Check::Tiles {
                        assert_eq!(mine, theirs, "{name}");
                    }
                }
            });
        }
    });
}
