//! `caii job`: any WebAssembly program over the records of a file.

use super::quote;
use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, ago, table, thousands};
use crate::waiting::{self, ended};
use caii_model::{Bytes, MicroCredits, Millis, Verification};
use caii_node::views::{
    BlobRefView, ExplainView, JobCreate, JobView, LimitsView, List, QuoteAsk, WorkloadCreate, WorkloadView,
};
use clap::{Args, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Run a program over the records of a file.
    Submit(Box<Submit>),
    /// What a job would cost at most and probably, how its results would be checked, and how long it would take. Nothing is
    /// submitted or set aside; the program stays in the pool, the input does not.
    Quote(Box<Program>),
    /// Show jobs, newest first.
    List,
    /// Show one job.
    Status {
        /// Which, as `job_17`.
        id: String,
    },
    /// Why a job is where it is, and why tasks were retried.
    Explain {
        /// Which, as `job_17`.
        id: String,
    },
    /// Fetch the results of a job that has ended.
    Results {
        /// Which, as `job_17`.
        id: String,
        /// Where the results go; `-` is standard output.
        #[arg(short = 'o', long = "out", value_name = "FILE", default_value = "results.jsonl")]
        out: PathBuf,
        /// Where failed records go; default: beside the results.
        #[arg(long, value_name = "FILE")]
        errors: Option<PathBuf>,
    },
    /// End a job; what is done so far becomes its results.
    Cancel {
        /// Which, as `job_17`.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    program: Program,
    /// When the job is given up.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = super::duration)]
    expires: Millis,
    /// A label.
    #[arg(long, default_value = "")]
    name: String,
    /// Only say what it would cost, as `caii job quote` does.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Wait until it has ended and fetch the results.
    #[arg(long)]
    wait: bool,
    /// Where the results go, with --wait; `-` is standard output.
    #[arg(short = 'o', long = "out", value_name = "FILE", default_value = "results.jsonl")]
    out: PathBuf,
    /// Where failed records go, with --wait; default: beside the results, as results.errors.jsonl.
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
}

/// A program and its input.
#[derive(Debug, Args)]
pub(crate) struct Program {
    /// A WASI command that reads an item on standard input and writes its result on standard output.
    #[arg(long, value_name = "WASM")]
    program: PathBuf,
    /// The records, one a line.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// How lines are checked; default: jsonl for .jsonl and .json, else lines.
    #[arg(long, value_enum)]
    format: Option<InputFormat>,
    /// Records in a task, which is what a device is given at a time; default: the pool chooses.
    #[arg(long, value_name = "N")]
    records_per_task: Option<u32>,
    /// How results are checked: spot, audit, audit=N or quorum=N; default: as the pool has it.
    #[arg(long, value_name = "HOW")]
    verify: Option<Verification>,
    /// The most that it may cost, in credits, as `12.5`; a job whose price may be higher does not begin.
    #[arg(long, value_name = "CREDITS", value_parser = super::quote::credits)]
    max_price: Option<MicroCredits>,
    /// What one run of the program sees.
    #[arg(long, value_enum, default_value_t = Scope::Item)]
    scope: Scope,
    /// Records in an item, for programs that read several lines at a time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    records_per_item: u32,
    /// A file that the program may read as /data/NAME. May be repeated.
    #[arg(long = "data", value_name = "NAME=FILE", value_parser = name_and_file)]
    data: Vec<(String, PathBuf)>,
    /// An argument for the program. May be repeated.
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    args: Vec<String>,
    /// Memory of one run, in MiB.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Fuel of one run.
    #[arg(long, value_name = "UNITS")]
    fuel: Option<u64>,
    /// Wall time of one run before the device gives the attempt up.
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    item_timeout: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    /// Each line is a JSON value; empty lines are skipped.
    Jsonl,
    /// Each line is a record, whatever it holds.
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// One item: a record, or --records-per-item of them.
    Item,
    /// All records of a task, for programs such as deduplication.
    Task,
}

pub(crate) fn name_and_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.into(), file.into())),
        _ => Err("write NAME=FILE, as model.bin=./model.bin".into()),
    }
}

