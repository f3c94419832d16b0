//! The file against the schema of ISO 20022 itself, by a validator that shares nothing with the writer.

use crate::{IBANS, batch, payable, payee, spec};
use caii_payout::{Batch, BatchSpec, Currency, Payable, pain001};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What the schema says of each file: `valid`, or what is wrong.
fn validated(files: &[String]) -> Vec<String> {
    let found = Command::new(format!("{REPO}/scripts/payout-validator.sh")).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let python = String::from_utf8(found.stdout).unwrap();
    let mut validator = Command::new(python.trim())
        .arg(format!("{REPO}/tests/payout/validate.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = validator.stdin.take().unwrap();
    let documents = files.iter().map(|file| file.clone() + "\0").collect::<String>();
    // What it writes fits into the pipe: a line for each file.
    stdin.write_all(documents.as_bytes()).unwrap();
    drop(stdin);
    let output = validator.wait_with_output().unwrap();
    assert!(output.status.success());
    let verdicts: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(verdicts.len(), files.len());
    verdicts
}

fn written(batch: &Batch) -> String {
    String::from_utf8(pain001::write(batch).unwrap()).unwrap()
}

#[test]
fn files_are_valid() {
    let none = BTreeSet::new();
    let no_banks = BatchSpec { debtor: payee("P", "DE02120300000000202051", None), ..spec() };
    let bare = Batch::new(no_banks, &[payable("a", 10_000, payee("A", IBANS[1], None))], &none).unwrap();
    let mut files = vec![written(&batch()), written(&bare)];
    for currency in Currency::ALL {
        let many: Vec<Payable> =
            (1..=50).map(|n| payable(&format!("m{n}"), 999_999_999 * n, payee("M", IBANS[2], None))).collect();
        files.push(written(&Batch::new(BatchSpec { currency, ..spec() }, &many, &none).unwrap()));
    }
    assert_eq!(validated(&files), vec!["valid"; files.len()]);
}

/// Each with a part of what the schema says of it, so that none is refused for another's fault.
#[test]
fn mutants_are_not() {
    let good = written(&batch());
    let long = "x".repeat(36);
    let mutants = [
        ("<IBAN>DE89", "<IBAN>de89", "'de89370400440532013000' is not accepted by the pattern"),
        (">20.00<", ">20.000001<", "more fractional digits than are allowed ('5')"),
        ("<EndToEndId>abababababababab-7-1</EndToEndId>", "", "PmtId': Missing child element(s)"),
        ("<PmtMtd>TRF</PmtMtd>", "", "This element is not expected. Expected is ( {urn"),
        ("<PmtMtd>TRF<", "<PmtMtd>XXX<", "The value 'XXX' is not an element of the set {'CHK', 'TRF', 'TRA'}"),
        ("<MsgId>abababababababab-7<", &format!("<MsgId>{long}<"), "exceeds the allowed maximum length of '35'"),
        ("Ccy=\"EUR\"", "Ccy=\"eur\"", "attribute 'Ccy': [facet 'pattern'] The value 'eur'"),
        (">2026-11-26<", ">26.11.2026<", "'26.11.2026' is not a valid value of the atomic type"),
        ("<GrpHdr>", "<GrpHdr><Evil>1</Evil>", "Evil': This element is not expected"),
        ("pain.001.001.09\"", "pain.001.001.03\"", "No matching global declaration available"),
    ];
    let mut files: Vec<String> = Vec::new();
    for (from, to, _) in &mutants {
        assert!(good.contains(from), "{from}");
        files.push(good.replacen(from, to, 1));
        // The reader does not leave any of them to the schema.
        assert!(pain001::check(files.last().unwrap().as_bytes(), &batch()).is_err(), "{to}");
    }
    // In another order everything is there for the reader: that is the schema's.
    let method = "<PmtMtd>TRF</PmtMtd>\n      <NbOfTxs>2</NbOfTxs>";
    assert!(good.contains(method));
    files.push(good.replacen(method, "<NbOfTxs>2</NbOfTxs><PmtMtd>TRF</PmtMtd>", 1));
    let expected = mutants.iter().map(|(_, _, expected)| *expected).chain(["NbOfTxs': This element is not expected"]);
    for (verdict, expected) in validated(&files).iter().zip(expected) {
        assert!(verdict.contains(expected), "{expected}: {verdict}");
    }
}
