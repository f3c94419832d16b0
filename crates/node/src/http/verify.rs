//! Whether what a device reports is what it stored, fits the task, and is claimed by its signature.

use caii_model::{Bytes, Claim, Digest, Fuel, ItemOutcome, Lease, Manifest, Scope, SignedClaim, TaskReport};
use caii_store::{BlobError, Blobs};
use caii_wire::limits::TASK_RESULT_MAX;

/// Checks that the holder of the device's key signed the claim to this result.
pub(crate) fn check_claim(
    key: &[u8; 32],
    lease: &Lease,
    manifest: &Manifest,
    report: &TaskReport,
    claim: &SignedClaim,
) -> Result<(), String> {
    let whole = Claim::of(lease, manifest.meter, report, claim.sequence, claim.energy);
    caii_trust::verify(key, Claim::SIGNED_FOR, &whole.digest(), &claim.signature)
        .map_err(|_| "the device did not sign the claim to this result".to_owned())
}

/// Compares a report with the stored result and the task's input. The inner error says what does not fit; the outer
/// one is the pool's own.
pub(crate) fn check_report(
    blobs: &dyn Blobs,
    lease: &Lease,
    manifest: &Manifest,
    report: &TaskReport,
) -> Result<Result<(), String>, BlobError> {
    let bytes = match blobs.read(&report.result, Bytes(TASK_RESULT_MAX as u64)) {
        Ok(bytes) => bytes,
        Err(BlobError::NotFound { .. }) => return Ok(Err("the result was reported but not sent".to_owned())),
        Err(error @ (BlobError::Corrupt { .. } | BlobError::TooLarge { .. })) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error),
    };
    if bytes.len() as u64 != report.size.0 {
        return Ok(Err(format!("the result has {} bytes, not the reported {}", bytes.len(), report.size.0)));
    }
    let outcomes = match caii_wire::decode_task_result(&bytes) {
        Ok(outcomes) => outcomes,
        Err(error) => return Ok(Err(format!("the result cannot be read: {error}"))),
    };
    let start = lease.input.offset;
    let input = match blobs.read_range(&lease.blob, start..start + u64::from(lease.input.len)) {
        Ok(input) => input,
        Err(error @ (BlobError::NotFound { .. } | BlobError::OutOfRange { .. })) => {
            return Ok(Err(format!("the pool lost the task's input: {error}")));
        }
        Err(error) => return Err(error),
    };
    Ok(compare(&input, &outcomes, manifest, lease.input.records, report))
}

fn compare(
    input: &[u8],
    outcomes: &[ItemOutcome],
    manifest: &Manifest,
    records: u32,
    report: &TaskReport,
) -> Result<(), String> {
    let items = items(input, manifest.scope);
    let equal = |what: &str, found: u64, reported: u64| {
        if found == reported { Ok(()) } else { Err(format!("{what}: reported {reported}, found {found}")) }
    };
    equal("items of the task", items.len() as u64, u64::from(report.items))?;
    equal("items in the result", outcomes.len() as u64, u64::from(report.items))?;
    let limits = &manifest.limits;
    for (index, outcome) in outcomes.iter().enumerate() {
        let output = outcome.result.as_ref().map_or(0, |output| output.len() as u64);
        if output > limits.output_per_item.0 || outcome.stderr.len() as u64 > limits.stderr_per_item.0 {
            return Err(format!("item {index} has more output than its manifest allows"));
        }
    }
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count() as u64;
    equal("failed items", failed, u64::from(report.items_failed))?;
    let failed = items.iter().zip(outcomes).filter(|(_, outcome)| outcome.result.is_err());
    let failed: u64 = match manifest.scope {
        Scope::Task => failed.map(|_| u64::from(records)).sum(),
        Scope::Item { .. } => failed.map(|(item, _)| u64::from(item.records)).sum(),
    };
    equal("failed records", failed, u64::from(report.records_failed))?;
    let fuel = outcomes.iter().try_fold(Fuel(0), |sum, outcome| sum.checked_add(outcome.fuel));
    equal("fuel", fuel.ok_or("the fuel of all items overflows")?.0, report.fuel.0)?;
    let leaves = items.iter().map(|item| item.input).zip(outcomes);
    match caii_trust::merkle::task_root(leaves) {
        root if root == report.root => Ok(()),
        root => Err(format!("the commitment does not fit the result: reported {}, found {root}", report.root)),
    }
}

struct Item {
    /// Digest of what the program read.
    input: Digest,
    records: u32,
}

