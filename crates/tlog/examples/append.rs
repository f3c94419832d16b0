//! How fast a log takes entries: `cargo run --release -p caii-tlog --example append [ENTRIES]`.

use caii_model::Digest;
use caii_tlog::{Log, MemoryTiles, fsck, prove_inclusion};

/// From single receipts to what a busy pool gathers in a second.
const BATCHES: [u64; 4] = [1, 64, 1_000, 20_000];

fn main() {
    let argument = std::env::args().nth(1).map(|text| text.parse().expect("a number of entries"));
    let entries: u64 = argument.unwrap_or(1_000_000);
    #[expect(clippy::disallowed_methods, reason = "this measures; the crate itself reads no clock")]
    let clock = std::time::Instant::now;
    for batch in BATCHES {
        // Single entries write their partial files each time, so fewer of them say as much.
        let size = if batch == 1 { entries / 10 } else { entries };
        let mut log = Log::default();
        let mut files = MemoryTiles::default();
        let (mut written, mut bytes_written) = (0u64, 0u64);
        let mut index = 0;
        let start = clock();
        while index < size {
            let end = size.min(index + batch);
            let batch: Vec<Digest> = (index..end).map(|index| Digest::of(&index.to_be_bytes())).collect();
            let appended = log.append(&batch).expect("a log has room for more");
            log = appended.log;
            for (tile, bytes) in appended.files {
                written += 1;
                bytes_written += bytes.len() as u64;
                files.0.insert(tile, bytes);
            }
            index = end;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "append: {:.0} leaves/s ({size} leaves in batches of {batch}: {seconds:.2} s, {written} files, {:.1} MB written)",
            size as f64 / seconds,
            bytes_written as f64 / 1e6,
        );
        if batch == BATCHES[BATCHES.len() - 1] {
            // What is published in the end: each file once, without the partial ones that later ones replace.
            let kept: u64 = caii_tlog::tiles_of(size).map(|tile| files.0[&tile].len() as u64).sum();
            println!("published: {:.2} MB for {size} leaves", kept as f64 / 1e6);
            let start = clock();
            let checked = fsck(&files, &log.tree()).expect("the log is good");
            println!("fsck: {:.0} leaves/s", checked.entries as f64 / start.elapsed().as_secs_f64());
            let start = clock();
            for index in (0..size).step_by((size / 1_000).max(1) as usize) {
                let proof = prove_inclusion(&log.tree(), index, &files);
                assert!(proof.is_ok(), "{proof:?}");
            }
            println!("prove_inclusion: {:.0} µs", start.elapsed().as_micros() as f64 / 1_000.0);
        }
    }
}
