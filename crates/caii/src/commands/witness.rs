//! `caii witness`: cosigns a log's checkpoints as an independent party.

use super::duration;
use crate::client::PoolArgs;
use crate::error::CliError;
use crate::output::{self, Format, now_ms};
use crate::published::{Snapshot, Source};
use caii_audit::{CHECKPOINT, Files as _, Tiles};
use caii_model::{Millis, Timestamp};
use caii_node::pinned::trusting;
use caii_node::witness::{StoredWitness, write_durably};
use caii_tlog::{AddCheckpoint, Checkpoint, Cosigner, KeyName, Note, Origin, VerifierKey, prove_consistency};
use caii_trust::SigningKey;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use zeroize::{Zeroize as _, Zeroizing};

const FORMAT: &str = "caii-witness/1";

#[derive(Debug, Subcommand)]
pub(crate) enum WitnessCommand {
    /// Make a witness's key, and say which log it watches.
    Init(Init),
    /// Cosign each checkpoint that continues the one before: as the log asks for it (--listen), or fetching it again and
    /// again.
    Run(Run),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The file for the key. Beside it, in FILE.state, the witness remembers what it cosigned last.
    // As for `caii charter sign`, this takes the place of the API key.
    #[arg(long, value_name = "FILE")]
    key: String,
    /// The witness's name: by custom a URL without its scheme.
    #[arg(long)]
    name: String,
    /// A key of the log, as pool.json has it. Two while it changes from one to the other.
    #[arg(long, required = true, value_name = "NAME+ID+KEY")]
    log: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The directory or the URL with the log's files; not needed with --listen.
    #[arg(value_name = "DIR-or-URL", required_unless_present = "listen")]
    place: Option<String>,
    /// The witness's key.
    #[arg(long, value_name = "FILE")]
    key: String,
    /// Where the log asks, by plain HTTP: a pool's `witnesses` names this address, or that of a server with TLS before it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// How often the log is looked at.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    every: Millis,
    /// Where cosignatures are posted, one request each.
    #[arg(long, value_name = "URL")]
    send: Option<String>,
    /// The file that the last cosignature is written to; without --send and --out it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Look once and end.
    #[arg(long, conflicts_with = "listen")]
    once: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyJson {
    format: String,
    name: String,
    seed: String,
    log: Vec<String>,
}

impl Drop for KeyJson {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

pub(crate) async fn run(command: WitnessCommand, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    match command {
        WitnessCommand::Init(init) => make(&init, format),
        WitnessCommand::Run(run) => work(run, pool).await,
    }
}

fn usage(error: impl std::fmt::Display) -> CliError {
    CliError::Usage(error.to_string())
}

fn make(init: &Init, format: Format) -> Result<ExitCode, CliError> {
    let path = Path::new(&init.key);
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).map_err(|error| CliError::Usage(format!("no randomness: {error}")))?;
    let name: KeyName = init.name.parse().map_err(usage)?;
    for key in &init.log {
        key.parse::<VerifierKey>().map_err(usage)?;
    }
    let key = Cosigner::new(name, SigningKey::from_seed(*seed)).key().to_string();
    let hex = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let json = KeyJson { format: FORMAT.into(), name: init.name.clone(), seed: hex, log: init.log.clone() };
    let text = Zeroizing::new(serde_json::to_vec_pretty(&json).expect("texts make JSON"));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| CliError::file("make", path, error))?;
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    written.map_err(|error| CliError::file("write", path, error))?;
    output::print(format, &json!({ "key": key, "file": path }), |_| {
        format!("{} is ready; policies name it so:\nwitness {} {key}", path.display(), init.name)
    });
    Ok(ExitCode::SUCCESS)
}

/// The witness of a key's file, with what it cosigned last.
fn take_up(key: &str) -> Result<StoredWitness, CliError> {
    let path = Path::new(key);
    let damaged = |why: &str| CliError::Usage(format!("{} is no witness's key: {why}", path.display()));
    let text = Zeroizing::new(std::fs::read(path).map_err(|error| CliError::file("read", path, error))?);
    let json: KeyJson = serde_json::from_slice(&text).map_err(|error| damaged(&error.to_string()))?;
    let mut seed = Zeroizing::new([0u8; 32]);
    if json.format != FORMAT || json.seed.len() != 64 || !json.seed.is_ascii() {
        return Err(damaged("it is of another format"));
    }
    for (byte, at) in seed.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&json.seed[at..at + 2], 16).map_err(|error| damaged(&error.to_string()))?;
    }
    let name = json.name.parse().map_err(|error| damaged(&format!("{error}")))?;
    let keys: Result<Vec<VerifierKey>, _> = json.log.iter().map(|key| key.parse()).collect();
    let keys = keys.map_err(|error: caii_tlog::VerifierKeyError| damaged(&error.to_string()))?;
    let first = keys.first().ok_or_else(|| damaged("it names no log"))?;
    let origin: Origin = first.name().as_str().parse().map_err(|error| damaged(&format!("{error}")))?;
    let cosigner = Cosigner::new(name, SigningKey::from_seed(*seed));
    let state = format!("{key}.state").into();
    StoredWitness::open(cosigner, origin, keys, state).map_err(|error| CliError::Usage(crate::error::chain(&error)))
}

