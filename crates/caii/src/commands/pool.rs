//! `caii pool`: running a pool, and looking at it.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, ago, thousands};
use caii_node::pool::{Pool as Running, PoolAddresses, PoolConfig, PoolError, PoolOptions};
use caii_node::views::{LogView, PoolView, WitnessView};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Pool {
    /// Run a pool on this machine. Makes its directory on first use; ends on Ctrl-C.
    Up(Up),
    /// Show the pool.
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where everything of the pool is kept.
    #[arg(long, value_name = "DIR", env = "CAII_POOL_DIR")]
    dir: Option<PathBuf>,
    /// Settings; docs/config/pool.toml shows all of them with their defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A charter that stewards made (`caii charter init`), or a newer copy of it; taken over into the pool's directory.
    /// Default: the pool's own, by which its admin alone certifies.
    #[arg(long, value_name = "DIR")]
    charter: Option<PathBuf>,
    /// Where devices and clients connect by HTTPS; default 0.0.0.0:7443.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where programs on this machine connect by plain HTTP; default 127.0.0.1:7480.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// An address that join tickets name. May be repeated; default: this machine's.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Vec<String>,
}

pub(crate) async fn run(command: Pool, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    match command {
        Pool::Up(up) => serve(up, pool, format).await,
        Pool::Status => {
            let view: PoolView = Client::new(pool)?.get("/caii/v1/pool").await?;
            output::print(format, &view, |view| {
                format!(
                    "pool     {} (caii {})\nstarted  {}\ndevices  {} connected of {} enrolled, {} slots\njobs     {} open\n\
                     log      {}",
                    view.id,
                    view.version,
                    ago(view.started_ms),
                    view.devices_present,
                    view.devices,
                    view.slots_present,
                    view.jobs_open,
                    told(&view.log)
                )
            });
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The log and its witnesses, a line each.
fn told(log: &LogView) -> String {
    let mut text = format!("{} entries, {} published", thousands(log.entries), thousands(log.published));
    if let Some(oldest) = log.oldest_unpublished_ms {
        text.push_str(&format!("; the oldest of the others was logged {}", ago(oldest)));
    }
    if let Some(trouble) = &log.trouble {
        text.push_str(&format!("\n         not published: {trouble}"));
    }
    for WitnessView { name, cosigned, cosigned_ms, trouble, .. } in &log.witnesses {
        let cosigned = match (cosigned, cosigned_ms) {
            (Some(size), Some(at)) => format!("cosigned {} entries {}", thousands(*size), ago(*at)),
            _ => "has cosigned nothing yet".to_owned(),
        };
        text.push_str(&format!("\nwitness  {name} {cosigned}"));
        if let Some(trouble) = trouble {
            text.push_str(&format!("; now {trouble}"));
        }
    }
    text
}

async fn serve(up: Up, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    super::log("warn,caii_node=info");
    let dir = up.dir.or_else(|| pool.pool_dir.clone()).unwrap_or_else(|| super::default_dir("pool"));
    let mut config = match &up.config {
        Some(path) => PoolConfig::read(path).map_err(PoolError::from)?,
        None => PoolConfig::default(),
    };
    config.https_listen = up.listen.unwrap_or(config.https_listen);
    config.http_listen = up.http.or(config.http_listen);
    if !up.advertise.is_empty() {
        config.advertise = up.advertise;
    }
    let exe = std::env::current_exe().map_err(|error| CliError::file("find", "the caii binary".as_ref(), error))?;
    let runner = Some((exe, vec!["runner".into()]));
    let mut running = Running::start(PoolOptions { dir: dir.clone(), config, charter: up.charter, runner }).await?;
    print_addresses(format, &dir, running.addresses());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| CliError::file("handle signals of", &dir, error))?;
    tokio::select! {
        error = running.failed() => Err(error.into()),
        _ = tokio::signal::ctrl_c() => stop(running).await,
        _ = terminate.recv() => stop(running).await,
    }
}

async fn stop(running: Running) -> Result<ExitCode, CliError> {
    eprintln!("stopping; devices keep their work and come back when the pool is up again");
    running.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

fn print_addresses(format: Format, dir: &Path, addresses: &PoolAddresses) {
    let http = addresses.http.map(|address| format!("http://{address}"));
    let view = serde_json::json!({
        "pool": addresses.pool.to_string(),
        "dir": dir,
        "url": addresses.url,
        "http_url": http,
        "fingerprint": addresses.fingerprint.hex(),
        "admin_key": addresses.admin_key,
        "ticket": addresses.ticket,
        "charter": addresses.charter,
    });
    output::print(format, &view, |_| {
        let local = match &http {
            Some(http) => format!(
                "\nOpenAI clients on this machine:\n  OPENAI_BASE_URL={http}/v1 OPENAI_API_KEY={}\n",
                addresses.admin_key
            ),
            None => String::new(),
        };
        let whose = if addresses.charter_is_own {
            "This charter is the pool's own (1 of 1): what an admin adds is certified by that, with the key in the \
             pool's directory. `caii charter init` makes one that it takes several people to satisfy.\n"
        } else {
            ""
        };
        format!(
            "{} is up, kept in {}\n\naddress      {}\nadmin key    {}\njoin ticket  {}\n\n\
             What may run on its devices: {}.\n{whose}\n\
             On any machine that shall work for it:\n  caii agent run {}\n{local}",
            addresses.pool,
            dir.display(),
            addresses.url,
            addresses.admin_key,
            addresses.ticket,
            addresses.charter,
            addresses.ticket
        )
    });
}
