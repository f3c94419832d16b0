//! `caii embeddings`: making requests from text, and looking at what came back. Works on files alone, without a pool.

use crate::error::CliError;
use crate::output::{self, Format};
use clap::Subcommand;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Embeddings {
    /// Make a batch file that asks for the embedding of each line of a text.
    Requests {
        /// The text, one input a line; empty lines are left out.
        text: PathBuf,
        /// The model.
        #[arg(long)]
        model: String,
        /// At most so many lines.
        #[arg(long, value_name = "N")]
        lines: Option<usize>,
        /// Where the requests go.
        #[arg(short = 'o', long = "out", value_name = "FILE", default_value = "requests.jsonl")]
        out: PathBuf,
    },
    /// Show the inputs whose embeddings are nearest to those of one of them.
    Nearest {
        /// The batch file.
        requests: PathBuf,
        /// Its results.
        results: PathBuf,
        /// The first input that contains this text is compared with all others; default: the first input.
        #[arg(long, value_name = "TEXT", default_value = "")]
        like: String,
        /// How many to show.
        #[arg(short, default_value_t = 5)]
        k: usize,
    },
}

#[derive(Serialize)]
struct Neighbours {
    input: String,
    nearest: Vec<Neighbour>,
}

#[derive(Serialize)]
struct Neighbour {
    cosine: f32,
    input: String,
}

pub(crate) fn run(command: Embeddings, format: Format) -> Result<ExitCode, CliError> {
    match command {
        Embeddings::Requests { text, model, lines, out } => {
            let count = requests(&text, &model, lines.unwrap_or(usize::MAX), &out)?;
            output::print(format, &serde_json::json!({ "requests": count, "file": out }), |_| {
                format!("{count} requests in {}", out.display())
            });
        }
        Embeddings::Nearest { requests, results, like, k } => {
            let found = nearest(&requests, &results, &like, k)?;
            output::print(format, &found, |found| {
                let mut text = format!("“{}”\n", found.input);
                for neighbour in &found.nearest {
                    text.push_str(&format!("  {:.3}  {}\n", neighbour.cosine, neighbour.input));
                }
                text
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn requests(text: &Path, model: &str, limit: usize, out: &Path) -> Result<u64, CliError> {
    let read = |error| CliError::file("read", text, error);
    let file = std::fs::File::open(text).map_err(read)?;
    let lines = BufReader::new(file).lines().collect::<Result<Vec<_>, _>>().map_err(read)?;
    let lines = lines.into_iter().filter(|line| !line.trim().is_empty()).take(limit);
    let write = |error| CliError::file("write", out, error);
    let mut file = BufWriter::new(std::fs::File::create(out).map_err(write)?);
    let count = caii_models::embeddings_requests(lines, model, &mut file).map_err(write)?;
    file.flush().map_err(write)?;
    Ok(count)
}

fn nearest(requests: &Path, results: &Path, like: &str, k: usize) -> Result<Neighbours, CliError> {
    let mut inputs: BTreeMap<String, String> = BTreeMap::new();
    for_each_line(requests, |line| {
        if let (Some(id), Some(input)) = (line["custom_id"].as_str(), line["body"]["input"].as_str()) {
            inputs.insert(id.to_owned(), input.to_owned());
        }
    })?;
    let (mut texts, mut vectors) = (Vec::new(), Vec::new());
    for_each_line(results, |line| {
        let input = line["custom_id"].as_str().and_then(|id| inputs.get(id));
        let numbers = line["response"]["body"]["data"][0]["embedding"].as_array();
        if let (Some(input), Some(numbers)) = (input, numbers) {
            texts.push(input.clone());
            vectors.push(numbers.iter().map(|n| n.as_f64().unwrap_or(f64::NAN) as f32).collect::<Vec<f32>>());
        }
    })?;
    let query = texts
        .iter()
        .position(|text| text.contains(like))
        .ok_or_else(|| CliError::Usage(format!("no embedded input of {} contains “{like}”", requests.display())))?;
    let nearest = caii_models::nearest(&vectors, query, k);
    let nearest = nearest.into_iter().map(|(at, cosine)| Neighbour { cosine, input: texts[at].clone() }).collect();
    Ok(Neighbours { input: texts[query].clone(), nearest })
}

fn for_each_line(path: &Path, mut see: impl FnMut(serde_json::Value)) -> Result<(), CliError> {
    let read = |error| CliError::file("read", path, error);
    let file = std::fs::File::open(path).map_err(read)?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(read)?;
        let value = serde_json::from_str(&line).map_err(|error| {
            CliError::Usage(format!("line {} of {} is not JSON: {error}", number + 1, path.display()))
        })?;
        see(value);
    }
    Ok(())
}
