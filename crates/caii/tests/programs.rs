//! Programs over records, as a requester runs them: from the command line, on real agents.

mod support;

use serde_json::{Value, json};
use support::{World, guest};

fn lines(entries: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    entries.into_iter().map(|entry| format!("{entry}\n")).collect()
}

/// Runs a program over these lines; the output file and the error lines.
#[track_caller]
fn run(world: &World, program: &str, input: &str, args: &[&str]) -> (String, Vec<Value>) {
    for name in ["out.jsonl", "out.errors.jsonl"] {
        let _ = std::fs::remove_file(world.path(name));
    }
    world.write("items.txt", input);
    let program = if program.contains('/') { program.to_owned() } else { guest(program) };
    let submit = ["job", "submit", "--program", &program, "--input", "items.txt", "--wait", "-o", "out.jsonl"];
    world.ok(&[&submit[..], args].concat());
    let errors = if world.path("out.errors.jsonl").exists() { world.lines("out.errors.jsonl") } else { vec![] };
    (world.log("out.jsonl"), errors)
}

/// Runs a program over these lines, none of which may fail; the output's lines.
#[track_caller]
fn output(world: &World, program: &str, input: &str, args: &[&str]) -> Vec<Value> {
    let (output, errors) = run(world, program, input, args);
    assert!(errors.is_empty(), "{errors:?}");
    output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
}

#[test]
fn words_are_counted_in_order_by_several_devices() {
    let world = World::with_devices(2);
    world.write("corpus.jsonl", lines((0..1_000).map(|n| json!({ "text": "word ".repeat(n % 17) }))));
    let program = guest("wordcount");
    let args = ["job", "submit", "--program", &program, "--input", "corpus.jsonl", "--records-per-task", "50"];
    world.ok(&[&args[..], &["--wait", "-o", "out.jsonl"]].concat());
    let counts: Vec<_> = world.lines("out.jsonl").iter().map(|line| line["words"].as_u64().unwrap()).collect();
    assert_eq!(counts, (0..1_000).map(|n| n % 17).collect::<Vec<u64>>());
    let job = world.json(&["job", "status", "job_1"]);
    assert_eq!(job["state"], "completed");
    assert_eq!(job["totals"]["tasks"], 20);
    assert_eq!(job["totals"]["devices"], 2, "both devices did some of it");
    assert!(!world.path("out.errors.jsonl").exists());
}

#[test]
fn the_same_job_gives_the_same_bytes_on_other_devices_and_in_other_tasks() {
    let mut world = World::with_devices(2);
    let input = lines((0..200).map(|n| format!("item {n}")));
    let programs = ["contract-environment", "wordcount"];
    let each = |world: &World, per_task: &str| {
        programs.map(|program| {
            let (output, errors) = run(world, program, &input, &["--records-per-task", per_task]);
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(output.lines().count(), 200);
            output
        })
    };
    let first = each(&world, "7");
    assert!(world.stop_agent("device-0") && world.stop_agent("device-1"));
    world.start_agent("another");
    world.await_devices(1);
    assert_eq!(each(&world, "50"), first);
    let jobs = world.json(&["job", "list"]);
    let fuel: Vec<_> = (0..4).map(|n| jobs["data"][n]["totals"]["fuel"].as_u64().unwrap()).collect();
    assert_eq!(fuel[..2], fuel[2..], "and took the same fuel");
}

#[test]
fn what_a_run_sees_is_up_to_the_requester() {
    let world = World::with_devices(1);

    // Several records in an item; the last item of a task holds what is left.
    let ten = lines((0..10).map(|n| format!("  text   {n}")));
    let args = ["--arg", "normalise", "--records-per-item", "3", "--records-per-task", "6"];
    let expected: Vec<_> = (0..10).map(|n| json!({ "text": format!("text {n}") })).collect();
    assert_eq!(output(&world, "preprocess", &ten, &args), expected);
    let job = world.json(&["job", "status", "job_1"]);
    assert_eq!((&job["totals"]["tasks"], &job["totals"]["records_ok"]), (&json!(2), &json!(10)));

    // The whole task.
    let args = ["--arg", "dedup", "--scope", "task", "--records-per-task", "4"];
    let repeats = "one fish\nONE  fish\ntwo fish\none fish\none fish\n";
    let expected = ["one fish", "two fish", "one fish"].map(|text| json!({ "text": text }));
    assert_eq!(output(&world, "preprocess", repeats, &args), expected, "duplicates are found within a task");

    // An item of several records that fails is one error line that says how many.
    let (out, errors) = run(&world, "contract-exit", "0\n9\n0\n0\n", &["--records-per-item", "2"]);
    assert_eq!((out.as_str(), errors.len()), ("", 2), "several numbers are none");
    assert_eq!((&errors[1]["record"], &errors[1]["line"], &errors[1]["records"]), (&json!(3), &json!(3), &json!(2)));

    // Empty lines of a text are records; of JSONL they are not.
    let (out, _) = run(&world, "contract-echo", "a\r\n\nb", &[]);
    assert_eq!(out, "a\nb\n", "an empty result leaves no line");
    let (out, _) = run(&world, "contract-c-echo", "\u{feff}{\"a\": 1}\r\n\n[2]\r\n", &["--format", "jsonl"]);
    assert_eq!(out, "{\"a\": 1}\n[2]\n");

    // Arguments.
    let counted = output(&world, "wordcount", "b a b c\n", &["--arg", "--top", "--arg", "1"]);
    assert_eq!(counted[0]["top"], json!([["b", 2]]));
}