async fn work(run: Run, pool: &PoolArgs) -> Result<ExitCode, CliError> {
    super::log("warn,caii_node=info");
    let witness = Arc::new(take_up(&run.key)?);
    let stop = watch::Sender::new(false);
    let server = match run.listen {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            let listener = bound.map_err(|error| CliError::Usage(format!("cannot listen on {address}: {error}")))?;
            let address = listener.local_addr().map_err(usage)?;
            eprintln!("a witness for {} listens on http://{address}", witness.origin());
            Some(tokio::spawn(caii_node::witness::serve(listener, witness.clone(), stop.subscribe())))
        }
        None => None,
    };
    let ended = match &run.place {
        Some(place) => watch_log(&run, place, pool, &witness).await,
        None => ended().await.map(|()| ExitCode::SUCCESS),
    };
    stop.send_replace(true);
    if let Some(server) = server {
        server.await.map_err(usage)?;
    }
    ended
}

/// Resolves when it is time to end.
async fn ended() -> Result<(), CliError> {
    let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let mut terminate = signals.map_err(usage)?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(usage),
        _ = terminate.recv() => Ok(()),
    }
}

async fn watch_log(
    run: &Run,
    place: &str,
    pool: &PoolArgs,
    witness: &Arc<StoredWitness>,
) -> Result<ExitCode, CliError> {
    let source = Source::new(Some(place), pool)?;
    // Made and not delivered: sent again with the next look, unless a newer one takes its place.
    let mut waiting: Option<String> = None;
    loop {
        let (source, witness) = (source.clone(), witness.clone());
        let looked = tokio::task::spawn_blocking(move || look(source, &witness)).await;
        let looked = looked.map_err(|error| CliError::CannotRead(error.to_string())).flatten();
        let done = match looked {
            Ok(cosigned) => {
                if let Some((size, line)) = cosigned {
                    eprintln!("cosigned {size} entries");
                    waiting = Some(line);
                }
                match &waiting {
                    Some(line) => deliver(run, line).await.map(|()| waiting = None),
                    None => Ok(()),
                }
            }
            Err(error) => Err(error),
        };
        match done {
            Err(error) if run.once => return Err(error),
            Err(error) => eprintln!("caii: {}; trying again", crate::error::chain(&error)),
            Ok(()) => {}
        }
        if run.once {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(run.every.0)) => {}
            ended = ended() => return ended.map(|()| ExitCode::SUCCESS),
        }
    }
}

/// Cosigns the checkpoint, if it is a new one; the state is durable when this returns.
fn look(source: Source, witness: &StoredWitness) -> Result<Option<(u64, String)>, CliError> {
    let cannot = |error: &dyn std::error::Error| CliError::CannotRead(crate::error::chain(error));
    let files = Snapshot::take(source, None).map_err(|error| cannot(&error))?;
    let bytes = files.read(CHECKPOINT).map_err(|error| cannot(&error))?;
    let note = Note::parse(&bytes).map_err(|error| cannot(&error))?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| cannot(&error))?;
    let old = witness.tree().map_err(|error| cannot(&error))?;
    if checkpoint.origin == *witness.origin() && old == checkpoint.tree && old.size > 0 {
        return Ok(None);
    }
    let proof = if old.size < checkpoint.tree.size {
        prove_consistency(&old, &checkpoint.tree, &Tiles(&files)).map_err(|error| cannot(&error))?
    } else {
        vec![]
    };
    let request = AddCheckpoint { old_size: old.size, proof, note };
    witness.cosign(&request, Timestamp(now_ms())).map(Some).map_err(|error| cannot(&error))
}

async fn deliver(run: &Run, line: &str) -> Result<(), CliError> {
    if let Some(out) = &run.out {
        write_durably(out, line.as_bytes()).map_err(|error| CliError::file("write", out, error))?;
    }
    if let Some(url) = &run.send {
        let unreachable = |source| CliError::Unreachable { url: url.clone(), source };
        let http = trusting().read_timeout(Duration::from_secs(30)).build().map_err(unreachable)?;
        let response = http.post(url).body(line.to_owned()).send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            let detail = format!("status {}", response.status());
            return Err(CliError::Strange { url: url.clone(), detail });
        }
    }
    if run.out.is_none() && run.send.is_none() {
        print!("{line}");
    }
    Ok(())
}
