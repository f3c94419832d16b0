//! A charter and its certifications from the command line, with the real binary and no pool.
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PASSPHRASE: &str = "correct horse battery";

struct Desk {
    dir: TempDir,
}

struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(desk.path("pass"), format!("{PASSPHRASE}\n")).unwrap();
        desk.program("echo.wasm", 1);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program that can only compute, different for each number.
    fn program(&self, name: &str, number: u32) {
        let text = format!(
            "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i32))) (memory (export \"memory\") 1) \
             (func (export \"_start\") (drop (i32.const {number}))))"
        );
        std::fs::write(self.path(name), wat::parse_str(text).unwrap()).unwrap();
    }

    fn run(&self, args: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caii"));
        for name in ["CAII_PASSPHRASE", "CAII_CHARTER", "CAII_POOL"] {
            command.env_remove(name);
        }
        let output =
            command.args(args).current_dir(self.dir.path()).stdin(std::process::Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert_eq!(done.code, Some(0), "`caii {}`: {}", args.join(" "), done.stderr);
        done.stdout
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--output", "json"]].concat())).unwrap()
    }

    /// What a command that must fail says; its exit status is 1, or 2 for wrong usage.
    #[track_caller]
    fn fails(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert!(
            matches!(done.code, Some(1 | 2)),
            "`caii {}` ended with {:?}: {}",
            args.join(" "),
            done.code,
            done.stdout
        );
        done.stderr
    }

    fn key(&self, name: &str) {
        let key = self.json(&["charter", "key", "create", name, "--passphrase-file", "pass"]);
        assert_eq!((&key["name"], &key["file"]), (&json!(name), &json!(format!("{name}.key"))));
    }

    fn sign_charter(&self, name: &str) -> Value {
        self.json(&["charter", "sign", "--charter", "c", "--key", &format!("{name}.key"), "--passphrase-file", "pass"])
    }

    fn certify(&self, name: &str, what: &str, more: &[&str]) -> Done {
        let key = format!("{name}.key");
        let base = ["workload", "certify", what, "--charter", "c", "--key", &key, "--passphrase-file", "pass"];
        self.run(&[&base[..], &["--use", "embedding", "--tier", "t0"], more].concat())
    }

    /// alice and bob of the lab, carol of the union; two of them certify and change the charter.
    fn two_of_three(&self) {
        for name in ["alice", "bob", "carol"] {
            self.key(name);
        }
        let drafted = self.json(&[
            "charter",
            "init",
            "--charter",
            "c",
            "--name",
            "a test",
            "--threshold",
            "2",
            "--steward",
            "alice@lab=alice.key",
            "--steward",
            "bob@lab=bob.key",
            "--steward",
            "carol@union=carol.key",
            "--body",
            "lab=The laboratory",
        ]);
        assert_eq!(drafted["in_force"], Value::Null);
        assert_eq!(drafted["draft"]["awaited"][0]["missing"], 2);
        let half = self.sign_charter("carol");
        assert_eq!(half["draft"]["awaited"][1]["signed"], json!(["carol"]));
        let whole = self.sign_charter("alice");
        assert_eq!((&whole["draft"], &whole["in_force"]["version"]), (&Value::Null, &json!(1)));
        assert_eq!(whole["id"], drafted["id"], "the id that devices pin is known from the first minute");
    }
}

