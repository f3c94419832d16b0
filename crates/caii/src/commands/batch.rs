//! `caii batch`: batches in the format of the OpenAI Batch API.

use super::job::{cancel, job_of, results, show, table_of};
use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format};
use crate::waiting;
use caii_model::{MicroCredits, Verification};
use caii_node::views::{JobView, List, QuoteAsk};
use clap::Subcommand;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Batch {
    /// Submit a file of requests, one JSON object a line.
    Submit {
        /// The requests: lines with `custom_id`, `method`, `url` and `body`.
        requests: PathBuf,
        /// What the lines call; default: what the first line says.
        #[arg(long, value_name = "PATH")]
        endpoint: Option<String>,
        /// How results are checked: spot, audit, audit=N or quorum=N; default: as the pool has it.
        #[arg(long, value_name = "HOW")]
        verify: Option<Verification>,
        /// The most that it may cost, in credits, as `12.5`; a batch whose price may be higher does not begin.
        #[arg(long, value_name = "CREDITS", value_parser = super::quote::credits)]
        max_price: Option<MicroCredits>,
        /// Only say what it would cost, as `caii job quote` does.
        #[arg(long, conflicts_with = "wait")]
        dry_run: bool,
        /// Wait until it has ended and fetch the results.
        #[arg(long)]
        wait: bool,
        /// Where the results go, with --wait; `-` is standard output.
        #[arg(short = 'o', long = "out", value_name = "FILE", default_value = "results.jsonl")]
        out: PathBuf,
        /// Where failed lines go, with --wait; default: beside the results, as results.errors.jsonl.
        #[arg(long, value_name = "FILE")]
        errors: Option<PathBuf>,
    },
    /// Show batches, newest first.
    List,
    /// Show one batch.
    Status {
        /// Which, as `batch_17`.
        id: String,
    },
    /// Fetch the results of a batch that has ended.
    Results {
        /// Which, as `batch_17`.
        id: String,
        /// Where the results go; `-` is standard output.
        #[arg(short = 'o', long = "out", value_name = "FILE", default_value = "results.jsonl")]
        out: PathBuf,
        /// Where failed lines go; default: beside the results.
        #[arg(long, value_name = "FILE")]
        errors: Option<PathBuf>,
    },
    /// End a batch; what is done so far becomes its results.
    Cancel {
        /// Which, as `batch_17`.
        id: String,
    },
}

pub(crate) async fn run(command: Batch, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Batch::Submit { requests, endpoint, verify, max_price, dry_run, wait, out, errors } => {
            let endpoint = match endpoint {
                Some(endpoint) => endpoint,
                None => first_url(&requests)?,
            };
            let file = client.upload(&requests, "batch").await?;
            let (verify, max_price) = (verify.map(|how| how.to_string()), max_price.map(|price| price.to_string()));
            if dry_run {
                let ask = QuoteAsk {
                    input_file_id: file,
                    workload: None,
                    format: None,
                    endpoint: Some(endpoint),
                    records_per_task: None,
                    verify,
                    max_price,
                };
                super::quote::ask(&client, &ask, format).await?;
                return Ok(ExitCode::SUCCESS);
            }
            let ask = serde_json::json!({
                "input_file_id": file,
                "endpoint": endpoint,
                "completion_window": "24h",
                "verify": verify,
                "max_price": max_price,
            });
            let batch: serde_json::Value = client.post("/v1/batches", &ask).await?;
            let id = batch["id"].as_str().unwrap_or_default().to_owned();
            if !wait {
                output::print(format, &batch, |_| id.clone());
                eprintln!("submitted; `caii batch status {id}` shows it");
                return Ok(ExitCode::SUCCESS);
            }
            eprintln!("{id} submitted");
            let view = waiting::wait(&client, &job_of(&id)).await?;
            let fetched = waiting::fetch(&client, &view, &out, errors.as_deref()).await?;
            if format == Format::Json {
                output::print(format, &view, |_| String::new());
            }
            waiting::report(&view, &fetched)?;
        }
        Batch::List => {
            let jobs: List<JobView> = client.get("/caii/v1/jobs?limit=100").await?;
            let jobs = List { data: jobs.data.into_iter().filter(|job| job.kind == "batch").collect(), ..jobs };
            output::print(format, &jobs, |jobs| table_of(&jobs.data));
        }
        Batch::Status { id } => {
            let view: JobView = client.get(&format!("/caii/v1/jobs/{}", job_of(&id))).await?;
            output::print(format, &view, show);
        }
        Batch::Results { id, out, errors } => results(&client, &id, &out, errors.as_deref(), format).await?,
        Batch::Cancel { id } => cancel(&client, &id, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The `url` of the first line, which the pool will demand of all the others too.
fn first_url(path: &Path) -> Result<String, CliError> {
    let file = std::fs::File::open(path).map_err(|error| CliError::file("read", path, error))?;
    let mut line = Vec::new();
    // The pool refuses longer lines, with their numbers; here it only matters not to read them whole.
    let mut limited = std::io::Read::take(BufReader::new(file), 1 << 20);
    limited.read_until(b'\n', &mut line).map_err(|error| CliError::file("read", path, error))?;
    let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
    let url = serde_json::from_slice::<serde_json::Value>(text).ok();
    let url = url.as_ref().and_then(|line| line["url"].as_str());
    url.map(str::to_owned).ok_or_else(|| {
        CliError::Usage(format!(
            "the first line of {} is no request with a `url`; each line looks like \
             {{\"custom_id\": \"1\", \"method\": \"POST\", \"url\": \"/v1/embeddings\", \"body\": {{…}}}} \
             (or give --endpoint and let the pool report every bad line)",
            path.display()
        ))
    })
}