#[test]
fn programs_read_the_files_of_their_workload_and_keep_what_they_initialised() {
    let world = World::with_devices(1);
    let blob: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let fnv1a = blob
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    world.write("big", &blob);
    world.write("hello", "hello");
    let args = ["--data", "blob.bin=big", "--data", "greeting=hello", "--fuel", "900000000000"];
    for program in ["contract-data", "contract-c-data"] {
        let seen = output(&world, program, "blob.bin\n", &args);
        assert_eq!(seen[0]["bytes"], blob.len(), "{program}");
        assert_eq!(seen[0]["fnv1a"], format!("{fnv1a:016x}"), "{program}");
        let refused = &seen[0]["refused"];
        let all = refused.as_object().map_or(refused == true, |each| each.values().all(|refused| refused == true));
        assert!(all, "{program}: {refused}");
    }
    for program in ["contract-initialise", "contract-c-initialise"] {
        for seen in output(&world, program, "a\nb\nc\n", &args[2..4]) {
            assert_eq!((&seen["initialised"], &seen["run"]), (&json!(1), &json!(1)), "{program}: {seen}");
            assert_eq!(seen["greeting"], "hello", "{program}");
        }
    }
}

#[test]
fn the_useful_guests_do_what_their_page_says() {
    let world = World::with_devices(1);
    let chunks =
        output(&world, "preprocess", "one two three four five\n", &["--arg", "chunk", "--arg", "--size", "--arg", "3"]);
    assert_eq!(chunks[0]["chunks"].as_array().unwrap().len(), 2);

    let seeds = lines((1..=6).map(|seed| json!({ "simulation": "pi", "samples": 50_000, "seed": seed })));
    let estimates: Vec<f64> =
        output(&world, "montecarlo", &seeds, &[]).iter().map(|line| line["estimate"].as_f64().unwrap()).collect();
    let mean = estimates.iter().sum::<f64>() / 6.0;
    assert!((mean - std::f64::consts::PI).abs() < 0.02, "{estimates:?}");

    let search = json!({
        "objective": "(x0 - 3)^2 + abs(x1)", "bounds": [[-9, 9], [-9, 9]], "method": "evolution", "budget": 2000, "seed": 1
    });
    let found = output(&world, "search", &lines([search]), &[]);
    assert!(found[0].to_string().contains("\"value\":"), "{found:?}");

    let template = json!({ "template": { "id": "{{index}}", "who": "{{name}}" }, "seed": 1, "count": 3 });
    let people = output(&world, "synth", &lines([template]), &[]);
    let ids: Vec<_> = people.iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [json!(0), json!(1), json!(2)]);
}

