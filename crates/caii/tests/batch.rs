//! A batch of real sentences through a real model, and what the embeddings are worth.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use serde_json::{Value, json};
use std::process::Command;
use support::{World, model_dir, repo, script};

const SENTENCES: usize = 300;
const MODEL: &str = "all-minilm-l6-v2";

/// Adds a request that must fail to a file of requests.
fn add_bad_line(requests: &str, after: usize) -> String {
    let bad = json!({
        "custom_id": "bad one", "method": "POST", "url": "/v1/embeddings", "body": { "model": MODEL, "input": "" }
    });
    let mut lines: Vec<String> = requests.lines().map(str::to_owned).collect();
    lines.insert(after, bad.to_string());
    lines.join("\n") + "\n"
}

#[test]
fn a_batch_of_real_sentences() {
    let world = World::with_devices(2);
    let text = world.path("sentences.txt").display().to_string();
    script("scripts/fetch-text.sh", &[&text, &SENTENCES.to_string()]);
    world.ok(&["model", "add", &model_dir(), "--name", MODEL]);
    let models = world.json(&["model", "list"]);
    assert_eq!((&models["data"][0]["name"], &models["data"][0]["dimensions"]), (&json!(MODEL), &json!(384)));

    world.ok(&["embeddings", "requests", "sentences.txt", "--model", MODEL, "-o", "requests.jsonl"]);
    let requests = add_bad_line(&world.read("requests.jsonl"), SENTENCES / 2);
    world.write("requests.jsonl", &requests);
    let done = world.run(&["batch", "submit", "requests.jsonl", "--wait", "-o", "results.jsonl"]);
    assert!(done.ok, "one bad line does not fail the batch: {}", done.stderr);
    assert!(
        done.stderr.contains(&format!("{SENTENCES} of {} records done, 1 failed", SENTENCES + 1)),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("failed lines: results.errors.jsonl"), "{}", done.stderr);

    let asked: Vec<Value> = requests.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let asked = asked.iter().map(|line| &line["custom_id"]).filter(|id| *id != "bad one");
    let results = world.lines("results.jsonl");
    assert!(results.iter().map(|line| &line["custom_id"]).eq(asked), "one result a request, in order");
    for line in &results {
        let response = &line["response"];
        assert_eq!((&response["status_code"], &line["error"]), (&json!(200), &Value::Null));
        assert_eq!(response["body"]["data"][0]["embedding"].as_array().unwrap().len(), 384);
        assert!(response["body"]["usage"]["prompt_tokens"].as_u64().unwrap() > 5);
    }
    let errors = world.lines("results.errors.jsonl");
    assert_eq!((errors.len(), &errors[0]["custom_id"]), (1, &json!("bad one")));
    assert_eq!(errors[0]["response"]["status_code"], 400);
    let reason = errors[0]["response"]["body"]["error"]["message"].as_str().unwrap();
    assert!(reason.contains("input") && reason.contains("empty"), "{reason}");

    let job = world.json(&["batch", "status", "batch_1"]);
    assert_eq!((&job["state"], &job["kind"]), (&json!("completed"), &json!("batch")));
    assert_eq!(job["totals"]["devices"], 2, "both devices did some of it");

    script("scripts/openai-clients.sh", &[]);
    let agreement = Command::new(repo().join("build/venv/bin/python"))
        .arg(repo().join("tests/openai/agreement.py"))
        .args([world.path("requests.jsonl"), world.path("results.jsonl")])
        .env("CAII_BUILD_DIR", repo().join("build"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&agreement.stdout).into_owned() + &String::from_utf8_lossy(&agreement.stderr);
    assert!(agreement.status.success(), "{said}");
    println!("{said}");

    let near = world.json(&["embeddings", "nearest", "requests.jsonl", "results.jsonl", "-k", "3"]);
    assert_eq!(near["input"], asked_text(&requests, 0));
    let cosines: Vec<f64> = near["nearest"].as_array().unwrap().iter().map(|n| n["cosine"].as_f64().unwrap()).collect();
    assert_eq!(cosines.len(), 3);
    assert!(cosines.is_sorted_by(|a, b| a >= b) && cosines[0] < 0.9999 && cosines[2] > 0.0, "{cosines:?}");

    // The same again, and the results come from the cache of nobody: equal bytes but for the batch's own ids.
    world.ok(&["batch", "submit", "requests.jsonl", "--wait", "-o", "again.jsonl"]);
    let bodies =
        |name: &str| -> Vec<Value> { world.lines(name).iter().map(|line| line["response"]["body"].clone()).collect() };
    assert_eq!(bodies("again.jsonl"), bodies("results.jsonl"));
}

fn asked_text(requests: &str, line: usize) -> Value {
    let line: Value = serde_json::from_str(requests.lines().nth(line).unwrap()).unwrap();
    line["body"]["input"].clone()
}
