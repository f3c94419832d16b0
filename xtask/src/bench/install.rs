//! P14: what a newcomer types and downloads.

use super::Figure;
use crate::processes::Processes;
use crate::shell::{Failure, attempt};
use std::fs;

pub(crate) fn run(_: &Processes) -> Result<Vec<Figure>, Failure> {
    // Counted where they are promised: the block under "in two commands". A test runs what README shows.
    let readme = attempt("README.md", fs::read_to_string("README.md"))?;
    let block = readme.split("in two commands").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap_or_default();
    let commands: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    commands.iter().for_each(|command| println!("$ {command}"));
    let exe = attempt("finding the binary", std::env::current_exe())?;
    let size =
        |path: std::path::PathBuf| Ok(attempt(&path.display().to_string(), fs::metadata(&path))?.len() as f64 / 1e6);
    let binary: f64 = size(exe.with_file_name("caii"))?;
    println!(
        "caii {binary:.1} MB; the inference guest beside it {:.1} MB",
        size("build/guests/inference.wasm".into())?
    );
    let peer = "accounts, BIOS settings, Docker or WSL (BOINC, Golem, Nosana)";
    Ok(vec![
        Figure { name: "P14.commands", value: commands.len() as f64, decimals: 0, unit: "commands", bar: "2", peer },
        Figure { name: "P14.binary", value: binary, decimals: 1, unit: "MB", bar: "60", peer: "none" },
    ])
}
