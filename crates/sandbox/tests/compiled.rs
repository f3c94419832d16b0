//! Programs as toolchains make them, in Rust and in C, under the guest contract. `scripts/build-guests.sh` makes them.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use caii_model::{BlobRef, Bytes, Digest, Fuel, ItemError, ItemOutcome, Limits, Manifest, Millis, RuntimeClass, Scope};
use caii_model::{TrapKind, TrapKind::*};
use caii_sandbox::{Program, meter_id};
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

const GREETING: &[u8] = b"hello from a blob";

/// The program of this name with [`GREETING`] as `/data/greeting`.
fn program(name: &str) -> Program {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let build = std::env::var_os("CAII_BUILD_DIR").map_or_else(|| root.join("build"), PathBuf::from);
    let path = build.join("guests").join(name).with_extension("wasm");
    let wasm = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; scripts/build-guests.sh makes it", path.display());
    });
    let manifest = Manifest {
        name: name.into(),
        program: Digest::of(&wasm),
        program_size: Bytes(wasm.len() as u64),
        runtime: RuntimeClass::Wasm,
        scope: Scope::Item { records: 1 },
        blobs: vec![BlobRef {
            name: "greeting".into(),
            digest: Digest::of(GREETING),
            size: Bytes(GREETING.len() as u64),
        }],
        args: vec!["--flag".into(), "ü".into()],
        limits: Limits {
            fuel_per_item: Fuel(1_000_000_000),
            fuel_init: Fuel(1_000_000_000),
            memory: Bytes::mebi(64),
            output_per_item: Bytes::mebi(1),
            stderr_per_item: Bytes(200),
            wall_per_item: Millis(120_000),
        },
        meter: meter_id(),
    };
    let mut blob = tempfile::tempfile().unwrap();
    blob.write_all(GREETING).unwrap();
    let blobs: Vec<File> = vec![blob];
    Program::prepare(&manifest, &wasm, blobs).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Both programs of the contract that do the same, one from Rust and one from C.
fn both(name: &str) -> [(String, Program); 2] {
    [format!("contract-{name}"), format!("contract-c-{name}")].map(|name| {
        let program = program(&name);
        (name, program)
    })
}

fn run(program: &Program, item: impl AsRef<[u8]>) -> ItemOutcome {
    program.run(item.as_ref().to_vec()).unwrap()
}

fn output(program: &Program, item: impl AsRef<[u8]>) -> String {
    String::from_utf8(run(program, item).result.unwrap()).unwrap()
}

#[test]
fn echo_gives_back_every_byte() {
    let large = vec![b'x'; 1 << 20];
    for (name, program) in both("echo") {
        for item in [&b""[..], b"one\nline", b"\0\xff\xfe", &large] {
            assert_eq!(run(&program, item).result.as_deref(), Ok(item), "{name}");
        }
    }
}

#[test]
fn an_exit_code_fails_the_item_with_what_was_said() {
    for (name, program) in both("exit") {
        assert_eq!(output(&program, "0"), "written before exit", "{name}");
        let outcome = run(&program, "7");
        assert_eq!(outcome.result, Err(ItemError::Exit(7)), "{name}");
        assert_eq!(outcome.stderr, b"exiting with 7", "{name}");
    }
}

#[test]
fn traps_fail_the_item_by_kind() {
    let check = |name: &str, cases: &[(&str, TrapKind)]| {
        let program = program(name);
        for (item, kind) in cases {
            let outcome = run(&program, item);
            assert_eq!(outcome.result, Err(ItemError::Trap(*kind)), "{name} {item}");
            assert_eq!(outcome.fuel, ItemError::TRAP_CHARGE, "{name} {item}");
        }
    };
    check(
        "contract-trap",
        &[("unreachable", Unreachable), ("memory", OutOfBounds), ("stack", StackOverflow), ("panic", Unreachable)],
    );
    // C keeps what has an address on a stack in memory, whose end is the end of memory.
    check(
        "contract-c-trap",
        &[("unreachable", Unreachable), ("memory", OutOfBounds), ("stack", OutOfBounds), ("divide", Arithmetic)],
    );
}

