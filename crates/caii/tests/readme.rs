//! The five minutes of the README, typed as they stand there.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod support;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{guest, repo, signal_group};

/// The blocks that are marked as the tour's, one after the other.
fn tour() -> String {
    let readme = std::fs::read_to_string(repo().join("README.md")).unwrap();
    let blocks = readme.split("```sh tour\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

/// Ends everything that the shell has begun.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        signal_group(self.0, "TERM");
    }
}

#[test]
fn the_tour() {
    let tour = tour();
    assert!(tour.lines().count() > 15, "{tour}");
    let home = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_caii")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euxo", "pipefail", "-c", &tour]).current_dir(home.path()).process_group(0);
    shell.env("HOME", home.path()).env("PATH", path);
    shell.env("CAII_GUESTS", Path::new(&guest("wordcount")).parent().unwrap());
    for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "CAII_POOL", "CAII_POOL_DIR", "CAII_AGENT_DIR", "CAII_KEY"] {
        shell.env_remove(name);
    }
    let log = std::fs::File::create(home.path().join("log")).unwrap();
    let (out, err) = (log.try_clone().unwrap(), log);
    let mut shell = shell.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
    let group = Group(shell.id());
    let status = shell.wait().unwrap();
    drop(group);
    let said = std::fs::read_to_string(home.path().join("log")).unwrap();
    assert!(status.success(), "{said}");
    for words in [
        "my-machine",
        r#"{"words":3,"distinct":3,"#,
        "all-minilm-l6-v2 is ready",
        "“The ship left the harbour.”",
        "job_1",
        r#""state": "completed""#,
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What is alike is found alike.
    let after = said.split("“The ship left the harbour.”").nth(1).unwrap();
    let (boat, bread) = (after.find("A boat sailed away.").unwrap(), after.find("Bread needs yeast.").unwrap());
    assert!(boat < bread, "{after}");
}
