//! `caii receipt`: why a claim earned what it did, and the proof that it is in the pool's log.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, table, thousands};
use crate::published::{Snapshot, Source};
use caii_audit::{CHECKPOINT, Files, OPENINGS_WIDTH, Opening, Openings, Tiles, commitment, openings_path};
use caii_model::{MicroCredits, Receipt as Receipted, Tariff, Timestamp, Verdict, explain_settlement};
use caii_node::views::{List, ReceiptView};
use caii_tlog::{Checkpoint, Note, OfflineProof, Policy};
use clap::Subcommand;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Receipt {
    /// Show receipts, newest first: those of your account's devices, or of one device or job.
    List {
        /// Of this account's devices.
        #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "job"])]
        account: Option<String>,
        /// Of this device.
        #[arg(long, value_name = "ID", conflicts_with = "job")]
        device: Option<String>,
        /// Of this job, as whoever pays for it.
        #[arg(long, value_name = "ID")]
        job: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show every input of a receipt's reward and price and every step of the calculation, which is made again on this
    /// machine from the receipt's own bytes: a pool that calculates otherwise is found out.
    Show {
        /// Which, as `dev_4f…/17`.
        receipt: String,
    },
    /// Write the proof that a receipt is in the pool's log, to be checked offline by anybody.
    Prove {
        /// Which, as `dev_4f…/17`.
        receipt: String,
        /// Where to.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Check such a proof. No pool is needed.
    Verify {
        /// The file.
        file: PathBuf,
        /// The log's key, as the pool's `published/pool.json` has it.
        #[arg(long, value_name = "KEY", conflicts_with = "policy", required_unless_present = "policy")]
        log_key: Option<String>,
        /// Whose signatures you ask for: the log's key and witnesses, as c2sp.org/tlog-policy has it.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: Receipt, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    match command {
        Receipt::List { account, device, job, limit } => {
            let client = Client::new(pool)?;
            let of = [("account", account), ("device", device), ("job", job)];
            let of = of.into_iter().find_map(|(name, value)| Some(format!("{name}={}&", value?))).unwrap_or_default();
            let list: List<ReceiptView> = client.get(&format!("/caii/v1/receipts?{of}limit={limit}")).await?;
            output::print(format, &list, tell_list);
            Ok(ExitCode::SUCCESS)
        }
        Receipt::Show { receipt } => {
            let view = fetch(pool, &receipt).await?;
            let (told, right) = explain(&view)?;
            output::print(format, &view, |_| told);
            Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Receipt::Prove { receipt, out } => {
            let view = fetch(pool, &receipt).await?;
            let source = Source::new(None, pool)?;
            let made = tokio::task::spawn_blocking(move || prove(source, &view)).await;
            let (entry, size, bytes) = made.map_err(|error| CliError::CannotRead(error.to_string()))??;
            std::fs::write(&out, bytes).map_err(|error| CliError::file("write", &out, error))?;
            let done = json!({"receipt": receipt, "entry": entry, "log_size": size, "file": out});
            output::print(format, &done, |_| {
                format!(
                    "{receipt} is entry {entry} of {size}; `caii receipt verify {}` checks it offline",
                    out.display()
                )
            });
            Ok(ExitCode::SUCCESS)
        }
        Receipt::Verify { file, log_key, policy } => verify(&file, log_key.as_deref(), policy.as_deref(), format),
    }
}

async fn fetch(pool: &PoolArgs, receipt: &str) -> Result<ReceiptView, CliError> {
    let parts = receipt.split_once('/').filter(|(_, sequence)| sequence.parse::<u64>().is_ok());
    let (device, sequence) = parts.ok_or_else(|| {
        CliError::Usage(format!("`{receipt}` names no receipt: write it as dev_4f…/17, as `caii receipt list` does"))
    })?;
    Client::new(pool)?.get(&format!("/caii/v1/receipts/{device}/{sequence}")).await
}

fn tell_list(list: &List<ReceiptView>) -> String {
    let row = |receipt: &ReceiptView| {
        let state = match (&receipt.voided, &receipt.paid) {
            (Some(voided), _) => format!("void: {}", voided.reason),
            (None, Some(_)) => "paid".to_owned(),
            (None, None) if receipt.verdict == "accepted" => "not final yet".to_owned(),
            (None, None) => format!("void: {}", receipt.verdict),
        };
        vec![
            format!("{}/{}", receipt.device, receipt.sequence),
            caii_trust::format_time(Timestamp(receipt.at_ms)),
            receipt.task.clone(),
            receipt.workload_name.clone().unwrap_or_else(|| receipt.workload.clone()),
            thousands(receipt.fuel),
            MicroCredits(receipt.reward_micro_credits).to_string(),
            state,
        ]
    };
    let rows: Vec<_> = list.data.iter().map(row).collect();
    let more = if list.has_more { "\nthere are more: --limit shows them" } else { "" };
    format!("{}{more}", table(&["receipt", "time", "task", "workload", "fuel", "reward", "state"], &rows))
}

fn bytes_of(field: &str, hex: &str) -> Result<Vec<u8>, CliError> {
    let pair = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(pair).collect();
    bytes.ok_or_else(|| CliError::CannotRead(format!("the pool's `{field}` is no hex")))
}

fn read_receipt(view: &ReceiptView) -> Result<Receipted, CliError> {
    Receipted::from_canonical(&bytes_of("canonical", &view.canonical)?)
        .map_err(|error| CliError::CannotRead(format!("the pool's receipt cannot be read: {error}")))
}

/// The receipt in words, and whether its amounts are what the tariff says.
fn explain(view: &ReceiptView) -> Result<(String, bool), CliError> {
    let receipt = read_receipt(view)?;
    let claim = &receipt.claim;
    let mut lines = vec![
        format!("receipt     {}/{}, entry {} of the log", claim.device, claim.sequence, view.entry),
        format!("of          {}, {}", receipt.owner, caii_trust::format_time(receipt.at)),
        format!("task        {} ({} items, {} without a result)", claim.task, claim.items, claim.items_failed),
        format!(
            "workload    {}",
            view.workload_name
                .as_ref()
                .map_or_else(|| claim.workload.to_string(), |name| format!("{name} ({})", claim.workload))
        ),
        format!("meter       {}", claim.meter.0),
        format!("input       {}", claim.input),
        format!("results     {} (what was committed to before anything was drawn for an audit)", claim.root),
        format!("fuel        {}", thousands(claim.fuel.0)),
        format!("time        {} of CPU, {} in all", claim.cpu, claim.wall),
        format!("energy      {} mJ, by {}", claim.energy.used.0, claim.energy.method.as_str()),
        format!("jail        {}", claim.jail),
        format!("tariff      {}", receipt.tariff),
    ];
    let mut right = true;
    match (&receipt.verdict, receipt.work_facts()) {
        (Verdict::Accepted(accepted), Some(facts)) => {
            let tariff = Tariff::from_canonical(&bytes_of("tariff", &view.tariff)?)
                .map_err(|error| CliError::CannotRead(format!("the pool's tariff cannot be read: {error}")))?;
            if tariff.digest() != receipt.tariff {
                return Err(CliError::CannotRead("the pool shows another tariff than the receipt names".into()));
            }
            let explained = explain_settlement(&tariff, &facts, receipt.policy);
            let (settlement, steps) = explained.map_err(|error| CliError::CannotRead(error.to_string()))?;
            lines.push(String::new());
            for step in &steps {
                lines.push(format!("  [{}] {step}", step.name.clause().as_str()));
            }
            lines.push(String::new());
            right = settlement.reward == accepted.reward && settlement.price.total == accepted.charge;
            lines.push(format!(
                "reward      {} credits, {} of them held back; the requester pays {}",
                accepted.reward.total, accepted.reward.held, accepted.charge
            ));
            lines.push(match right {
                true => "            the calculation above gives the same".into(),
                false => format!(
                    "            WRONG: the calculation above gives {} and {}",
                    settlement.reward.total, settlement.price.total
                ),
            });
        }
        (Verdict::Void(reason), _) => lines.push(format!("void        {reason}: it earns nothing")),
        (Verdict::Accepted(_), None) => {
            return Err(CliError::CannotRead("the receipt says that more fuel was for audits than there was".into()));
        }
    }
    lines.push(match (&view.voided, &view.paid) {
        (Some(voided), _) => format!("afterwards  void since entry {}: {}", voided.entry, voided.words),
        (None, Some(paid)) => format!("afterwards  paid by {}, entry {} of the log", paid.transfer, paid.entry),
        (None, None) if view.verdict == "accepted" => {
            "afterwards  it is not final yet, or nothing is owed for it".into()
        }
        (None, None) => "afterwards  nothing".into(),
    });
    Ok((lines.join("\n"), right))
}

/// The proof's file: c2sp.org/tlog-proof, whose extra data is the entry's salt (32 bytes) and the receipt's canonical
/// bytes.
fn prove(source: Source, view: &ReceiptView) -> Result<(u64, u64, Vec<u8>), CliError> {
    let cannot = |error: &dyn std::fmt::Display| CliError::CannotRead(error.to_string());
    let expected = read_receipt(view)?.to_canonical();
    let files = Snapshot::take(source, None).map_err(|error| cannot(&error))?;
    let note = Note::parse(&files.read(CHECKPOINT).map_err(|error| cannot(&error))?).map_err(|error| cannot(&error))?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| cannot(&error))?;
    let size = checkpoint.tree.size;
    if view.entry >= size {
        let why = format!("entry {} is not published yet (there are {size}); try again in a second", view.entry);
        return Err(CliError::CannotRead(why));
    }
    let width = OPENINGS_WIDTH as u64;
    let number = view.entry / width;
    let wide = (size - number * width).min(width) as usize;
    let path = openings_path(number, wide);
    let openings = Openings::from_bytes(&files.read(&path).map_err(|error| cannot(&error))?, wide);
    let openings = openings.map_err(|error| CliError::CannotRead(format!("{path}: {error}")))?;
    let Some(Opening::Open { salt, bytes, .. }) = openings.openings.get((view.entry % width) as usize) else {
        return Err(CliError::CannotRead(format!("entry {} was erased from {path}", view.entry)));
    };
    if *bytes != expected {
        return Err(CliError::CannotRead(format!(
            "entry {} is published as something else: tell your peers",
            view.entry
        )));
    }
    let mut proof =
        OfflineProof::make(&checkpoint, note, view.entry, &Tiles(&files)).map_err(|error| cannot(&error))?;
    proof.extra = [&salt[..], bytes].concat();
    Ok((view.entry, size, proof.to_string().into_bytes()))
}

fn verify(file: &Path, log_key: Option<&str>, policy: Option<&Path>, format: Format) -> Result<ExitCode, CliError> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| CliError::file("read", path, error));
    let text = match (log_key, policy) {
        (_, Some(path)) => read(path)?,
        (Some(key), None) => format!("log {key}\nquorum none\n").into_bytes(),
        (None, None) => return Err(CliError::Usage("give --log-key or --policy: whose log it has to be".into())),
    };
    let policy = Policy::parse(&text).map_err(|error| CliError::CannotRead(format!("the policy: {error}")))?;
    let damaged = |why: &dyn std::fmt::Display| CliError::CannotRead(format!("{}: {why}", file.display()));
    let proof = OfflineProof::parse(&read(file)?).map_err(|error| damaged(&error))?;
    let (salt, bytes) = proof.extra.split_first_chunk::<32>().ok_or_else(|| damaged(&"it holds no receipt"))?;
    let receipt = Receipted::from_canonical(bytes).map_err(|error| damaged(&error))?;
    let accepted = proof.verify(&commitment(salt, bytes), &policy).map_err(|error| damaged(&error))?;
    let claim = &receipt.claim;
    let earned = match &receipt.verdict {
        Verdict::Accepted(accepted) => format!("accepted, {} credits", accepted.reward.total),
        Verdict::Void(reason) => format!("void: {reason}"),
    };
    let size = accepted.checkpoint.tree.size;
    let id = format!("{}/{}", claim.device, claim.sequence);
    let shown = json!({
        "receipt": id, "owner": receipt.owner.as_str(), "task": claim.task.to_string(),
        "entry": proof.index, "log": accepted.checkpoint.origin.as_str(), "log_size": size, "verdict": earned,
    });
    output::print(format, &shown, |_| {
        format!(
            "{id} of {} for {} ({earned}) is entry {} of {size} in the log {}",
            receipt.owner,
            claim.task,
            proof.index,
            accepted.checkpoint.origin.as_str()
        )
    });
    Ok(ExitCode::SUCCESS)
}