pub(crate) async fn run(command: Job, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Job::Submit(submit) => return submit_program(&client, *submit, format).await,
        Job::Quote(program) => quote_program(&client, &program, format).await?,
        Job::List => {
            let jobs: List<JobView> = client.get("/caii/v1/jobs?limit=100").await?;
            output::print(format, &jobs, |jobs| table_of(&jobs.data));
        }
        Job::Status { id } => {
            let view: JobView = client.get(&format!("/caii/v1/jobs/{}", job_of(&id))).await?;
            output::print(format, &view, show);
        }
        Job::Explain { id } => {
            let explain: ExplainView = client.get(&format!("/caii/v1/jobs/{}/explain", job_of(&id))).await?;
            output::print(format, &explain, |explain| explain.lines.join("\n"));
        }
        Job::Results { id, out, errors } => results(&client, &id, &out, errors.as_deref(), format).await?,
        Job::Cancel { id } => cancel(&client, &id, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is in the pool once program and input are uploaded.
struct Uploaded {
    /// The program's name.
    name: String,
    workload: String,
    input_file_id: String,
    format: &'static str,
}

/// Stores the program with its data, names the workload, uploads the input.
async fn upload(client: &Client, ask: &Program) -> Result<Uploaded, CliError> {
    let program = store(client, &ask.program).await?;
    let mut blobs = Vec::new();
    for (name, path) in &ask.data {
        let (digest, size) = store(client, path).await?;
        blobs.push(BlobRefView { name: name.clone(), digest: digest.to_string(), size: size.0 });
    }
    let name = ask.program.file_stem().map_or("program".into(), |stem| stem.to_string_lossy().into_owned());
    let create = WorkloadCreate {
        name: name.clone(),
        program: program.0.to_string(),
        scope: if ask.scope == Scope::Item { "item" } else { "task" }.into(),
        records_per_item: ask.records_per_item,
        blobs,
        args: ask.args.clone(),
        limits: LimitsView {
            memory: ask.memory.map(|mib| mib.saturating_mul(1 << 20)),
            fuel_per_item: ask.fuel,
            wall_per_item_ms: ask.item_timeout.map(|time| time.0),
            ..LimitsView::default()
        },
        vetted: false,
    };
    let workload: WorkloadView = client.post("/caii/v1/workloads", &create).await?;
    let lines = match ask.format {
        Some(format) => format == InputFormat::Lines,
        None => !ask.input.extension().is_some_and(|end| end == "jsonl" || end == "json" || end == "ndjson"),
    };
    let input_file_id = client.upload(&ask.input, "user_data").await?;
    Ok(Uploaded { name, workload: workload.digest, input_file_id, format: if lines { "lines" } else { "jsonl" } })
}

async fn quote_program(client: &Client, program: &Program, format: Format) -> Result<(), CliError> {
    let Uploaded { workload, input_file_id, format: lines, .. } = upload(client, program).await?;
    let ask = QuoteAsk {
        input_file_id,
        workload: Some(workload),
        format: Some(lines.into()),
        endpoint: None,
        records_per_task: program.records_per_task,
        verify: program.verify.map(|how| how.to_string()),
        max_price: program.max_price.map(|price| price.to_string()),
    };
    quote::ask(client, &ask, format).await
}

async fn submit_program(client: &Client, submit: Submit, format: Format) -> Result<ExitCode, CliError> {
    let program = &submit.program;
    if submit.dry_run {
        quote_program(client, program, format).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let uploaded = upload(client, program).await?;
    let ask = JobCreate {
        name: if submit.name.is_empty() { uploaded.name } else { submit.name },
        workload: uploaded.workload,
        input_file_id: uploaded.input_file_id,
        format: uploaded.format.into(),
        records_per_task: program.records_per_task,
        verify: program.verify.map(|how| how.to_string()),
        max_price: program.max_price.map(|price| price.to_string()),
        expires_after_ms: Some(submit.expires.0),
    };
    let view: JobView = client.post("/caii/v1/jobs", &ask).await?;
    if !submit.wait {
        output::print(format, &view, |view| view.id.clone());
        eprintln!("submitted; `caii job status {}` shows it", view.id);
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} submitted", view.id);
    let view = waiting::wait(client, &view.id).await?;
    let fetched = waiting::fetch(client, &view, &submit.out, submit.errors.as_deref()).await?;
    if format == Format::Json {
        output::print(format, &view, |_| String::new());
    }
    waiting::report(&view, &fetched)?;
    Ok(ExitCode::SUCCESS)
}

/// Stores a local file as a blob.
pub(crate) async fn store(client: &Client, path: &Path) -> Result<(caii_model::Digest, Bytes), CliError> {
    let (digest, size) = digest_file(path).map_err(|error| CliError::file("read", path, error))?;
    client.put_blob(path, digest).await?;
    Ok((digest, size))
}

pub(crate) fn digest_file(path: &Path) -> std::io::Result<(caii_model::Digest, Bytes)> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok((caii_model::Digest(hasher.finalize().into()), Bytes(size))),
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

/// A batch is a job with another name.
pub(crate) fn job_of(id: &str) -> String {
    id.strip_prefix("batch_").map_or_else(|| id.to_owned(), |number| format!("job_{number}"))
}

pub(crate) async fn results(
    client: &Client,
    id: &str,
    out: &Path,
    errors: Option<&Path>,
    format: Format,
) -> Result<(), CliError> {
    let view: JobView = client.get(&format!("/caii/v1/jobs/{}", job_of(id))).await?;
    if !ended(&view) {
        return Err(CliError::Usage(format!("{id} is still {}; `caii job explain {id}` says why", view.state)));
    }
    let fetched = waiting::fetch(client, &view, out, errors).await?;
    if format == Format::Json {
        output::print(format, &view, |_| String::new());
    }
    waiting::report(&view, &fetched)
}

pub(crate) async fn cancel(client: &Client, id: &str, format: Format) -> Result<(), CliError> {
    let path = format!("/caii/v1/jobs/{}/cancel", job_of(id));
    let view: JobView = client.post(&path, &serde_json::json!({})).await?;
    output::print(format, &view, |view| format!("{} is {}", view.id, view.state));
    Ok(())
}

pub(crate) fn table_of(jobs: &[JobView]) -> String {
    let row = |job: &JobView| {
        let totals = &job.totals;
        let records = format!("{}/{}", thousands(totals.records_ok + totals.records_failed), thousands(totals.records));
        let id = job.batch_id.clone().unwrap_or_else(|| job.id.clone());
        let (name, account, state) = (job.name.clone(), job.account.clone(), job.state.clone());
        vec![id, name, account, state, records, thousands(totals.records_failed), ago(job.submitted_ms)]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    table(&["id", "name", "account", "state", "records", "failed", "submitted"], &rows)
}

pub(crate) fn show(job: &JobView) -> String {
    let totals = &job.totals;
    let mut lines = vec![
        format!("id         {}", job.batch_id.as_ref().map_or(job.id.clone(), |batch| format!("{} ({batch})", job.id))),
        format!("name       {}", job.name),
        format!("account    {}", job.account),
        format!("state      {}", job.state),
        format!("submitted  {}", ago(job.submitted_ms)),
    ];
    if let Some(at) = job.ended_ms {
        lines.push(format!("took       {}", Millis(at.saturating_sub(job.submitted_ms))));
    }
    lines.extend([
        format!(
            "records    {} done, {} failed, of {}",
            thousands(totals.records_ok),
            thousands(totals.records_failed),
            thousands(totals.records)
        ),
        format!(
            "tasks      {} done, {} given up, {} under way, {} waiting, of {}; {} attempts failed",
            totals.tasks_settled,
            totals.tasks_given_up,
            job.tasks_leased,
            job.tasks_waiting,
            totals.tasks,
            totals.attempts_failed
        ),
        format!("devices    {}", totals.devices),
        format!("CPU time   {}", Millis(totals.cpu_ms)),
        format!("fuel       {}", thousands(totals.fuel)),
    ]);
    if let Some(price) = &job.price {
        let [reserved, charged, returned] =
            [price.reserved_micro_credits, price.charged_micro_credits, price.returned_micro_credits]
                .map(|micro| MicroCredits(micro).to_string());
        lines.push(format!("price      {charged} credits of {reserved} set aside; {returned} came back"));
    }
    for (label, file) in [("output", &job.output_file_id), ("errors", &job.error_file_id)] {
        if let Some(file) = file {
            lines.push(format!("{label:<11}{file}"));
        }
    }
    for error in &job.errors {
        let line = error.line.map_or_else(String::new, |line| format!("line {line}: "));
        lines.push(format!("error      {line}{} ({})", error.message, error.code));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_jobs() {
        assert_eq!(job_of("batch_17"), "job_17");
        assert_eq!(job_of("job_17"), "job_17");
    }
}
