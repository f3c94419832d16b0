//! Waiting for a job with a progress bar, and fetching what it left.

use crate::client::Client;
use crate::error::CliError;
use crate::output::thousands;
use caii_node::views::JobView;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(300);
/// Where standard error is no terminal, a line is printed so often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// A pool that restarts is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a job has ended. Interrupting it leaves the job going.
pub(crate) async fn wait(client: &Client, job: &str) -> Result<JobView, CliError> {
    tokio::select! {
        view = watch(client, job) => view,
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted(format!(
            "; {job} goes on: `caii job status {job}` shows it, `caii job cancel {job}` ends it"
        ))),
    }
}

async fn watch(client: &Client, job: &str) -> Result<JobView, CliError> {
    let mut progress = Progress::new();
    let mut unreachable_since = None;
    loop {
        match client.get::<JobView>(&format!("/caii/v1/jobs/{job}")).await {
            Ok(view) => {
                unreachable_since = None;
                progress.show(&view);
                if ended(&view) {
                    progress.finish();
                    return Ok(view);
                }
            }
            Err(error @ CliError::Unreachable { .. }) => {
                let since = *unreachable_since.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    progress.finish();
                    return Err(error);
                }
                progress.note("the pool cannot be reached; trying again");
            }
            Err(error) => {
                progress.finish();
                return Err(error);
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

pub(crate) fn ended(view: &JobView) -> bool {
    matches!(view.state.as_str(), "completed" | "cancelled" | "expired" | "failed")
}

struct Progress {
    bar: ProgressBar,
    /// When the first records were done, and how many: speed counts from there.
    start: Option<(Instant, u64)>,
    last_line: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{bar:32.cyan/blue} {percent:>3} % {msg}");
        bar.set_style(style.expect("the template is well formed"));
        Self { bar, start: None, last_line: None, terminal }
    }

    fn show(&mut self, view: &JobView) {
        let totals = &view.totals;
        let done = totals.records_ok + totals.records_failed;
        self.bar.set_length(totals.records.max(1));
        self.bar.set_position(done);
        self.note(&self.message(view, done));
        // Devices may first have to fetch and compile, which says nothing about the speed after that.
        if self.start.is_none() && view.state == "running" && done > 0 {
            self.start = Some((Instant::now(), done));
        }
    }

    fn message(&self, view: &JobView, done: u64) -> String {
        let totals = &view.totals;
        let mut text = match view.state.as_str() {
            "preparing" => "checking the input".to_owned(),
            "assembling" => format!("{} records, writing the output", thousands(done)),
            _ => format!("{}/{} records", thousands(done), thousands(totals.records)),
        };
        if totals.records_failed > 0 {
            text.push_str(&format!(", {} failed", thousands(totals.records_failed)));
        }
        if let Some((since, before)) = self.start
            && done > before
            && view.state == "running"
        {
            let speed = (done - before) as f64 / since.elapsed().as_secs_f64().max(0.001);
            let left = Duration::from_secs_f64((totals.records - done.min(totals.records)) as f64 / speed);
            text.push_str(&format!(", {speed:.1}/s, {} left", caii_model::Millis(left.as_millis() as u64)));
        }
        if view.state == "running" {
            let tasks = if view.tasks_leased == 1 { "task" } else { "tasks" };
            text.push_str(&format!(", {} {tasks} under way", view.tasks_leased));
            if view.tasks_leased == 0 && view.tasks_waiting > 0 {
                text.push_str(&format!("; `caii job explain {}` says why", view.id));
            }
        }
        text
    }

    fn note(&mut self, text: &str) {
        if self.terminal {
            self.bar.set_message(text.to_owned());
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            eprintln!("{text}");
            self.last_line = Some(Instant::now());
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// What fetching an ended job's files came to.
pub(crate) struct Fetched {
    /// Where the results went.
    pub(crate) output: Option<PathBuf>,
    /// Where the failed lines went.
    pub(crate) errors: Option<PathBuf>,
}

/// Fetches an ended job's results to `out`, and its failed lines to `errors` or beside the results.
pub(crate) async fn fetch(
    client: &Client,
    view: &JobView,
    out: &Path,
    errors: Option<&Path>,
) -> Result<Fetched, CliError> {
    let mut fetched = Fetched { output: None, errors: None };
    if let Some(file) = &view.output_file_id {
        client.download(file, out).await?;
        fetched.output = Some(out.to_owned());
    }
    if let Some(file) = &view.error_file_id {
        let to = errors.map_or_else(|| errors_beside(out), Path::to_owned);
        client.download(file, &to).await?;
        fetched.errors = Some(to);
    }
    Ok(fetched)
}

/// `results.jsonl` → `results.errors.jsonl`
fn errors_beside(out: &Path) -> PathBuf {
    if out == Path::new("-") {
        return "errors.jsonl".into();
    }
    match out.extension() {
        Some(extension) => {
            let mut last = std::ffi::OsString::from("errors.");
            last.push(extension);
            out.with_extension(last)
        }
        None => out.with_extension("errors"),
    }
}

/// Says how a job ended; anything but completed is an error of its own kind.
pub(crate) fn report(view: &JobView, fetched: &Fetched) -> Result<(), CliError> {
    let totals = &view.totals;
    let took = caii_model::Millis(view.ended_ms.unwrap_or(view.submitted_ms).saturating_sub(view.submitted_ms));
    eprintln!(
        "{} {} after {took}: {} of {} records done, {} failed, by {} devices, {} of CPU time",
        view.id,
        view.state,
        thousands(totals.records_ok),
        thousands(totals.records),
        thousands(totals.records_failed),
        totals.devices,
        caii_model::Millis(totals.cpu_ms),
    );
    if let Some(path) = &fetched.output {
        eprintln!("results: {}", path.display());
    }
    if let Some(path) = &fetched.errors {
        eprintln!("failed lines: {}", path.display());
    }
    if view.state == "completed" {
        return Ok(());
    }
    let mut text = format!("{} {}", view.id, view.state);
    for error in &view.errors {
        let line = error.line.map_or_else(String::new, |line| format!("line {line}: "));
        text.push_str(&format!("\n  {line}{} ({})", error.message, error.code));
    }
    Err(CliError::JobEnded(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_go_beside_the_results() {
        for (out, errors) in [
            ("r.jsonl", "r.errors.jsonl"),
            ("dir/r.out.txt", "dir/r.out.errors.txt"),
            ("r", "r.errors"),
            ("-", "errors.jsonl"),
        ] {
            assert_eq!(errors_beside(Path::new(out)), PathBuf::from(errors));
        }
    }
}
