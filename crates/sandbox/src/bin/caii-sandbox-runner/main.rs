//! A bare runner for this crate's tests; users have the same behind a hidden command of `caii`.
//!
//! With arguments it is the harness of the jail: a runner that leaves layers open, or that tries to break out where a
//! program would be compiled or run, or an agent that a test looks through. What ships has no way to get here.

mod agent;
mod attempts;

use caii_sandbox::{Harness, JailLayer};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut harness = Harness::default();
    let mut agent = None;
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
        match name {
            "agent" => agent = Some(value.to_owned()),
            "as-user" => attempts::become_user(),
            "without" => harness.omitted.extend(JailLayer::named(value)),
            "running" => harness.while_running = Some(attempts::while_running),
            "compiling" => harness.while_compiling = Some(attempts::while_compiling),
            _ => {
                eprintln!("unknown argument {argument}");
                return ExitCode::FAILURE;
            }
        }
    }
    if let Some(directory) = agent {
        return match agent::main(directory.as_ref(), &harness.omitted) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("agent: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match std::env::args().len() {
        1 => caii_sandbox::runner_main(),
        _ => caii_sandbox::harness_main(harness),
    }
}