#[test]
fn two_of_three_certify_in_any_order() {
    let desk = Desk::new();
    desk.two_of_three();
    let inspected = desk.json(&["workload", "inspect", "echo.wasm", "--write", "echo.json"]);
    assert_eq!(inspected["imports"], json!(["wasi_snapshot_preview1.proc_exit"]));
    let digest = inspected["digest"].as_str().unwrap().to_owned();
    let said = desk.ok(&["workload", "inspect", "echo.json", "--program", "echo.wasm"]);
    assert!(
        said.contains(&digest) && said.contains("It asks the host for wasi_snapshot_preview1.proc_exit."),
        "{said}"
    );
    assert!(said.contains("it has no network"), "{said}");

    let status = |what: &str| desk.json(&["workload", "status", what, "--charter", "c"]);
    let nobody = status("echo.json");
    assert_eq!(
        (&nobody["certified"], &nobody["missing"], &nobody["workload"]),
        (&json!(false), &json!(2), &json!(digest))
    );
    assert_eq!(desk.certify("bob", "echo.json", &["--out", "second.dsse"]).code, Some(0));
    let one = status("echo.json");
    assert_eq!((&one["missing"], &one["signed"]), (&json!(1), &json!([{ "name": "bob", "body": "lab" }])));
    let said = desk.fails(&["workload", "verify", "echo.json", "--charter", "c"]);
    assert!(said.contains("not certified: bob (lab) certified it; 1 of 2 keys is missing"), "{said}");
    let done = desk.run(&["workload", "verify", "echo.json", "--charter", "c", "--output", "json"]);
    let error: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((done.code, &error["error"]["code"]), (Some(1), &json!("signatures-missing")));

    // The other signs the program itself: with the same options it is the same workload.
    assert_eq!(desk.certify("alice", "echo.wasm", &[]).code, Some(0));
    assert!(desk.path("echo.wasm.alice.dsse").exists());
    let two = status("echo.wasm");
    assert_eq!((&two["certified"], &two["scope"]), (&json!(true), &json!([{ "use": "embedding", "tier": "t0" }])));
    let said = desk.ok(&["workload", "verify", "echo.json", "--charter", "c", "--region", "eu"]);
    assert!(said.contains("certified    by alice (lab), bob (lab); it takes 2"), "{said}");
    assert!(said.contains("embedding on public or synthetic data"), "{said}");

    // Other bytes, other options, one steward twice: not certified.
    desk.program("other.wasm", 2);
    for args in [&["other.wasm"][..], &["echo.wasm", "--memory", "1024"], &["echo.wasm", "--name", "echo2"]] {
        let said = desk.fails(&[&["workload", "verify"], args, &["--charter", "c"]].concat());
        assert!(said.contains("nobody certified it; 2 of 2 keys are missing"), "{said}");
    }
    let twice = ["--certification", "echo.wasm.alice.dsse", "--certification", "echo.wasm.alice.dsse"];
    desk.fails(&[&["workload", "verify", "echo.wasm", "--charter", "c"], &twice[..]].concat());
    let bytes = std::fs::read(desk.path("second.dsse")).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    std::fs::write(desk.path("second.dsse"), text.replacen("\"sig\":\"", "\"sig\":\"AAAA", 1)).unwrap();
    let said = desk.fails(&["workload", "verify", "echo.json", "--charter", "c"]);
    assert!(said.contains("bob: the signature does not hold"), "{said}");
}

#[test]
fn one_steward_stops_what_two_certified() {
    let desk = Desk::new();
    desk.two_of_three();
    for name in ["alice", "bob"] {
        assert_eq!(desk.certify(name, "echo.wasm", &[]).code, Some(0));
    }
    desk.ok(&["workload", "verify", "echo.wasm", "--charter", "c"]);
    // carol works on a copy without the pool's key, and the operator takes her revocation over.
    copy(&desk.path("c"), &desk.path("copy"));
    std::fs::remove_file(desk.path("copy/online.key")).unwrap();
    let by_carol = ["--key", "carol.key", "--passphrase-file", "pass"];
    let stop = ["workload", "revoke", "echo.wasm", "--charter", "copy", "--why", "it leaks", "--out", "stop.dsse"];
    let stopped = desk.json(&[&stop[..], &by_carol].concat());
    assert_eq!((&stopped["by"], &stopped["new"]), (&json!("carol"), &json!(true)));
    desk.ok(&["workload", "verify", "echo.wasm", "--charter", "c"]);
    desk.ok(&["charter", "merge", "--charter", "c", "stop.dsse"]);
    let said = desk.fails(&["workload", "verify", "echo.wasm", "--charter", "c"]);
    assert!(said.contains("carol revoked the workload on") && said.contains("it leaks"), "{said}");
    assert!(desk.ok(&["charter", "show", "--charter", "c"]).contains("revoked  workload sha256:"));

    // A key: what bob certified counts no more, and what others did still does.
    desk.program("next.wasm", 3);
    for name in ["alice", "bob"] {
        assert_eq!(desk.certify(name, "next.wasm", &[]).code, Some(0));
    }
    desk.ok(&["workload", "verify", "next.wasm", "--charter", "c"]);
    let stop = ["workload", "revoke", "key:bob", "--charter", "c", "--why", "stolen laptop"];
    desk.ok(&[&stop[..], &by_carol].concat());
    let said = desk.fails(&["workload", "verify", "next.wasm", "--charter", "c"]);
    assert!(said.contains("bob: the key was revoked by carol on") && said.contains("stolen laptop"), "{said}");
    assert_eq!(desk.certify("carol", "next.wasm", &[]).code, Some(0));
    desk.ok(&["workload", "verify", "next.wasm", "--charter", "c"]);
}

