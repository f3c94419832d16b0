//! What the compiler does not check: which crates stay pure, that every refusal has its page, that files stay readable.

use crate::shell::{Failure, attempt};
use std::fs;
use std::path::{Path, PathBuf};

/// What a pure crate may depend on. Everything here computes and does nothing else.
const PURE: [(&str, &[&str]); 11] = [
    ("model", &["sha2"]),
    // What stewards sign is JSON (DSSE, in-toto), and the gate has to read it; `serde_json` and `base64` only compute.
    ("trust", &["caii-model", "base64", "ed25519-dalek", "serde", "serde_json", "sha2", "thiserror"]),
    ("tlog", &["caii-model", "caii-trust", "base64", "thiserror"]),
    // `zeroize` overwrites memory that held inputs and outputs.
    ("wire", &["caii-model", "caii-trust", "base64", "prost", "thiserror", "zeroize"]),
    // A tariff is proposed and published as JSON.
    ("ledger", &["caii-model", "serde", "serde_json"]),
    ("payout", &["caii-ledger", "caii-model", "caii-trust", "quick-xml", "thiserror"]),
    ("verify", &["caii-model", "sha2"]),
    ("coordinator", &["caii-audit", "caii-ledger", "caii-model", "caii-payout", "caii-trust", "caii-verify"]),
    (
        "audit",
        &[
            "caii-ledger",
            "caii-model",
            "caii-payout",
            "caii-tlog",
            "caii-trust",
            "caii-verify",
            "serde",
            "serde_json",
            "thiserror",
        ],
    ),
    ("agent", &["caii-model"]),
    (
        "sim",
        &[
            "caii-model",
            "caii-trust",
            "caii-coordinator",
            "caii-agent",
            "caii-audit",
            "caii-ledger",
            "caii-store",
            "caii-tlog",
            "caii-verify",
        ],
    ),
];

const LINES_MAX: usize = 900;

/// Reports everything that is untidy.
pub(crate) fn tidy() -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for (name, allowed) in PURE {
        let path = format!("crates/{name}/Cargo.toml");
        let manifest = attempt(&path, fs::read_to_string(&path))?;
        for dependency in dependencies(&manifest) {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{path}: a pure crate must not depend on `{dependency}`"));
            }
        }
    }
    for code in refusal_codes()? {
        let page = format!("docs/errors/{code}.md");
        if !Path::new(&page).is_file() {
            wrong.push(format!("{page} is missing: every refusal has its page"));
        }
    }
    for path in sources(Path::new("."))? {
        let text = attempt(&path.display().to_string(), fs::read_to_string(&path))?;
        if text.lines().count() > LINES_MAX {
            wrong.push(format!("{}: more than {LINES_MAX} lines", path.display()));
        }
        if path.starts_with("./crates") && text.contains(concat!("#[", "ignore")) {
            wrong.push(format!("{}: an ignored test", path.display()));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure(wrong.join("\n"))) }
}

/// The names under `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[").find(|section| section.starts_with("dependencies]"));
    let lines = section.unwrap_or_default().lines().skip(1);
    let names = lines.filter_map(|line| line.split(['.', '=', ' ']).next());
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).map(str::to_owned).collect()
}

/// The codes that `Refusal::CODES` lists.
fn refusal_codes() -> Result<Vec<String>, Failure> {
    let path = "crates/model/src/refusal.rs";
    let text = attempt(path, fs::read_to_string(path))?;
    let list = text.split("pub const CODES").nth(1).and_then(|rest| rest.split("];").next());
    let list = list.ok_or_else(|| Failure(format!("{path}: no list of codes found")))?;
    Ok(list.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

fn sources(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let at = dir.display().to_string();
    for entry in attempt(&at, fs::read_dir(dir))? {
        let path = attempt(&at, entry)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && !["target", "build", "node_modules"].contains(&name.as_str()) {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dependencies() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\na.workspace = true\n# why\nb = \"1\"\n\n[dev-dependencies]\nc = \"1\"\n";
        assert_eq!(dependencies(manifest), ["a", "b"]);
    }
}