/// The items of a task's records, each ended by a line feed.
fn items(input: &[u8], scope: Scope) -> Vec<Item> {
    let group = match scope {
        Scope::Task => return vec![Item { input: Digest::of(input), records: 0 }],
        Scope::Item { records } => records.max(1) as usize,
    };
    let records: Vec<&[u8]> = input.split_inclusive(|byte| *byte == b'\n').collect();
    let mut start = 0;
    let mut items = Vec::with_capacity(records.len().div_ceil(group));
    for group_records in records.chunks(group) {
        let len: usize = group_records.iter().map(|record| record.len()).sum();
        let bytes = &input[start..start + len];
        start += len;
        // A single record is read without its line end, several with all of theirs.
        let bytes = if group == 1 { bytes.strip_suffix(b"\n").unwrap_or(bytes) } else { bytes };
        items.push(Item { input: Digest::of(bytes), records: group_records.len() as u32 });
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::{ItemError, JailLayers, Limits, MeterId, Millis, RuntimeClass};

    fn manifest(scope: Scope) -> Manifest {
        Manifest {
            name: "m".into(),
            program: Digest([1; 32]),
            program_size: Bytes(1),
            runtime: RuntimeClass::Wasm,
            scope,
            blobs: vec![],
            args: vec![],
            limits: Limits { output_per_item: Bytes(3), ..Limits::default() },
            meter: MeterId(Digest([2; 32])),
        }
    }

    fn outcome(result: Result<&str, ItemError>) -> ItemOutcome {
        ItemOutcome { result: result.map(|text| text.as_bytes().to_vec()), fuel: Fuel(5), stderr: vec![] }
    }

    /// A report that fits these inputs of items and their outcomes.
    fn report(inputs: &[&str], outcomes: &[ItemOutcome], records_failed: u32) -> TaskReport {
        let leaves = inputs.iter().map(|input| Digest::of(input.as_bytes())).zip(outcomes);
        TaskReport {
            root: caii_trust::merkle::task_root(leaves),
            result: Digest([0; 32]),
            size: Bytes(0),
            items: inputs.len() as u32,
            items_failed: outcomes.iter().filter(|outcome| outcome.result.is_err()).count() as u32,
            records_failed,
            fuel: Fuel(5 * outcomes.len() as u64),
            cpu: Millis(1),
            wall: Millis(1),
            jail: JailLayers::ALL,
        }
    }

    #[test]
    fn honest_reports_fit() {
        let (yes, no) = (outcome(Ok("yes")), outcome(Err(ItemError::FuelExhausted)));
        let input = b"a\nb\nc\n";
        let one = Scope::Item { records: 1 };
        let outcomes = [yes.clone(), no.clone(), yes.clone()];
        let fits = report(&["a", "b", "c"], &outcomes, 1);
        assert_eq!(compare(input, &outcomes, &manifest(one), 3, &fits), Ok(()));
        let outcomes = [no.clone(), yes.clone()];
        let fits = report(&["a\nb\n", "c\n"], &outcomes, 2);
        assert_eq!(compare(input, &outcomes, &manifest(Scope::Item { records: 2 }), 3, &fits), Ok(()));
        let fits = report(&["a\nb\nc\n"], std::slice::from_ref(&no), 3);
        assert_eq!(compare(input, &[no], &manifest(Scope::Task), 3, &fits), Ok(()));
    }

    #[test]
    fn every_lie_is_found() {
        let outcomes = [outcome(Ok("yes")), outcome(Err(ItemError::Exit(1)))];
        let fits = report(&["a", "b"], &outcomes, 1);
        let manifest = manifest(Scope::Item { records: 1 });
        let lies: [fn(&mut TaskReport); 5] = [
            |report| report.items += 1,
            |report| report.items_failed = 0,
            |report| report.records_failed = 2,
            |report| report.fuel.0 -= 1,
            |report| report.root.0[0] ^= 1,
        ];
        for (place, lie) in lies.iter().enumerate() {
            let mut lying = fits;
            lie(&mut lying);
            assert!(compare(b"a\nb\n", &outcomes, &manifest, 2, &lying).is_err(), "lie {place}");
        }
        assert!(compare(b"a\nx\n", &outcomes, &manifest, 2, &fits).is_err(), "other input");
        assert!(compare(b"a\nb\nc\n", &outcomes, &manifest, 3, &fits).is_err(), "an item too few");
        let changed = [outcome(Ok("no")), outcomes[1].clone()];
        assert!(compare(b"a\nb\n", &changed, &manifest, 2, &fits).is_err(), "other output");
        let long = [outcome(Ok("long")), outcomes[1].clone()];
        let of_long = report(&["a", "b"], &long, 1);
        assert!(compare(b"a\nb\n", &long, &manifest, 2, &of_long).unwrap_err().contains("more output"));
    }
}
