//! How fast a pool's published files are audited, and how large they are: `cargo run --release -p caii-audit --example
//! rate [RECEIPTS]`.

#[path = "../tests/audit/sample.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod sample;

use caii_audit::{Check, Kind, MemoryFiles, Options, Publisher, Signers, audit};
use caii_model::{Digest, VerificationPolicy};
use caii_trust::{ReadyKey, Signed, verify_all};
use sample::{Sample, Work, charter, cosign, log_signer, policy, pool_file, pool_key};
use std::collections::BTreeMap;

const BAR: u64 = 20_000;
const PEER: u64 = 40_000;
const DEVICES: u32 = 50;

fn main() {
    let argument = std::env::args().nth(1).map(|text| text.parse().expect("a number of receipts"));
    let receipts: u32 = argument.unwrap_or(200_000);
    #[expect(clippy::disallowed_methods, reason = "this measures; the crate itself reads no clock")]
    let clock = std::time::Instant::now;

    let mut pool = Sample::new();
    pool.tariff(1, 0);
    pool.certify(caii_model::Timestamp(sample::START - 86_400_000), &[150, 152]);
    let devices: Vec<usize> = (0..DEVICES).map(|number| pool.enrol(&format!("member{number}"))).collect();
    pool.grant("req", 1_000_000_000);
    let log = log_signer();
    let key = pool_key();
    let signers = Signers { log: &[&log], pool: &key };
    let (mut publisher, mut files) = (Publisher::new(pool_file()), MemoryFiles::default());
    let mut publish = |pool: &mut Sample, number: u64| {
        let events = std::mem::take(&mut pool.events);
        let published = publisher.append(&events, &Digest::of(&number.to_le_bytes()).0, signers).expect("it can be");
        for file in published.files {
            files.0.insert(file.path, file.bytes);
        }
        publisher = published.publisher.clone();
    };
    // Jobs of a thousand tasks; a secret for each. All devices are known well, so one item in a hundred is audited.
    let jobs = receipts.div_ceil(1_000);
    for job in 1..=u64::from(jobs) {
        pool.commit();
        if job > 1 {
            pool.reveal(job - 1);
        }
        pool.reserve(job, "req", 10_000);
        for task in 0..1_000 {
            let device = devices[(task % DEVICES) as usize];
            let policy = VerificationPolicy::Audit;
            pool.work(Work { device, job, task, items: 100, policy, probation: false, audit: false });
        }
        for of in 0..DEVICES {
            let (of, auditor) = (devices[of as usize], devices[((of + 1) % DEVICES) as usize]);
            pool.audit(job, of, auditor, 1_000 + of as u32);
        }
        // By then its last claims were followed by as many audits as make them final.
        if job > 2 {
            pool.give_back(job - 2);
        }
        publish(&mut pool, job);
    }
    // What is kept: a partial file goes when a fuller one of its name is there.
    let mut widest: BTreeMap<String, u64> = BTreeMap::new();
    let width = |path: &str| path.split_once(".p/").map_or(256, |(_, width)| width.parse().expect("a width"));
    let name = |path: &str| path.split_once(".p/").map_or(path, |(name, _)| name).to_owned();
    for path in files.0.keys() {
        let known = widest.entry(name(path)).or_default();
        *known = (*known).max(width(path));
    }
    files.0.retain(|path, _| widest[&name(path)] == width(path));
    cosign(&mut files, &sample::WITNESSES);
    let (charter, policy) = (charter(), policy());
    let options = Options { policy: Some(&policy), charter: Some(&charter), ..Options::default() };
    let start = clock();
    let report = audit(&files, &options).expect("the files can be read");
    let seconds = start.elapsed().as_secs_f64();
    assert!(report.is_green(), "{report}");
    let audited = report.entries[&Kind::Receipt];
    let rate = audited as f64 / seconds;
    let bytes: usize = files.0.values().map(Vec::len).sum();
    let of = |prefix: &str| {
        let sizes = files.0.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, bytes)| bytes.len());
        sizes.sum::<usize>() as f64 / audited as f64
    };
    println!("{report}");
    println!(
        "published: {:.1} MB per million receipts ({} entries; a receipt takes {:.0} bytes of openings, {:.0} of entries, {:.0} of tiles)",
        bytes as f64 / audited as f64,
        report.tree.size,
        of("opening/"),
        of("tile/entries/"),
        of("tile/") - of("tile/entries/"),
    );
    println!(
        "audit: {seconds:.2} s for {audited} receipts, {} signatures among them",
        report.outcomes[&Check::ClaimSignatures].good
    );
    let alone = signatures_alone(clock);
    println!("ed25519 batched alone: {alone:.0} signatures/s");
    println!("P12: {rate:.0} receipts/s | bar {BAR} | peer {PEER} (ed25519 batched alone)");
}

/// As many signatures as make a batch, again and again.
fn signatures_alone(clock: fn() -> std::time::Instant) -> f64 {
    let signed: Vec<Signed> = (0..1_024u32)
        .map(|number| {
            let (key, digest) = (sample::key((number % 50) as u8 + 1), Digest::of(&number.to_le_bytes()));
            let signature = key.sign("claim", &digest);
            Signed { key: ReadyKey::new(&key.public()).expect("it is one"), domain: "claim", digest, signature }
        })
        .collect();
    let start = clock();
    for _ in 0..20 {
        assert!(verify_all(&signed).is_empty());
    }
    20.0 * 1_024.0 / start.elapsed().as_secs_f64()
}
