//! A bare runner for this crate's tests; users have the same behind a hidden command of `caii`.

use std::process::ExitCode;

fn main() -> ExitCode {
    caii_sandbox::runner_main()
}