#[test]
fn what_does_not_end_is_ended() {
    for (name, program) in both("spin") {
        assert_eq!(run(&program, "").result, Err(ItemError::FuelExhausted), "{name}");
    }
    for (name, program) in both("write") {
        assert_eq!(run(&program, "stdout 10000000000").result, Err(ItemError::OutputTooLarge), "{name}");
        assert_eq!(output(&program, "stdout 1048576").len(), 1 << 20, "{name}");
        let noisy = run(&program, "stderr 10000000");
        assert_eq!(noisy.result, Ok(vec![]), "{name}");
        assert_eq!(noisy.stderr, vec![b'x'; 200], "{name}");
    }
    for (name, program) in both("allocate") {
        let outcome = run(&program, "");
        assert_eq!(outcome.result, Err(ItemError::Exit(1)), "{name}");
        let said = String::from_utf8(outcome.stderr).unwrap();
        let mebibytes: u32 = said.trim().split(' ').nth(4).unwrap().parse().unwrap();
        assert!((48..64).contains(&mebibytes), "{name}: {said}");
    }
}

#[test]
fn reading_on_behind_the_item_gives_its_end_again() {
    assert_eq!(output(&program("contract-read-past"), "item"), "[0,0,0]");
}

#[test]
fn blobs_are_read_and_nothing_else_is_to_be_had() {
    let rust = output(&program("contract-data"), "greeting");
    assert_eq!(
        rust,
        concat!(
            r#"{"bytes":17,"fnv1a":"cd66d8fe286bd7c1","size":17,"middle_matches":true,"seek_end":17,"#,
            r#""listed":["greeting"],"refused":{"write":true,"create":true,"remove":true,"rename":true,"mkdir":true,"#,
            r#""climb":true,"elsewhere":true,"missing":true}}"#
        )
    );
    let c = output(&program("contract-c-data"), "greeting");
    assert_eq!(c, r#"{"bytes":17,"fnv1a":"cd66d8fe286bd7c1","middle":111,"refused":true}"#);
}

#[test]
fn clocks_stand_still_and_randomness_follows_the_item() {
    for (name, program) in both("environment") {
        let first = output(&program, "item");
        assert_eq!(output(&program, "item"), first, "{name}");
        let random = |text: &str| text.split(r#""random":""#).nth(1).unwrap()[..32].to_owned();
        assert_ne!(random(&output(&program, "other")), random(&first), "{name}");
        assert!(first.contains(r#""args":["guest","--flag","ü"]"#), "{name}: {first}");
        assert!(first.contains(r#""environment":0"#), "{name}: {first}");
        assert!(first.contains(r#""elapsed_nanos":"0""#) || name.contains("-c-"), "{name}: {first}");
    }
}

#[test]
fn every_item_starts_from_what_the_initialiser_left() {
    let rust = program("contract-initialise");
    let c = program("contract-c-initialise");
    for item in ["a", "bc", "a"] {
        assert_eq!(
            output(&rust, item),
            format!(
                r#"{{"initialised":1,"run":1,"greeting":"hello from a blob","table_sum":4999950000,"greeting_now":"hello from a blob","item":"{item}"}}"#
            )
        );
        let length = item.len();
        assert_eq!(
            output(&c, item),
            format!(r#"{{"initialised":1,"run":1,"greeting":"hello from a blob","item_bytes":{length}}}"#)
        );
    }
}

#[test]
fn an_item_costs_the_same_whatever_ran_before_it() {
    for (name, program) in both("initialise").into_iter().chain(both("echo")).chain(both("data")) {
        let items = ["greeting", "x", "greeting and more of it", ""];
        let forward: Vec<ItemOutcome> = items.iter().map(|item| run(&program, item)).collect();
        let backward: Vec<ItemOutcome> = items.iter().rev().map(|item| run(&program, item)).collect();
        assert!(forward.iter().eq(backward.iter().rev()), "{name}: {forward:?} {backward:?}");
    }
}
