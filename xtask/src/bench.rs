//! `make bench`: the figures of docs/benchmarks.md, each measured through real processes.
//!
//! Each benchmark prints what it sees and ends with a line `P4: FIGURE UNIT | bar BAR | peer PEER`; all of these lines are
//! printed once more at the end. Machines are shared and noisy: figures are medians, CPU time stands beside wall time, and
//! what is compared is measured in turns.

mod direct;
mod fabric;
mod inference;
mod install;
mod overhead;
mod vanished;

use crate::processes::Processes;
use crate::shell::{Failure, attempt, read};
use std::process::Command;
use std::time::Duration;

/// A benchmark measures one row of the table or a few.
type Benchmark = fn(&Processes) -> Result<Vec<Figure>, Failure>;

const BENCHMARKS: [(&str, Benchmark); 8] = [
    ("P4", overhead::run),
    ("P5", sandbox),
    ("P6", inference::efficiency),
    ("P9", cheats),
    ("P11", vanished::run),
    ("P12", audit),
    ("P14", install::run),
    ("P16", inference::short_requests),
];

/// One line of the result.
struct Figure {
    name: &'static str,
    value: f64,
    decimals: usize,
    unit: &'static str,
    bar: &'static str,
    peer: &'static str,
}

impl Figure {
    fn line(&self) -> String {
        let Self { name, value, decimals, unit, bar, peer } = self;
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        format!("{name}: {value:.decimals$}{unit} | bar {bar} | peer {peer}")
    }
}

/// Runs all benchmarks, or one.
pub(crate) fn bench(only: Option<&str>) -> Result<(), Failure> {
    let chosen: Vec<_> = BENCHMARKS.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
        return Err(Failure(format!("no such benchmark; there are {}", names.join(", "))));
    }
    let processes = Processes::ended_by_signals()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine before: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    for (name, benchmark) in chosen {
        println!("\n== {name}");
        match benchmark(&processes) {
            Ok(figures) => lines.extend(figures.iter().map(Figure::line)),
            Err(Failure(text)) => {
                println!("{name} failed: {text}");
                failures.push(format!("{name}: {text}"));
            }
        }
    }
    println!();
    lines.iter().for_each(|line| println!("{line}"));
    if failures.is_empty() { Ok(()) } else { Err(Failure(failures.join("\n"))) }
}

/// P9: what cheats achieve, simulated by the rules that the coordinator follows.
fn cheats(_: &Processes) -> Result<Vec<Figure>, Failure> {
    let exe = attempt("finding the binary", std::env::current_exe())?;
    let text = read(&mut Command::new(exe.with_file_name("examples").join("cheats")))?;
    print!("{text}");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| Failure(format!("the simulation does not say {name}")))
    };
    let peer = "2.8e-2 (quorum of two), 4.8e-2 (BOINC adaptive)";
    let overhead = "118 (quorum of two), 8 (BOINC adaptive)";
    Ok(vec![
        Figure { name: "P9.error", value: value("P9.error:")?, decimals: 6, unit: "", bar: "1e-4", peer },
        Figure {
            name: "P9.overhead_calm",
            value: value("P9.overhead_calm:")?,
            decimals: 2,
            unit: "%",
            bar: "2",
            peer: overhead,
        },
        Figure {
            name: "P9.overhead_attack",
            value: value("P9.overhead_attack:")?,
            decimals: 1,
            unit: "%",
            bar: "10",
            peer: overhead,
        },
        Figure {
            name: "P9.false_accusations",
            value: value("P9.false_accusations:")?,
            decimals: 0,
            unit: "",
            bar: "0",
            peer: "9e-6 an audit (VeriLLM)",
        },
    ])
}

/// P12: how fast a pool's published files are audited, with every check.
fn audit(_: &Processes) -> Result<Vec<Figure>, Failure> {
    let exe = attempt("finding the binary", std::env::current_exe())?;
    let text = read(&mut Command::new(exe.with_file_name("examples").join("rate")))?;
    print!("{text}");
    let number = |before: &str, after: &str| {
        let number = |line: &str| line.strip_prefix(before)?.split_once(after)?.0.trim().parse::<f64>().ok();
        let found = text.lines().find_map(number);
        found.ok_or_else(|| Failure(format!("the example prints no `{before}`")))
    };
    Ok(vec![Figure {
        name: "P12",
        value: number("P12: ", " receipts/s")?,
        decimals: 0,
        unit: "receipts/s",
        bar: "20000",
        peer: "40000 (ed25519 alone, batched)",
    }])
}

/// P5: the sandbox measures itself.
fn sandbox(_: &Processes) -> Result<Vec<Figure>, Failure> {
    let exe = attempt("finding the binary", std::env::current_exe())?;
    let text = read(&mut Command::new(exe.with_file_name("examples").join("p5")))?;
    print!("{text}");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = line.and_then(|line| line.split(' ').next()?.parse::<f64>().ok());
        value.ok_or_else(|| Failure(format!("the example prints no {name}")))
    };
    Ok(vec![
        Figure {
            name: "P5.instance",
            value: value("P5.instance")?,
            decimals: 1,
            unit: "µs",
            bar: "50",
            peer: "11 (wasmtime on demand)",
        },
        Figure {
            name: "P5.runner",
            value: value("P5.runner")?,
            decimals: 1,
            unit: "ms",
            bar: "15",
            peer: "300 (docker run)",
        },
    ])
}

/// The middle of some values, and what they were in order.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// The smallest and the largest of some values.
fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.3} to {most:.3}")
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), "1.000 to 3.000");
    }

    #[test]
    fn a_figure_stands_beside_its_bar() {
        let mut figure = Figure { name: "P4", value: 1.25, decimals: 2, unit: "ms", bar: "1", peer: "none" };
        assert_eq!(figure.line(), "P4: 1.25 ms | bar 1 | peer none");
        figure.unit = "";
        assert_eq!(figure.line(), "P4: 1.25 | bar 1 | peer none");
    }
}
