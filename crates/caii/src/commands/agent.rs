//! `caii agent`: lending this machine to a pool.

use crate::error::CliError;
use crate::output::{self, Format, now_ms};
use caii_model::{Bytes, DataTier, JailLayer, Millis, Region, UseCategory};
use caii_node::agent::{AgentEvent, AgentOptions, Choices, weak_layer};
use clap::{Args, Subcommand};
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
        #[command(flatten)]
        chosen: Box<Chosen>,
    },
    /// Say what this device has done: how many of its claims the pool has decided, and how its energy is found out.
    Status {
        /// Where the agent keeps its identity and its cache.
        #[arg(long, value_name = "DIR", env = "CAII_AGENT_DIR")]
        dir: Option<PathBuf>,
    },
    /// Say who can make this device run something, what its owner allows, what ran, and what confined it.
    Trust {
        /// Where the agent keeps its identity and its cache.
        #[arg(long, value_name = "DIR", env = "CAII_AGENT_DIR")]
        dir: Option<PathBuf>,
    },
}

/// What this device allows, whatever stewards certify. Each has its setting in `agent.toml` in the agent's directory.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// Where this device is, as the charter names regions; default: `any`.
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
    /// A use that this device allows; default: all. May be repeated.
    #[arg(long = "use", value_name = "USE")]
    uses: Vec<UseCategory>,
    /// A data tier that this device allows; default: t0, t1, t2. May be repeated.
    #[arg(long = "tier", value_name = "TIER")]
    tiers: Vec<DataTier>,
    /// The most memory that a program may ask for, in MiB.
    #[arg(long, value_name = "MIB")]
    memory_max: Option<u64>,
    /// The most fuel that an item may ask for.
    #[arg(long, value_name = "UNITS")]
    fuel_max: Option<u64>,
    /// The most fuel that a program's initialiser may ask for.
    #[arg(long, value_name = "UNITS")]
    init_fuel_max: Option<u64>,
    /// The most output that an item may ask for, in MiB.
    #[arg(long, value_name = "MIB")]
    output_max: Option<u64>,
    /// The most wall time that an item may ask for.
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    item_time_max: Option<Millis>,
    /// Layers of the jail without which programs run all the same, where this machine lacks them.
    #[arg(long, value_name = "LAYER", value_delimiter = ',', value_parser = weak_layer)]
    allow_weak_jail: Vec<JailLayer>,
}

impl Chosen {
    fn choices(self) -> Choices {
        let some = |empty: bool| (!empty).then_some(());
        Choices {
            region: self.region,
            uses: some(self.uses.is_empty()).map(|()| self.uses.into_iter().collect()),
            data_tiers: some(self.tiers.is_empty()).map(|()| self.tiers.into_iter().collect()),
            memory_max_mib: self.memory_max,
            fuel_per_item_max: self.fuel_max,
            fuel_init_max: self.init_fuel_max,
            output_per_item_max_mib: self.output_max,
            wall_per_item_max_seconds: self.item_time_max.map(|time| time.0 / 1_000),
            allow_weak_jail: some(self.allow_weak_jail.is_empty()).map(|()| self.allow_weak_jail.into_iter().collect()),
        }
    }
}

pub(crate) async fn run(command: Agent, format: Format) -> Result<ExitCode, CliError> {
    let (ticket, dir, name, slots, cache, chosen) = match command {
        Agent::Run { ticket, dir, name, slots, cache, chosen } => (ticket, dir, name, slots, cache, chosen),
        Agent::Status { dir } => {
            let view = caii_node::agent::status(&dir.unwrap_or_else(|| super::default_dir("agent")))?;
            output::print(format, &view, |view| view.lines().join("\n"));
            return Ok(ExitCode::SUCCESS);
        }
        Agent::Trust { dir } => {
            let view = caii_node::agent::trust(&dir.unwrap_or_else(|| super::default_dir("agent")))?;
            output::print(format, &view, |view| view.lines().join("\n"));
            return Ok(ExitCode::SUCCESS);
        }
    };
    crate::wiping::turn_on();
    super::log("warn");
    let exe = std::env::current_exe().map_err(|error| CliError::file("find", "the caii binary".as_ref(), error))?;
    let dir = dir.unwrap_or_else(|| super::default_dir("agent"));
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let options = AgentOptions {
        ticket,
        name,
        slots: slots.unwrap_or(processors),
        cache_limit: Bytes::mebi(cache),
        choices: chosen.choices(),
        ..AgentOptions::new(dir, (exe, vec!["runner".into()]))
    };
    caii_node::agent::run(options, move |event: AgentEvent| match format {
        Format::Text => eprintln!("{event}"),
        Format::Json => println!("{}", event_json(&event)),
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// What happened, in words; of a jail also layer by layer.
fn event_json(event: &AgentEvent) -> serde_json::Value {
    let mut json = serde_json::json!({ "at_ms": now_ms(), "event": event.to_string() });
    if let AgentEvent::Jailed { jail } = event {
        json["jail"] = serde_json::to_value(jail).expect("strings and numbers become JSON");
    }
    json
}
