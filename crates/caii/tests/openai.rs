//! OpenAI's own clients, unmodified, given nothing but an address and a key.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use std::process::Command;
use support::{World, model_dir, repo, script};

const MODEL: &str = "all-minilm-l6-v2";

/// Runs one of the clients' programs to its end; what it said last.
#[track_caller]
fn client(mut command: Command) -> String {
    let output = command.env("CAII_MODEL", MODEL).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said.trim().to_owned()
}

fn python() -> Command {
    let mut command = Command::new(repo().join("build/venv/bin/python"));
    command.arg(repo().join("tests/openai/client.py"));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.arg(repo().join("tests/openai/client.mjs")).env("CAII_NODE_MODULES", repo().join("build/node"));
    command
}

#[test]
fn unmodified_clients() {
    script("scripts/openai-clients.sh", &[]);
    let world = World::with_devices(2);
    world.ok(&["model", "add", &model_dir(), "--name", MODEL]);
    let key = |account: &str| world.ok(&["key", "create", "--account", account]).trim().to_owned();

    // Each client has accounts of its own, so that neither sees the other's files.
    for (name, command) in [("python", python()), ("node", node())] {
        let (ours, other) = (key(name), key(&format!("{name}-other")));
        let mut command = command;
        command.env("OPENAI_BASE_URL", format!("{}/v1", world.http())).env("OPENAI_API_KEY", ours);
        println!(
            "{}",
            client({
                command.env("CAII_OTHER_KEY", other);
                command
            })
        );
    }

    // And by HTTPS, trusting the pool's certificate as any other.
    let certificate = world.pool_dir().join("tls.crt");
    for (variable, mut command) in [("SSL_CERT_FILE", python()), ("NODE_EXTRA_CA_CERTS", node())] {
        let url = world.up["url"].as_str().unwrap();
        assert!(url.starts_with("https://"), "{url}");
        command.env("OPENAI_BASE_URL", format!("{url}/v1")).env("OPENAI_API_KEY", key("by-https"));
        command.env("CAII_OTHER_KEY", "none").env("CAII_QUICK", "1").env(variable, &certificate);
        println!("{}", client(command));
    }
}
