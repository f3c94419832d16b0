//! `caii agent`: lending this machine to a pool.

use crate::error::CliError;
use crate::output::{self, Format, now_ms};
use caii_model::Bytes;
use caii_node::agent::{AgentEvent, AgentOptions};
use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Join a pool and work for it until stopped. Makes outbound connections only.
    Run {
        /// The join ticket that the pool's operator gave you; needed once.
        ticket: Option<String>,
        /// Where the agent keeps its identity and its cache.
        #[arg(long, value_name = "DIR", env = "CAII_AGENT_DIR")]
        dir: Option<PathBuf>,
        /// What the pool calls this device; default: nothing, its id is enough.
        #[arg(long, default_value = "")]
        name: String,
        /// Tasks at a time; default: one for each processor.
        #[arg(long, value_name = "N")]
        slots: Option<u32>,
        /// Disk for cached programs and models, in MiB.
        #[arg(long, value_name = "MIB", default_value_t = 20_480)]
        cache: u64,
    },
    /// Say who can make this device run something, and what they certified that it ran.
    Trust {
        /// Where the agent keeps its identity and its cache.
        #[arg(long, value_name = "DIR", env = "CAII_AGENT_DIR")]
        dir: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: Agent, format: Format) -> Result<ExitCode, CliError> {
    let (ticket, dir, name, slots, cache) = match command {
        Agent::Run { ticket, dir, name, slots, cache } => (ticket, dir, name, slots, cache),
        Agent::Trust { dir } => {
            let view = caii_node::agent::trust(&dir.unwrap_or_else(|| super::default_dir("agent")))?;
            output::print(format, &view, |view| view.lines().join("\n"));
            return Ok(ExitCode::SUCCESS);
        }
    };
    super::log("warn");
    let exe = std::env::current_exe().map_err(|error| CliError::file("find", "the caii binary".as_ref(), error))?;
    let dir = dir.unwrap_or_else(|| super::default_dir("agent"));
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let options = AgentOptions {
        ticket,
        name,
        slots: slots.unwrap_or(processors),
        cache_limit: Bytes::mebi(cache),
        ..AgentOptions::new(dir, (exe, vec!["runner".into()]))
    };
    caii_node::agent::run(options, move |event: AgentEvent| match format {
        Format::Text => eprintln!("{event}"),
        Format::Json => println!("{}", serde_json::json!({ "at_ms": now_ms(), "event": event.to_string() })),
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}
