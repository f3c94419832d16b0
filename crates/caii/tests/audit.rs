//! `caii audit` and `caii witness` over a directory and over HTTP, as auditors and witnesses use them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../audit/tests/audit/sample.rs"]
#[expect(dead_code, reason = "the audit's own tests use more of it")]
mod sample;

use caii_audit::MemoryFiles;
use caii_tlog::{Note, parse_cosignatures};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn caii(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_caii")).args(args).output().unwrap()
}

fn write(dir: &Path, files: &MemoryFiles) {
    for (path, bytes) in &files.0 {
        let at = dir.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, bytes).unwrap();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Answers requests for files until the test ends.
fn serve(files: MemoryFiles) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/log", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let read = stream.read(&mut chunk).unwrap();
                request.extend_from_slice(&chunk[..read]);
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap().strip_prefix("/log/").unwrap();
            let (status, body) = match files.0.get(path) {
                Some(bytes) => ("200 OK", bytes.as_slice()),
                None => ("404 Not Found", &b""[..]),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
        }
    });
    url
}

#[test]
fn an_audit_is_green_red_or_impossible() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let pool = sample::small();
    let files = sample::publish(&pool.events, &pool.payouts, 100).files;
    write(&dir.path().join("log"), &files);
    std::fs::write(at("policy"), sample::policy().to_bytes()).unwrap();
    std::fs::write(at("last"), &files.0["checkpoint"]).unwrap();

    let device = pool.id(0).to_string();
    let log = at("log");
    let args = ["audit", &log, "--policy", &at("policy"), "--last", &at("last"), "--device", &device, "--claims", "92"];
    let green = caii(&args);
    assert_eq!(green.status.code(), Some(0), "{}", text(&green));
    assert!(text(&green).contains("green: nothing is wrong"), "{}", text(&green));
    assert_eq!(text(&caii(&["audit", &serve(files.clone())])).lines().last(), Some("green: nothing is wrong"));

    let mut changed = files.0["opening/000"].clone();
    changed[9_000] ^= 1;
    std::fs::write(dir.path().join("log/opening/000"), changed).unwrap();
    let red = caii(&["audit", &log, "--policy", &at("policy"), "--output", "json"]);
    assert_eq!(red.status.code(), Some(1), "{}", text(&red));
    let report: Value = serde_json::from_slice(&red.stdout).unwrap();
    assert_eq!(report["verdict"], "red");
    let openings = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "openings").unwrap();
    assert_eq!((&openings["verdict"], &openings["first_wrong"]["file"]), (&"wrong".into(), &"opening/000".into()));

    let nothing = caii(&["audit", &at("nowhere")]);
    assert_eq!(nothing.status.code(), Some(2), "{}", text(&nothing));
    let nobody = caii(&["audit", "http://127.0.0.1:1/log"]);
    assert_eq!(nobody.status.code(), Some(2), "{}", text(&nobody));
}

#[test]
fn a_witness_cosigns_what_continues_and_remembers_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let pool = sample::small();
    let publish = |events| sample::publish(events, &pool.payouts, 100).files;
    let (log, key, out) = (at("log"), at("witness"), at("cosignature"));
    let log_key = sample::log_signer().key().to_string();
    let made = caii(&["witness", "init", "--key", &key, "--name", "w9.example", "--log", &log_key, "--output", "json"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let witness = made["key"].as_str().unwrap().parse().unwrap();
    assert_eq!(caii(&["witness", "init", "--key", &key, "--name", "x", "--log", &log_key]).status.code(), Some(1));

    let run = || caii(&["witness", "run", &log, "--key", &key, "--once", "--out", &out]);
    for size in [300, 600] {
        let files = publish(&pool.events[..size]);
        write(Path::new(&log), &files);
        let ran = run();
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
        let mut note = Note::parse(&files.0["checkpoint"]).unwrap();
        for signature in parse_cosignatures(&std::fs::read(&out).unwrap()).unwrap() {
            note.add(signature);
        }
        assert_eq!(note.signers([&witness]).unwrap().len(), 1, "{size}");
    }
    // What was cosigned is never gone back from, in whatever process.
    std::fs::remove_file(&out).unwrap();
    write(Path::new(&log), &publish(&pool.events[..400]));
    let back = run();
    assert_eq!(back.status.code(), Some(2), "{}", text(&back));
    let mut other = pool.events.clone();
    other.remove(20);
    write(Path::new(&log), &publish(&other));
    let split = run();
    assert_eq!(split.status.code(), Some(2), "{}", text(&split));
    assert!(!Path::new(&out).exists());
}