#[test]
fn keys_change_and_what_was_revoked_stays_so() {
    let desk = Desk::new();
    desk.two_of_three();
    let id = desk.json(&["charter", "show", "--charter", "c"])["id"].clone();
    for name in ["alice", "bob"] {
        assert_eq!(desk.certify(name, "echo.wasm", &[]).code, Some(0));
    }
    desk.program("bad.wasm", 4);
    let stop = ["workload", "revoke", "bad.wasm", "--charter", "c", "--why", "it leaks", "--key", "carol.key"];
    desk.ok(&[&stop[..], &["--passphrase-file", "pass"]].concat());
    desk.key("dora");
    let drafted =
        desk.json(&["charter", "rotate", "--charter", "c", "--remove", "carol", "--add", "dora@union=dora.key"]);
    assert_eq!(drafted["draft"]["charter"]["certify"][0]["stewards"], json!(["alice", "bob", "dora"]));
    let half = desk.sign_charter("dora");
    assert_eq!(half["in_force"]["version"], 1);
    assert_eq!(desk.sign_charter("bob")["in_force"]["version"], 1, "of the stewards of before, one is missing");
    let whole = desk.sign_charter("carol");
    assert_eq!((&whole["in_force"]["version"], &whole["draft"], &whole["id"]), (&json!(2), &Value::Null, &id));
    let pin = id.as_str().unwrap();
    desk.ok(&["workload", "verify", "echo.wasm", "--charter", "c", "--pin", pin]);
    let said = desk.fails(&["workload", "verify", "bad.wasm", "--charter", "c"]);
    assert!(said.contains("carol revoked the workload"), "{said}");
    let done = desk.certify("carol", "bad.wasm", &[]);
    assert!(done.code == Some(2) && done.stderr.contains("is no steward's in this charter"), "{}", done.stderr);
    let said = desk.fails(&[
        "workload",
        "verify",
        "echo.wasm",
        "--charter",
        "c",
        "--pin",
        &format!("sha256:{}", "0".repeat(64)),
    ]);
    assert!(said.contains("it is another pool's, or somebody put it there"), "{said}");
}

#[test]
fn what_stewards_get_wrong_is_said_in_a_sentence() {
    let desk = Desk::new();
    desk.two_of_three();
    std::fs::write(desk.path("wrong"), "wrong horse battery").unwrap();
    let sign = [
        "workload",
        "certify",
        "echo.wasm",
        "--charter",
        "c",
        "--key",
        "alice.key",
        "--use",
        "embedding",
        "--tier",
        "t0",
    ];
    let with = |more: &[&'static str]| [&sign[..], more].concat();
    for (args, sentence) in [
        (with(&["--passphrase-file", "wrong"]), "the passphrase is wrong, or the key file was changed"),
        (with(&[]), "the key is encrypted; give its passphrase"),
        (
            with(&["--passphrase-file", "pass", "--valid", "400d"]),
            "the charter allows certifications of 366 days at most",
        ),
        (with(&["--passphrase-file", "pass", "--region", "EU"]), "`EU` is no region"),
        (with(&["--passphrase-file", "pass", "--use", "mining"]), "`mining` is no use category"),
        (vec!["charter", "show", "--charter", "nowhere"], "is missing"),
        (vec!["charter", "sign", "--charter", "c"], "--key <FILE>"),
        (
            vec!["charter", "sign", "--charter", "c", "--key", "alice.key", "--passphrase-file", "pass"],
            "no file here awaits",
        ),
        (vec!["charter", "key", "create", "alice", "--passphrase-file", "pass"], "cannot write alice.key"),
        (
            vec!["charter", "rotate", "--charter", "c", "--remove", "zoe"],
            "zoe is no steward; there are alice, bob, carol",
        ),
        (vec!["charter", "rotate", "--charter", "c", "--remove", "alice", "--remove", "bob"], "wants 2 of 1 keys"),
        (vec!["charter", "init", "--charter", "d", "--name", "x", "--steward", "a@b=alice.key"], "give --threshold"),
        (vec!["workload", "verify", "pass", "--charter", "c"], "is no manifest"),
        (vec!["workload", "inspect", "c/online.key"], "is no manifest"),
    ] {
        let said = desk.fails(&args);
        assert!(said.contains(sentence), "{args:?}: {said}");
    }
    // A certification is never written over.
    assert_eq!(desk.certify("alice", "echo.wasm", &[]).code, Some(0));
    assert!(desk.certify("alice", "echo.wasm", &[]).stderr.contains("cannot write"));
    desk.ok(&["charter", "refresh", "--charter", "c"]);
    // Secrets stay in their files.
    let shown = desk.ok(&["charter", "key", "show", "alice.key"]);
    assert!(shown.starts_with("alice ed25519:") && shown.trim().len() == "alice ed25519:".len() + 64, "{shown}");
    let file = std::fs::read_to_string(desk.path("alice.key")).unwrap();
    assert!(file.contains("argon2id") && file.contains("chacha20-poly1305"), "{file}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
