//! Writes the seeds of every target to `corpus-seeds/`; with `--check`, says what there is not as it would be written.
//!
//! A fuzzer like the others, because instrumented code links with nothing else: its initialiser does it and leaves.

#![no_main]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

libfuzzer_sys::fuzz_target!(init: leave(), |_bytes: &[u8]| ());

/// Never returns: what it ends with is the exit code.
fn leave() {
    std::process::exit(seeds());
}

fn seeds() -> i32 {
    let check = std::env::args().nth(1).as_deref() == Some("--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus-seeds");
    let mut wrong = 0;
    let mut known = BTreeSet::new();
    for (target, name, bytes) in caii_fuzz::seeds::all() {
        let path = root.join(target).join(name);
        known.insert(path.clone());
        if check {
            if fs::read(&path).ok().as_ref() != Some(&bytes) {
                eprintln!("seeds: {} is not what the generator makes", path.display());
                wrong += 1;
            }
            continue;
        }
        fs::create_dir_all(root.join(target)).expect("the directory can be made");
        fs::write(&path, bytes).expect("a seed can be written");
    }
    for target in fs::read_dir(&root).expect("there are seeds") {
        for seed in fs::read_dir(target.expect("it can be listed").path()).expect("each target has a directory") {
            let path = seed.expect("it can be listed").path();
            if !known.contains(&path) {
                eprintln!("seeds: {} comes from nowhere", path.display());
                wrong += 1;
            }
        }
    }
    i32::from(wrong > 0)
}
