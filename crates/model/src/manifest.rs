//! What a workload is: a program, the blobs that it reads, its limits, and how it is metered.

use crate::{Bytes, Digest, Fuel, Millis};

/// A workload's signed description. Its digest ([`Manifest::digest`]) is what jobs and leases name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// For people; 1 to 100 characters.
    pub name: String,
    /// The WebAssembly module's digest.
    pub program: Digest,
    /// The module's size.
    pub program_size: Bytes,
    /// How it is run and compared.
    pub runtime: RuntimeClass,
    /// What one run of the program sees.
    pub scope: Scope,
    /// Read-only files that the program sees under `/data`.
    pub blobs: Vec<BlobRef>,
    /// Command-line arguments after the program's name.
    pub args: Vec<String>,
    /// What a device enforces.
    pub limits: Limits,
    /// How its execution is measured; a device with another meter is refused the work.
    pub meter: MeterId,
}

/// How a workload is run and how its results are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuntimeClass {
    /// A WASI command in wasmtime: deterministic, metered by fuel, compared byte for byte.
    Wasm,
}

/// What one run of the program sees on its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// This many consecutive records (at least 1), each ended by a line feed when there are several.
    Item {
        /// Records in an item; the last item of a task may hold fewer.
        records: u32,
    },
    /// All the records of a task, each ended by a line feed.
    Task,
}

/// A read-only file of a workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobRef {
    /// Its name under `/data`: one path component of ASCII letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its address.
    pub digest: Digest,
    /// Its size.
    pub size: Bytes,
}

/// What a device enforces while the program runs. All are part of the manifest, so every device agrees on whether an
/// item failed; only `wall` depends on the machine and therefore fails the attempt, never the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Units that one item may use.
    pub fuel_per_item: Fuel,
    /// Units that the initialiser may use, once per device.
    pub fuel_init: Fuel,
    /// Linear memory and tables of one instance.
    pub memory: Bytes,
    /// Standard output of one item.
    pub output_per_item: Bytes,
    /// Standard error of one item that is kept; the rest is dropped.
    pub stderr_per_item: Bytes,
    /// Time of one item before the device gives the attempt up. What passes while the device lets it not run (frozen, or
    /// waiting for a CPU that its owner uses) does not count.
    pub wall_per_item: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel_per_item: Fuel(200_000_000_000),
            fuel_init: Fuel(200_000_000_000),
            memory: Bytes::mebi(512),
            output_per_item: Bytes::mebi(4),
            stderr_per_item: Bytes(4096),
            wall_per_item: Millis(120_000),
        }
    }
}

/// The identity of a meter: a digest over the engine's version, its operator cost table and its configuration. Two
/// devices with the same meter count the same fuel for the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeterId(pub Digest);

impl Manifest {
    /// The workload's digest: over every field, in declaration order, lengths included.
    pub fn digest(&self) -> Digest {
        let mut fields: Vec<Vec<u8>> = vec![
            self.name.as_bytes().to_vec(),
            self.program.0.to_vec(),
            number(self.program_size.0),
            match self.runtime {
                RuntimeClass::Wasm => b"wasm".to_vec(),
            },
            match self.scope {
                Scope::Item { records } => number(u64::from(records)),
                Scope::Task => b"task".to_vec(),
            },
            number(self.blobs.len() as u64),
        ];
        for blob in &self.blobs {
            fields.extend([blob.name.as_bytes().to_vec(), blob.digest.0.to_vec(), number(blob.size.0)]);
        }
        fields.push(number(self.args.len() as u64));
        fields.extend(self.args.iter().map(|arg| arg.as_bytes().to_vec()));
        let limits = &self.limits;
        fields.extend([
            number(limits.fuel_per_item.0),
            number(limits.fuel_init.0),
            number(limits.memory.0),
            number(limits.output_per_item.0),
            number(limits.stderr_per_item.0),
            number(limits.wall_per_item.0),
            self.meter.0.0.to_vec(),
        ]);
        let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        Digest::of_fields("caii manifest 1", &fields)
    }
}

fn number(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_reaches_the_digest() {
        let base = Manifest {
            name: "m".into(),
            program: Digest([1; 32]),
            program_size: Bytes(10),
            runtime: RuntimeClass::Wasm,
            scope: Scope::Item { records: 1 },
            blobs: vec![BlobRef { name: "b".into(), digest: Digest([2; 32]), size: Bytes(3) }],
            args: vec!["x".into()],
            limits: Limits::default(),
            meter: MeterId(Digest([3; 32])),
        };
        let changed: Vec<fn(&mut Manifest)> = vec![
            |m| m.name.push('n'),
            |m| m.program.0[0] = 9,
            |m| m.program_size.0 = 11,
            |m| m.scope = Scope::Task,
            |m| m.scope = Scope::Item { records: 2 },
            |m| m.blobs[0].name.push('c'),
            |m| m.blobs[0].digest.0[0] = 9,
            |m| m.blobs[0].size.0 = 4,
            |m| m.blobs.clear(),
            |m| m.args.push(String::new()),
            |m| m.limits.fuel_per_item.0 += 1,
            |m| m.limits.fuel_init.0 += 1,
            |m| m.limits.memory.0 += 1,
            |m| m.limits.output_per_item.0 += 1,
            |m| m.limits.stderr_per_item.0 += 1,
            |m| m.limits.wall_per_item.0 += 1,
            |m| m.meter.0.0[0] = 9,
        ];
        let mut seen = std::collections::BTreeSet::from([base.digest()]);
        for (place, change) in changed.iter().enumerate() {
            let mut manifest = base.clone();
            change(&mut manifest);
            assert!(seen.insert(manifest.digest()), "change {place} is not in the digest");
        }
    }
}
