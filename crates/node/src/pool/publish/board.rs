//! What the coordinator's thread, the publisher, the witnesses' side and the servers tell each other about the log.

use caii_tlog::{Note, NoteSignature, Tree};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Cosignatures that wait for the publisher. Witnesses are asked again about what is dropped.
const COSIGNATURES_MAX: usize = 256;

/// What is published and durable: what everybody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The tree of the checkpoint.
    pub(crate) tree: Tree,
    /// The checkpoint, with all cosignatures that came for it.
    pub(crate) checkpoint: Note,
    /// The last checkpoint that a witness cosigned; it may be an earlier one.
    pub(crate) cosigned: Option<Note>,
}

/// A witness's line for a checkpoint, checked.
#[derive(Debug, Clone)]
pub(crate) struct Cosignature {
    /// The tree.
    pub(crate) size: u64,
    /// The checkpoint that it is for, by the log.
    pub(crate) note: Note,
    /// The line.
    pub(crate) line: NoteSignature,
}

/// What is known of a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WitnessState {
    /// The name of its key.
    pub(crate) name: String,
    /// Where it is asked.
    pub(crate) url: String,
    /// The size that it cosigned last, and when, in seconds since 1970 by its own clock.
    pub(crate) cosigned: Option<(u64, u64)>,
    /// Why it did not, when it was asked last.
    pub(crate) trouble: Option<String>,
}

/// What the publisher does next.
#[derive(Debug)]
pub(super) enum Task {
    /// Publish what was committed.
    Append,
    /// Add these to the checkpoints.
    Cosign(Vec<Cosignature>),
    /// Remove files that fuller ones followed.
    Sweep,
    /// End.
    Stop,
}

#[derive(Default)]
struct State {
    committed: u64,
    cosignatures: VecDeque<Cosignature>,
    trouble: Option<Arc<str>>,
    witnesses: Vec<WitnessState>,
    stopping: bool,
}

/// See the module.
pub(crate) struct Board {
    state: Mutex<State>,
    changed: Condvar,
    shown: watch::Sender<Option<Arc<Shown>>>,
}

impl Board {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), shown: watch::Sender::new(None) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store holds so many entries of the log.
    pub(crate) fn commit(&self, size: u64) {
        let mut state = self.state();
        if size > state.committed {
            state.committed = size;
            self.changed.notify_all();
        }
    }

    /// How many entries the store holds.
    pub(crate) fn committed(&self) -> u64 {
        self.state().committed
    }

    /// The publisher is to publish what is committed, and to end.
    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    /// Hands a cosignature to the publisher.
    pub(super) fn cosigned(&self, cosignature: Cosignature) {
        let mut state = self.state();
        if state.cosignatures.len() == COSIGNATURES_MAX {
            state.cosignatures.pop_front();
        }
        state.cosignatures.push_back(cosignature);
        self.changed.notify_all();
    }

    /// Blocks until there is something to do for a publisher that has published `size` entries.
    pub(super) fn next(&self, size: u64, append_from: Instant, sweep_from: Option<Instant>) -> Task {
        let mut state = self.state();
        loop {
            if !state.cosignatures.is_empty() {
                return Task::Cosign(state.cosignatures.drain(..).collect());
            }
            let now = Instant::now();
            let pending = state.committed > size;
            if pending && (state.stopping || now >= append_from) {
                return Task::Append;
            }
            if state.stopping {
                return Task::Stop;
            }
            if sweep_from.is_some_and(|from| now >= from) {
                return Task::Sweep;
            }
            let wake = pending.then_some(append_from).into_iter().chain(sweep_from).min();
            state = match wake {
                Some(wake) => {
                    let pause = wake.saturating_duration_since(now);
                    self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Blocks for so long. False: it is time to end.
    pub(super) fn rest(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.state();
        while !state.stopping {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// Shows what is durable.
    pub(super) fn show(&self, shown: Shown) {
        self.shown.send_replace(Some(Arc::new(shown)));
    }

    /// What is published; nothing before the first checkpoint.
    pub(crate) fn shown(&self) -> Option<Arc<Shown>> {
        self.shown.borrow().clone()
    }

    /// The same, for who waits for more.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Shown>>> {
        self.shown.subscribe()
    }

    /// Why nothing is published; nothing if it works. True: this is news.
    pub(super) fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut state = self.state();
        let news = state.trouble.is_some() != trouble.is_some();
        state.trouble = trouble.map(Into::into);
        news
    }

    /// Why nothing is published at the moment.
    pub(crate) fn trouble(&self) -> Option<Arc<str>> {
        self.state().trouble.clone()
    }

    pub(super) fn set_witnesses(&self, witnesses: Vec<WitnessState>) {
        self.state().witnesses = witnesses;
    }

    /// The pool's witnesses.
    pub(crate) fn witnesses(&self) -> Vec<WitnessState> {
        self.state().witnesses.clone()
    }
}
