//! `caii audit`: checks everything that a pool published, from public files alone.

use crate::client::PoolArgs;
use crate::error::CliError;
use crate::output::{self, Format};
use crate::published::{Snapshot, Source};
use caii_audit::{Asked, CannotAudit, Check, Options, Outcome, Report, Wrong, audit};
use caii_model::{DeviceId, Digest};
use caii_tlog::Policy;
use caii_trust::Charter;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// The directory or the URL with the published files; a pool has them under `/published`. Default: those of the pool
    /// that --pool names, or of the one on this machine.
    #[arg(value_name = "DIR-or-URL")]
    place: Option<String>,
    /// The checkpoint that you saw last: the log must continue it.
    #[arg(long, value_name = "FILE")]
    last: Option<PathBuf>,
    /// Whose signatures you ask for: the log's key and witnesses, as c2sp.org/tlog-policy has it. Without it the key is
    /// taken from the files themselves.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The charter's rules as JSON, to check the stewards' signatures.
    #[arg(long, value_name = "FILE")]
    charter_file: Option<PathBuf>,
    /// The charter's id, as your join ticket pins it.
    #[arg(long, value_name = "SHA256", requires = "charter_file")]
    charter_id: Option<Digest>,
    /// Your device: its receipts must all be there.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// How many claims your device made, by its own count.
    #[arg(long, value_name = "N", requires = "device")]
    claims: Option<u64>,
    /// Check signatures one by one.
    #[arg(long)]
    strict: bool,
}

pub(crate) async fn run(args: Audit, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let policy = args.policy.as_deref().map(read).transpose()?;
    let policy = policy.map(|bytes| Policy::parse(&bytes)).transpose();
    let policy = policy.map_err(|error| CliError::CannotRead(format!("the policy: {error}")))?;
    let last = args.last.as_deref().map(read).transpose()?;
    let charter = match (&args.charter_file, args.charter_id) {
        (Some(path), Some(id)) => {
            let charter = Charter::from_json(id, &read(path)?);
            Some(charter.map_err(|error| CliError::CannotRead(format!("{}: {error}", path.display())))?)
        }
        (Some(_), None) => {
            return Err(CliError::Usage("--charter-file needs --charter-id: whose rules they are".into()));
        }
        (None, _) => None,
    };
    let source = Source::new(args.place.as_deref(), pool)?;
    let device = args.device.map(|device| Asked { device, claims: args.claims });
    let strict = args.strict;
    let audited = tokio::task::spawn_blocking(move || {
        let (policy, charter, last) = (policy.as_ref(), charter.as_ref(), last.as_deref());
        let snapshot = Snapshot::take(source, policy).map_err(CannotAudit::File)?;
        audit(&snapshot, &Options { policy, last, charter, device, strict })
    });
    let audited = audited.await.map_err(|error| CliError::CannotRead(error.to_string()))?;
    let report = audited.map_err(|error| CliError::CannotRead(error.to_string()))?;
    match format {
        Format::Text => println!("{report}"),
        Format::Json => output::print(format, &view(&report), |_| String::new()),
    }
    Ok(if report.is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::CannotRead(format!("cannot read {}: {error}", path.display())))
}

fn view(report: &Report) -> Value {
    let check = |(check, outcome): (&Check, &Outcome)| {
        let first = outcome
            .first
            .as_ref()
            .map(|Wrong { index, file, why }| json!({ "index": index, "file": file, "why": why }));
        json!({
            "check": check.as_str(),
            "what": check.what(),
            "verdict": outcome.verdict().as_str().to_lowercase(),
            "good": outcome.good,
            "uncheckable": outcome.uncheckable,
            "wrong": outcome.wrong,
            "first_wrong": first,
            "notes": outcome.notes,
        })
    };
    let kinds = |kinds: &std::collections::BTreeMap<caii_audit::Kind, u64>| {
        kinds.iter().map(|(kind, count)| (kind.as_str().to_owned(), json!(count))).collect::<serde_json::Map<_, _>>()
    };
    let contributor = report.contributor.as_ref().map(|contributor| {
        json!({
            "device": contributor.device.to_string(),
            "owner": contributor.owner.as_str(),
            "receipts": contributor.receipts,
            "accepted": contributor.accepted,
            "waiting": contributor.waiting,
            "voided": contributor.voided,
            "last_claim": contributor.last,
            "earned_micro_credits": contributor.earned.0,
        })
    });
    json!({
        "verdict": if report.is_green() { "green" } else { "red" },
        "origin": report.origin,
        "size": report.tree.size,
        "root": report.tree.root.to_string(),
        "cosigned": report.cosigned,
        "entries": kinds(&report.entries),
        "erased": kinds(&report.erased),
        "checks": report.outcomes.iter().map(check).collect::<Vec<_>>(),
        "contributor": contributor,
    })
}
