//! A pool in this process, its HTTP, and devices that speak the agent protocol but run no program.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use serde_json::{Value, json};
use support::{Device, TestPool, batch_line, done};

const MODEL: &str = "test/echo";

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_runs_on_devices_and_comes_back_in_order() {
    let pool = TestPool::start().await;
    pool.add_model(MODEL).await;
    let one = Device::join(&pool, "one").await;
    let two = Device::join(&pool, "two").await;
    let input: String = (0..50)
        .map(|index| match index {
            7 => batch_line("r7", MODEL, "bad"),
            9 => batch_line("r9", MODEL, "trap"),
            _ => batch_line(&format!("r{index}"), MODEL, &format!("text {index}")),
        })
        .collect();
    let file = pool.upload("batch", "in.jsonl", input).await;
    assert_eq!((file["object"].as_str(), file["purpose"].as_str()), (Some("file"), Some("batch")));
    let batch = pool.create_batch(&file["id"]).await;
    assert_eq!(batch["object"], "batch");
    let batch = pool.wait(&format!("/v1/batches/{}", batch["id"].as_str().unwrap()), done).await;
    assert_eq!(batch["status"], "completed", "{batch}");
    assert_eq!(batch["request_counts"], json!({"total": 50, "completed": 48, "failed": 2}));
    assert_eq!(batch["model"], MODEL);

    let lines = pool.lines(&batch["output_file_id"]).await;
    let ids: Vec<&str> = lines.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..50).filter(|i| ![7, 9].contains(i)).map(|i| format!("r{i}")).collect();
    assert_eq!(ids, expected);
    for line in &lines {
        assert_eq!(line["response"]["status_code"], 200);
        assert_eq!(line["error"], Value::Null);
        assert!(line["id"].as_str().unwrap().starts_with("batch_req_"));
        let index = &line["custom_id"].as_str().unwrap()[1..];
        assert_eq!(line["response"]["body"]["echo"]["input"], format!("text {index}"));
    }
    let errors = pool.lines(&batch["error_file_id"]).await;
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0]["custom_id"], "r7");
    assert_eq!(errors[0]["response"]["status_code"], 400);
    let body = json!(
        {"error": {"message": "no good", "type": "invalid_request_error", "param": null, "code": null}}
    );
    assert_eq!(errors[0]["response"]["body"], body);
    assert_eq!(errors[1]["response"]["status_code"], 500);
    assert_eq!(errors[1]["response"]["body"]["error"]["code"], "program_trapped");

    let job = pool.get(&format!("/caii/v1/jobs/{}", batch["id"].as_str().unwrap())).await;
    assert_eq!(job["state"], "completed");
    assert_eq!(job["totals"]["records"], 50);
    assert_eq!(job["batch_id"], batch["id"]);
    one.leave();
    two.leave();
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_batches_fail_with_their_lines() {
    let pool = TestPool::start().await;
    pool.add_model(MODEL).await;
    let good = batch_line("a", MODEL, "x");
    for (input, code, line) in [
        (String::new(), "empty_file", Value::Null),
        (format!("{good}{{\n"), "invalid_json_line", json!(2)),
        (format!("{good}\n{good}"), "duplicate_custom_id", json!(3)),
        (batch_line("a", "gpt-x", "x"), "model_not_found", json!(1)),
        (good.replace("/v1/embeddings", "/v1/chat/completions"), "mismatched_endpoint", json!(1)),
    ] {
        let file = pool.upload("batch", "in.jsonl", input).await;
        let batch = pool.create_batch(&file["id"]).await;
        let batch = pool.wait(&format!("/v1/batches/{}", batch["id"].as_str().unwrap()), done).await;
        assert_eq!(batch["status"], "failed", "{code}");
        assert!(batch["failed_at"].is_number());
        assert_eq!(batch["errors"]["object"], "list");
        let error = &batch["errors"]["data"][0];
        assert_eq!((&error["code"], &error["line"]), (&json!(code), &line));
        assert_eq!(batch["output_file_id"], Value::Null);
    }
    let page = pool.get("/v1/batches?limit=2").await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (2, &json!(true)));
    let next = pool.get(&format!("/v1/batches?limit=100&after={}", page["last_id"].as_str().unwrap())).await;
    assert_eq!((next["data"].as_array().unwrap().len(), &next["has_more"]), (3, &json!(false)));
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_listed_read_and_deleted() {
    let pool = TestPool::start().await;
    let first = pool.upload("user_data", "a.txt", "hello").await;
    let second = pool.upload("batch", "b.jsonl", "{}").await;
    let page = pool.get("/v1/files").await;
    assert_eq!(page["data"], json!([second, first]));
    let page = pool.get("/v1/files?order=asc&limit=1&purpose=user_data").await;
    assert_eq!((&page["data"], &page["has_more"]), (&json!([first]), &json!(false)));
    let id = first["id"].as_str().unwrap();
    assert_eq!(pool.text(&format!("/v1/files/{id}/content")).await, "hello");
    let (status, deleted) = pool.send("DELETE", &format!("/v1/files/{id}"), None).await;
    assert_eq!((status, deleted), (200, json!({"id": id, "object": "file", "deleted": true})));
    let (status, error) = pool.send("GET", &format!("/v1/files/{id}"), None).await;
    assert_eq!((status, &error["error"]["type"]), (404, &json!("invalid_request_error")));
    let (status, error) = pool.try_upload("fine-tune", "c", "x").await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("purpose")));
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_wrong_paths_are_refused_in_openais_shape() {
    let pool = TestPool::start().await;
    let (status, error) = pool.send_as("sk-caii-wrong", "GET", "/v1/models", None).await;
    assert_eq!((status, &error["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(error["error"]["type"], "authentication_error");
    let (status, error) = pool.send("GET", "/v1/nothing", None).await;
    assert_eq!((status, &error["error"]["message"]), (404, &json!("Invalid URL (GET /v1/nothing)")));
    let (status, _) = pool.send("DELETE", "/v1/files", None).await;
    assert_eq!(status, 405);
    let (status, error) = pool.send("GET", "/v1/models/none/such", None).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
    // The agent protocol is not spoken without TLS.
    let (status, _) = pool.send("POST", "/agent/v1/exchange", None).await;
    assert_eq!(status, 404);

    let created = pool.post("/caii/v1/keys", json!({"account": "alice", "name": "laptop"})).await;
    let alice = created["secret"].as_str().unwrap();
    let file = pool.upload("user_data", "a.txt", "hello").await;
    let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
    assert_eq!(pool.send_as(alice, "GET", &path, None).await.0, 404, "another account's file");
    assert_eq!(pool.send_as(alice, "GET", "/caii/v1/keys", None).await.0, 403);
    assert_eq!(pool.send_as(alice, "GET", "/v1/models", None).await.0, 200);
    let (status, revoked) =
        pool.send("POST", &format!("/caii/v1/keys/{}/revoke", created["id"].as_str().unwrap()), None).await;
    assert!(status == 200 && revoked["revoked_ms"].is_number(), "{status} {revoked}");
    assert_eq!(pool.send_as(alice, "GET", "/v1/models", None).await.0, 401);
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_answer_while_the_client_waits() {
    let pool = TestPool::start().await;
    pool.add_model(MODEL).await;
    let ask = |body: Value| pool.send("POST", "/v1/embeddings", Some(body));
    let (status, error) = ask(json!({"model": MODEL, "input": "x"})).await;
    assert_eq!((status, &error["error"]["code"]), (503, &json!("no-device")), "{error}");
    let device = Device::join(&pool, "one").await;
    pool.wait("/caii/v1/pool", |pool| pool["slots_present"] != 0).await;
    let (status, answer) = ask(json!({"model": MODEL, "input": "x"})).await;
    assert_eq!((status, &answer["echo"]["input"]), (200, &json!("x")), "{answer}");
    let (status, error) = ask(json!({"model": MODEL, "input": "bad"})).await;
    assert_eq!((status, &error["error"]["message"]), (400, &json!("no good")));
    let (status, error) = ask(json!({"model": MODEL, "input": "x", "dimensions": 7})).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("dimensions")));
    let (status, error) = ask(json!({"model": "gpt", "input": "x"})).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
    let (status, _) = ask(json!({"model": MODEL, "input": "x".repeat(70_000)})).await;
    assert_eq!(status, 413);
    device.leave();
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_run_over_lines() {
    let pool = TestPool::start().await;
    let workload = pool.add_workload(json!({"name": "echo"})).await;
    let device = Device::join(&pool, "one").await;
    let file = pool.upload("user_data", "in.txt", "one\r\nbad\n\ntwo").await;
    let body = json!({"workload": workload, "input_file_id": file["id"], "format": "lines", "records_per_task": 2});
    let job = pool.post("/caii/v1/jobs", body).await;
    let path = format!("/caii/v1/jobs/{}", job["id"].as_str().unwrap());
    let job = pool.wait(&path, |job| job["ended_ms"].is_number()).await;
    assert_eq!(job["state"], "completed", "{job}");
    assert_eq!((&job["totals"]["tasks"], &job["totals"]["records_ok"]), (&json!(2), &json!(3)));
    let echoes: Vec<Value> = pool.lines(&job["output_file_id"]).await.iter().map(|line| line["echo"].clone()).collect();
    assert_eq!(echoes, [json!("one"), json!(""), json!("two")]);
    let errors = pool.lines(&job["error_file_id"]).await;
    let expected = json!([{
        "record": 2, "line": 2, "stderr": "no good",
        "error": {"code": "program_failed", "message": "The program ended with exit code 1."}
    }]);
    assert_eq!(Value::from(errors), expected);
    let explained = pool.get(&format!("{path}/explain")).await;
    assert!(explained["lines"][0].as_str().unwrap().starts_with("It completed"), "{explained}");
    device.leave();
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_program_is_refused_with_the_reason() {
    let pool = TestPool::start().await;
    let (status, error) = pool
        .send("POST", "/caii/v1/workloads", Some(json!({"name": "x", "program": format!("sha256:{}", "0".repeat(64))})))
        .await;
    assert_eq!((status, &error["error"]["code"]), (400, &json!("blob_missing")));
    let digest = pool.put_blob(b"no wasm").await;
    let (status, error) = pool.send("POST", "/caii/v1/workloads", Some(json!({"name": "x", "program": digest}))).await;
    assert_eq!((status, &error["error"]["code"]), (400, &json!("program_refused")));
    assert!(error["error"]["message"].as_str().unwrap().contains("not a WebAssembly module"), "{error}");
    let (status, _) = pool.put_blob_as(&"0".repeat(64), b"other content").await;
    assert_eq!(status, 400);
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_does_not_fit_its_commitment_counts_as_a_failed_attempt() {
    let pool = TestPool::start().await;
    let workload = pool.add_workload(json!({"name": "echo"})).await;
    let liar = Device::join_lying(&pool, "liar").await;
    let file = pool.upload("user_data", "in.txt", "one\n").await;
    let body = json!({"workload": workload, "input_file_id": file["id"], "format": "lines"});
    let job = pool.post("/caii/v1/jobs", body).await;
    let path = format!("/caii/v1/jobs/{}", job["id"].as_str().unwrap());
    pool.wait(&path, |job| job["totals"]["attempts_failed"] != 0).await;
    let honest = Device::join(&pool, "honest").await;
    let job = pool.wait(&path, |job| job["ended_ms"].is_number()).await;
    assert_eq!((&job["state"], &job["totals"]["records_ok"]), (&json!("completed"), &json!(1)));
    let explained = pool.get(&format!("{path}/explain")).await.to_string();
    assert!(explained.contains("the commitment does not fit the result"), "{explained}");
    liar.leave();
    honest.leave();
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_whose_claim_was_signed_otherwise_counts_as_a_failed_attempt() {
    let pool = TestPool::start().await;
    let workload = pool.add_workload(json!({"name": "echo"})).await;
    let greedy = Device::join_claiming_more(&pool, "greedy").await;
    let file = pool.upload("user_data", "in.txt", "one\n").await;
    let body = json!({"workload": workload, "input_file_id": file["id"], "format": "lines"});
    let job = pool.post("/caii/v1/jobs", body).await;
    let path = format!("/caii/v1/jobs/{}", job["id"].as_str().unwrap());
    pool.wait(&path, |job| job["totals"]["attempts_failed"] != 0).await;
    greedy.leave();
    let honest = Device::join(&pool, "honest").await;
    let job = pool.wait(&path, |job| job["ended_ms"].is_number()).await;
    assert_eq!((&job["state"], &job["totals"]["records_ok"]), (&json!("completed"), &json!(1)));
    let explained = pool.get(&format!("{path}/explain")).await.to_string();
    assert!(explained.contains("the device did not sign the claim to this result"), "{explained}");
    honest.leave();
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_keeps_what_there_is() {
    let pool = TestPool::start().await;
    pool.add_model(MODEL).await;
    let file = pool.upload("batch", "in.jsonl", batch_line("a", MODEL, "x") + &batch_line("b", MODEL, "y")).await;
    let batch = pool.create_batch(&file["id"]).await;
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    pool.wait(&path, |batch| batch["status"] == "in_progress").await;
    let (status, _) = pool.send("DELETE", &format!("/v1/files/{}", file["id"].as_str().unwrap()), None).await;
    assert_eq!(status, 409, "the input of a running batch");
    let (status, cancelling) = pool.send("POST", &format!("{path}/cancel"), None).await;
    assert!(status == 200 && ["cancelling", "cancelled"].contains(&cancelling["status"].as_str().unwrap()));
    let batch = pool.wait(&path, done).await;
    assert_eq!(batch["status"], "cancelled");
    assert_eq!(batch["request_counts"], json!({"total": 2, "completed": 0, "failed": 2}));
    let errors = pool.lines(&batch["error_file_id"]).await;
    assert_eq!(errors[1]["custom_id"], "b");
    assert_eq!((&errors[1]["response"], &errors[1]["error"]["code"]), (&Value::Null, &json!("batch_cancelled")));
    let (status, error) = pool.send("POST", &format!("{path}/cancel"), None).await;
    assert_eq!(status, 409, "{error}");
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let pool = TestPool::start().await;
    pool.add_model(MODEL).await;
    let file = pool.upload("batch", "in.jsonl", batch_line("a", MODEL, "x")).await;
    let batch = pool.create_batch(&file["id"]).await;
    let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    pool.wait(&path, |batch| batch["status"] == "in_progress").await;
    let before = pool.addresses().clone();
    assert!(pool.start_again_here().await.unwrap_err().contains("another `caii pool up` runs"));

    let pool = pool.restart().await;
    let after = pool.addresses();
    assert_eq!((before.pool, before.fingerprint, &before.admin_key), (after.pool, after.fingerprint, &after.admin_key));
    let device = Device::join(&pool, "one").await;
    let batch = pool.wait(&path, done).await;
    assert_eq!(batch["status"], "completed");
    device.leave();
    pool.stop().await;
}

/// Jobs, batches and synchronous requests: each has its own way in, and none is open to what nobody certified.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_certified_is_refused_at_every_door() {
    let pool = TestPool::start().await;
    let created = pool.post("/caii/v1/keys", json!({"account": "alice"})).await;
    let alice = created["secret"].as_str().unwrap();
    let workload = pool.add_workload_as(alice, json!({"name": "alices"})).await;
    let model = json!({
        "name": MODEL, "workload": workload, "endpoint": "/v1/embeddings", "dimensions": 3, "tokens_max": 9
    });
    pool.post("/caii/v1/models", model).await;
    let device = Device::join(&pool, "one").await;

    let lines = pool.upload("batch", "in.jsonl", batch_line("a", MODEL, "x")).await["id"].clone();
    let doors = [
        ("/caii/v1/jobs", json!({"workload": workload, "input_file_id": lines, "format": "lines"})),
        ("/v1/batches", json!({"input_file_id": lines, "endpoint": "/v1/embeddings", "completion_window": "24h"})),
        ("/v1/embeddings", json!({"model": MODEL, "input": "x"})),
    ];
    for (path, body) in &doors {
        let (status, error) = pool.send("POST", path, Some(body.clone())).await;
        assert_eq!((status, &error["error"]["code"]), (403, &json!("workload_uncertified")), "{path}: {error}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("nobody certified it; 1 of 1 keys is missing"), "{message}");
    }
    assert_eq!(pool.get("/caii/v1/jobs").await["data"], json!([]), "nothing was let in");

    let status = format!("/caii/v1/workloads/{workload}/certification");
    let view = pool.get(&status).await;
    assert_eq!((&view["certified"], &view["missing"], &view["signed"]), (&json!(false), &json!(1), &json!([])));
    let allowed = pool.post(&format!("/caii/v1/workloads/{workload}/certify"), json!({})).await;
    assert_eq!(allowed["verdict"], "certified");
    let view = pool.get(&format!("{status}?region=eu")).await;
    assert_eq!((&view["certified"], &view["signed"][0]["name"]), (&json!(true), &json!("operator")), "{view}");
    assert_eq!(pool.send("GET", &format!("{status}?region=EU"), None).await.0, 400);
    for (path, body) in &doors {
        let (status, answer) = pool.send("POST", path, Some(body.clone())).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    device.leave();
    pool.stop().await;
}

/// A certification that a revoked key was part of is none, and what was let in by it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_the_jobs_that_it_certified() {
    let pool = TestPool::start().await;
    let workload = pool.add_workload(json!({"name": "echo"})).await;
    let file = pool.upload("user_data", "in.txt", "x").await["id"].clone();
    let ask = json!({"workload": workload, "input_file_id": file, "format": "lines"});
    let job = pool.post("/caii/v1/jobs", ask.clone()).await["id"].clone();
    let path = format!("/caii/v1/jobs/{}", job.as_str().unwrap());
    pool.wait(&path, |job| job["state"] == "running").await;
    pool.revoke_stewards_key("stolen").await;
    let ended = pool.wait(&path, |job| job["ended_ms"].is_number()).await;
    assert_eq!(ended["state"], "failed");
    let error = &ended["errors"][0];
    assert_eq!(error["code"], "workload_uncertified", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("operator: the key was revoked by operator on") && message.contains("stolen"),
        "{message}"
    );
    assert_eq!(pool.send("POST", "/caii/v1/jobs", Some(ask)).await.0, 403);
    pool.stop().await;
}