/// What is wrong with a program fails its item alone, with its reason, in Rust and in C.
#[test]
fn programs_that_misbehave_fail_their_item_only() {
    let world = World::with_devices(1);
    #[track_caller]
    fn check(
        world: &World,
        program: &str,
        input: &str,
        args: &[&str],
        expected_out: &str,
        expected: &[(u64, &str, &str)],
    ) {
        let (out, errors) = run(world, program, input, args);
        assert_eq!(out, expected_out, "{program}");
        let found: Vec<_> = errors
            .iter()
            .map(|line| (line["line"].as_u64().unwrap(), line["error"]["code"].as_str().unwrap(), line.to_string()))
            .collect();
        assert_eq!(found.len(), expected.len(), "{program}: {found:?}");
        for ((line, code, text), (wanted_line, wanted_code, words)) in found.iter().zip(expected) {
            assert_eq!((line, code), (wanted_line, wanted_code), "{program}: {text}");
            assert!(text.contains(words), "{program}: {text}");
        }
    }
    for kind in ["contract-", "contract-c-"] {
        let name = |program: &str| format!("{kind}{program}");
        let exits: [(u64, &str, &str); 2] =
            [(2, "program_failed", "ended with exit code 3"), (4, "program_failed", "exiting with 255")];
        check(&world, &name("exit"), "0\n3\n0\n255\n", &[], "written before exit\nwritten before exit\n", &exits);
        let traps: [(u64, &str, &str); 3] = [
            (1, "program_trapped", "it aborted"),
            (2, "program_trapped", "out of bounds"),
            (3, "program_trapped", "call stack overflowed"),
        ];
        // Where a language's stack lies first, overflowing it leaves the memory.
        let traps =
            traps.map(|(line, code, words)| (line, code, if line == 3 { "The program trapped" } else { words }));
        check(&world, &name("trap"), "unreachable\nmemory\nstack\n", &[], "", &traps);
        let fuel = [(1, "fuel_exhausted", "more fuel than its manifest allows")];
        check(&world, &name("spin"), "x\n", &["--fuel", "200000000"], "", &fuel);
        let memory = [(1, "program_failed", "out of memory after")];
        check(&world, &name("allocate"), "x\n", &["--memory", "64"], "", &memory);
        let much = [(1, "output_too_large", "wrote more than its manifest allows")];
        check(&world, &name("write"), "stdout 10000000000\nstderr 70000\nstdout 3\n", &[], "xxx\n", &much);
    }
    check(&world, "contract-read-past", "some input\n", &[], "[0,0,0]\n", &[]);
    let panics = [(1, "program_trapped", "as asked")];
    check(&world, "contract-trap", "panic\n", &[], "", &panics);

    // What a program can use is the same everywhere, so how far it came is too.
    let reasons: Vec<_> = (0..2).map(|_| run(&world, "contract-allocate", "x\n", &["--memory", "64"]).1).collect();
    assert_eq!(reasons[0], reasons[1]);
    // After all that, the device works as before.
    check(&world, "contract-echo", "still here\n", &[], "still here\n", &[]);
}

#[test]
fn what_is_no_program_is_refused_when_it_is_submitted() {
    let world = World::new();
    world.write("in.txt", "x\n");
    let whole = std::fs::read(guest("wordcount")).unwrap();
    let text = |name: &str| std::fs::read(support::repo().join("guests/contract/wat").join(name)).unwrap();
    let assembled = |name: &str| wat::parse_bytes(&text(name)).unwrap().into_owned();
    for (program, words) in [
        (vec![], "the file is empty"),
        (b"#!/bin/sh\n".to_vec(), "it does not begin with"),
        (std::fs::read("/bin/true").unwrap(), "this is a native program; compile for wasm32-wasip1"),
        (text("no-start.wat"), "the text format"),
        (whole[..whole.len() / 2].to_vec(), "the WebAssembly module is not valid here"),
        (whole[..6].to_vec(), "it ends within the header"),
        (
            assembled("bad-import.wat"),
            "imports what the sandbox does not offer: wasi_snapshot_preview1.launch_missiles",
        ),
        (assembled("no-start.wat"), "does not export the function `_start`"),
        (
            wat::parse_str("(module (memory (export \"memory\") 9000) (func (export \"_start\")))").unwrap(),
            "starts with 589.8 MB of memory, more than its limit of 536.8 MB",
        ),
    ] {
        world.write("program.wasm", &program);
        let said = world.fails(&["job", "submit", "--program", "program.wasm", "--input", "in.txt"]);
        assert!(said.starts_with("caii: ") && said.contains(words), "{words}: {said}");
    }
    assert_eq!(world.json(&["job", "list"])["data"], json!([]), "nothing was begun");
    for (args, words) in [
        (&["--records-per-item", "0"][..], "records"),
        (&["--data", "../x=in.txt"], "name"),
        (&["--data", "x=missing.bin"], "cannot read missing.bin"),
        (&["--data", "x"], "write NAME=FILE"),
        (&["--memory", "99999999"], "memory"),
    ] {
        let submit = ["job", "submit", "--program", &guest("wordcount"), "--input", "in.txt"];
        let said = world.fails(&[&submit[..], args].concat());
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
