//! Processes that end with this one, whatever ends it.

use crate::shell::{Failure, attempt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a process may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Processes that were started here. Clones are the same set.
#[derive(Clone, Default)]
pub(crate) struct Processes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    children: Vec<Child>,
    ended: bool,
}

impl Processes {
    /// An empty set whose processes end when Ctrl-C is pressed or a signal asks this process to end. Once a process.
    pub(crate) fn ended_by_signals() -> Result<Self, Failure> {
        let processes = Self::default();
        let ours = processes.clone();
        let handler = move || {
            eprintln!("\nstopping");
            ours.end();
            std::process::exit(130);
        };
        attempt("handling Ctrl-C", ctrlc::set_handler(handler))?;
        Ok(processes)
    }

    /// Starts a process; its id.
    pub(crate) fn start(&self, command: &mut Command) -> Result<(u32, Option<std::process::ChildStdout>), Failure> {
        let words = format!("starting {}", command.get_program().display());
        // Under the lock, so that nothing is started once the set was ended.
        let mut state = self.state();
        if state.ended {
            drop(state);
            interrupted();
        }
        let mut child = attempt(&words, command.spawn())?;
        let (id, stdout) = (child.id(), child.stdout.take());
        state.children.push(child);
        Ok((id, stdout))
    }

    /// Runs a process to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Result<ExitStatus, Failure> {
        let (id, _) = self.start(command)?;
        self.wait(id)
    }

    /// Waits for a process to end.
    pub(crate) fn wait(&self, id: u32) -> Result<ExitStatus, Failure> {
        loop {
            {
                let mut state = self.state();
                let place = state.children.iter().position(|child| child.id() == id);
                let Some(place) = place else {
                    drop(state);
                    interrupted();
                };
                let ended = attempt("waiting for a process", state.children[place].try_wait())?.is_some();
                if ended {
                    return attempt("waiting for a process", state.children.remove(place).wait());
                }
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends one with SIGKILL.
    pub(crate) fn kill(&self, id: u32) {
        let mut state = self.state();
        if let Some(place) = state.children.iter().position(|child| child.id() == id) {
            let mut child = state.children.remove(place);
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends all, the first one last: contributors say goodbye to the pool that was started before them.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let mut children = std::mem::take(&mut state.children);
        drop(state);
        let others = children.split_off(children.len().min(1));
        end_together(others);
        end_together(children);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the end of this process to whoever handles the signal: ending here would leave processes behind.
fn interrupted() -> ! {
    loop {
        std::thread::park();
    }
}

/// SIGTERM first: an agent ends its runners, a pool finishes its commit.
fn end_together(mut children: Vec<Child>) {
    for child in &children {
        signal(child.id(), "TERM");
    }
    let until = Instant::now() + PATIENCE;
    for child in &mut children {
        while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
        if matches!(child.try_wait(), Ok(None)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn signal(id: u32, name: &str) {
    let mut kill = Command::new("kill");
    let _ = kill.args([&format!("-{name}"), &id.to_string()]).stderr(Stdio::null()).status();
}
