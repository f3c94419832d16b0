//! A contributor who cheats, to show that it does not pay: an agent that falsifies some of its results before it commits to
//! them. `caii-cheat TICKET DIR CAII NAME PER_MILLE`, where CAII is the real `caii`, which runs programs. Part of no
//! release.

use caii_model::{Digest, ItemOutcome};
use caii_node::agent::{AgentOptions, Falsify, run};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [ticket, dir, caii, name, per_mille] = &args[..] else {
        eprintln!("caii-cheat TICKET DIR CAII NAME PER_MILLE");
        return ExitCode::FAILURE;
    };
    let Ok(per_mille) = per_mille.parse::<u16>() else {
        eprintln!("{per_mille} is no number");
        return ExitCode::FAILURE;
    };
    let falsify = move |outcome: &mut ItemOutcome| {
        if let Ok(output) = &mut outcome.result {
            let digest = Digest::of(output).0;
            if u16::from_le_bytes([digest[0], digest[1]]) % 1_000 < per_mille {
                output.reverse();
                output.push(b' ');
            }
        }
    };
    let options = AgentOptions {
        ticket: Some(ticket.clone()),
        name: name.clone(),
        falsify: Some(Falsify(std::sync::Arc::new(falsify))),
        ..AgentOptions::new(dir.into(), (caii.into(), vec!["runner".into()]))
    };
    match run(options, |event| eprintln!("{event}")).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
