//! What `make` runs: `check`, `test`, `demo`, `bench`, `fuzz`, `tidy`.

mod bench;
mod demo;
mod fuzz;
mod processes;
mod shell;
mod tidy;

use fuzz::Length;
use shell::{Failure, run, run_in};
use std::process::ExitCode;

/// Crates whose tests need neither guests nor processes of caii nor the network; their tests are the quick loop.
const QUICK: [&str; 12] = [
    "caii-model",
    "caii-ledger",
    "caii-trust",
    "caii-tlog",
    "caii-audit",
    "caii-wire",
    "caii-coordinator",
    "caii-agent",
    "caii-store",
    "caii-models",
    "caii-sim",
    "xtask",
];

/// How long each fuzz target runs among the tests: from its seeds, which finds again what was found once.
const FUZZ_SECONDS: u32 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["check"] => check(),
        ["test"] => test(),
        ["tidy"] => tidy::tidy(),
        ["demo"] => demo::demo(),
        ["bench"] => bench::bench(None),
        ["bench", only] => bench::bench(Some(only)),
        ["fuzz", target, executions] => fuzz_for(target, executions),
        _ => Err(Failure("usage: xtask check|test|tidy|demo|bench [P4]|fuzz all|TARGET EXECUTIONS".into())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            eprintln!("xtask: {text}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz_for(target: &str, executions: &str) -> Result<(), Failure> {
    let executions = shell::attempt(&format!("executions `{executions}`"), executions.parse())?;
    fuzz::fuzz((target != "all").then_some(target), Length::Executions(executions))
}

/// Licences, sources and duplicates of everything that is built, by `deny.toml`.
fn dependencies() -> Result<(), Failure> {
    for manifest in ["Cargo.toml", "guests/Cargo.toml", "fuzz/Cargo.toml"] {
        // The three share one file; what one skips another may not have.
        let checked = run(
            "cargo",
            &[
                &["deny", "--locked", "--log-level", "error", "--manifest-path", manifest, "--config", "deny.toml"][..],
                &["check", "--hide-inclusion-graph", "--allow", "unmatched-skip", "bans", "licenses", "sources"],
            ]
            .concat(),
        );
        checked.map_err(|Failure(text)| Failure(format!("{text} (scripts/setup.sh --tests installs cargo-deny)")))?;
    }
    Ok(())
}

/// The quick loop: formatting, lints, tidiness, dependencies, unit tests, a few hundred simulation seeds.
fn check() -> Result<(), Failure> {
    run("cargo", &["fmt", "--all", "--check"])?;
    run_in("fuzz", "cargo", &["fmt", "--check"])?;
    tidy::tidy()?;
    dependencies()?;
    run("cargo", &["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    let mut nextest = vec!["nextest", "run", "--locked", "--cargo-quiet", "--status-level", "fail"];
    nextest.extend(QUICK.iter().flat_map(|name| ["--package", name]));
    run("cargo", &nextest)
}

/// Every test.
fn test() -> Result<(), Failure> {
    tidy::tidy()?;
    dependencies()?;
    run_in("guests", "cargo", &["test", "--locked", "--quiet", "--workspace"])?;
    run("guests/tests/run.sh", &[])?;
    fuzz::fuzz(None, Length::Seconds(FUZZ_SECONDS))?;
    run("cargo", &["nextest", "run", "--locked", "--cargo-quiet", "--workspace"])
}
