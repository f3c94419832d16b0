//! Running other programs and saying what went wrong.

use std::fmt::Display;
use std::process::Command;

/// Why a task did not succeed, in words.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// Turns an error into a [`Failure`] that names the attempt.
pub(crate) fn attempt<T, E: Display>(what: &str, result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|error| Failure(format!("{what}: {error}")))
}

/// Runs a program to its end, its output shown.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<(), Failure> {
    run_in(".", program, args)
}

/// The same in another directory.
pub(crate) fn run_in(dir: &str, program: &str, args: &[&str]) -> Result<(), Failure> {
    let words = format!("{program} {}", args.join(" "));
    let status = attempt(&words, Command::new(program).args(args).current_dir(dir).status())?;
    if status.success() { Ok(()) } else { Err(Failure(format!("`{words}` failed: {status}"))) }
}

/// Runs a program to its end and returns what it wrote to standard output.
pub(crate) fn read(command: &mut Command) -> Result<String, Failure> {
    let words = format!("{command:?}");
    let output = attempt(&words, command.stderr(std::process::Stdio::inherit()).output())?;
    if !output.status.success() {
        return Err(Failure(format!("`{words}` failed: {}", output.status)));
    }
    attempt(&words, String::from_utf8(output.stdout))
}
