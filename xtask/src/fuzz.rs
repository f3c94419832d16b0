//! Fuzzing: every target of `fuzz/` for a few seconds, or some of them for as long as one likes.
//!
//! The flags below are those of `cargo fuzz run -s none`, so that a stable toolchain will do and nothing has to be
//! installed. There is no address sanitizer: what is fuzzed has no unsafe code.

use crate::shell::{Failure, attempt, read};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

/// Instruments all code, dependencies included, for libFuzzer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

/// Bytes of an input at most.
const LEN_MAX: u32 = 4 << 10;
/// What is uploaded is read through buffers, whose borders longer texts cross. The longest buffer has 64 KiB.
const LEN_MAX_UPLOADED: u32 = 64 << 10;
const UPLOADED: [&str; 2] = ["pool_lines", "pool_records"];

/// How long a target runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    Seconds(u32),
    Executions(u64),
}

/// Runs one target, or all of them; a finding is a failure.
pub(crate) fn fuzz(only: Option<&str>, length: Length) -> Result<(), Failure> {
    let host = host()?;
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "--quiet", "--release", "--bins", "--examples", "--target", &host]);
    let built = build.current_dir("fuzz").env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", "target");
    read(built)?;
    let binaries = format!("fuzz/target/{host}/release");
    read(Command::new(format!("{binaries}/examples/seeds")).arg("--check"))
        .map_err(|Failure(text)| Failure(format!("{text}; {binaries}/examples/seeds writes them")))?;

    let mut targets = targets()?;
    if let Some(only) = only {
        let all = targets.join(", ");
        targets.retain(|target| target == only);
        if targets.is_empty() {
            return Err(Failure(format!("there is no fuzz target `{only}`; there are {all}")));
        }
    }
    let waiting = Mutex::new(targets.into_iter().rev().collect::<Vec<_>>());
    let failures = Mutex::new(Vec::new());
    let next = || waiting.lock().expect("no thread panics with it").pop();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(target) = next() {
                    if let Err(Failure(text)) = run_target(&binaries, &target, length) {
                        failures.lock().expect("no thread panics with it").push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics with it");
    if failures.is_empty() { Ok(()) } else { Err(Failure(failures.join("\n"))) }
}

/// The names of the targets, sorted.
fn targets() -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in attempt("fuzz/fuzz_targets", fs::read_dir("fuzz/fuzz_targets"))? {
        let path = attempt("fuzz/fuzz_targets", entry)?.path();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !Path::new("fuzz/corpus-seeds").join(&name).is_dir() {
            return Err(Failure(format!("the fuzz target `{name}` has no seeds")));
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

/// What is new goes to `fuzz/corpus/`, which stays on this machine and makes the next run start further on.
fn run_target(binaries: &str, target: &str, length: Length) -> Result<(), Failure> {
    let (corpus, artifacts) = (format!("fuzz/corpus/{target}"), format!("fuzz/artifacts/{target}/"));
    for dir in [&corpus, &artifacts] {
        attempt(dir, fs::create_dir_all(dir))?;
    }
    let length = match length {
        Length::Seconds(seconds) => format!("-max_total_time={seconds}"),
        Length::Executions(executions) => format!("-runs={executions}"),
    };
    let binary = format!("{binaries}/{target}");
    let mut command = Command::new(&binary);
    command.args([&corpus, &format!("fuzz/corpus-seeds/{target}"), &length, &format!("-artifact_prefix={artifacts}")]);
    if UPLOADED.contains(&target) {
        // Otherwise it tries short texts for millions of executions before it tries long ones.
        command.args([&format!("-max_len={LEN_MAX_UPLOADED}"), "-len_control=0"]);
    } else {
        command.arg(format!("-max_len={LEN_MAX}"));
    }
    command.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    let begun = Instant::now();
    let output = attempt(&binary, command.output())?;
    let seconds = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(Failure(format!("{said}\nfuzz target `{target}`: a finding; run it again by `{binary} FILE`")));
    }
    let counted = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executions = counted.and_then(|count| count.trim().parse::<u64>().ok());
    let executions = executions.ok_or_else(|| Failure(format!("{target} does not say how often it ran:\n{said}")))?;
    let speed = executions as f64 / seconds;
    eprintln!("fuzz: {target}: {executions} executions, {speed:.0} a second, no finding");
    Ok(())
}

/// The name of this machine's own target; naming it keeps the flags from build scripts.
fn host() -> Result<String, Failure> {
    let version = read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure("rustc -vV names no host".into()))
}
