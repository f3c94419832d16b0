//! One suite for every store: random histories, compared with the plainest model of what a store is.
//!
//! A store that fails to keep any promise of [`Store`] must fail here; `broken.rs` shows for several that it does.

mod bookkeeper;
mod broken;
mod history;
pub(crate) mod script;

use crate::{Epoch, JobQuery, ReceiptQuery, ReceiptsOf, Store, StoreError};
use caii_coordinator::Catalog;
use caii_ledger::{PayoutRun, Purpose};
use caii_model::{Account, DeviceId, Digest, JobId, Millis, Timestamp};
pub(crate) use history::History;
use script::{Random, Script};

/// Opens one more handle to the same pool, as another process would. The first call makes the pool.
pub(crate) type Open<'a> = &'a mut dyn FnMut() -> Box<dyn Store>;

/// How many histories a store that syncs to disk is put to, and how long each is.
pub(crate) const SEEDS_FEW: u64 = 8;
pub(crate) const STEPS: usize = 60;

/// Runs a history of so many commits against a new pool. What it says on failure names the commit.
pub(crate) fn check(seed: u64, commits: usize, open: Open<'_>) -> Result<(), String> {
    let mut run = Run::start(seed, open)?;
    for number in 0..commits {
        let step = match run.random.below(10) {
            0 => run.depose(open),
            1 => run.reopen(open),
            2 | 3 => run.contradict(),
            _ => run.commit(),
        };
        step.map_err(|problem| format!("seed {seed}, step {number}: {problem}"))?;
    }
    run.compare().and_then(|()| run.compare_queries()).map_err(|problem| format!("seed {seed}, at the end: {problem}"))
}

struct Run {
    random: Random,
    script: Script,
    history: History,
    store: Box<dyn Store>,
    epoch: Epoch,
}

impl Run {
    fn start(seed: u64, open: Open<'_>) -> Result<Self, String> {
        let mut store = open();
        if store.load().map_err(text)? != crate::Snapshot::default() {
            return Err("a new pool is not empty".into());
        }
        let epoch = store.acquire().map_err(text)?;
        if epoch != Epoch(1) {
            return Err(format!("the first epoch is {epoch}"));
        }
        Ok(Self { random: Random::new(seed), script: Script::new(seed), history: History::default(), store, epoch })
    }

    fn commit(&mut self) -> Result<(), String> {
        let changes = self.script.changes();
        self.store.commit(self.epoch, &changes).map_err(text)?;
        self.history.commit(changes);
        match self.random.below(4) {
            0 => self.compare(),
            1 => self.compare_queries(),
            _ => Ok(()),
        }
    }

    /// Another handle takes over; the old one may change nothing any more, and may still read.
    fn depose(&mut self, open: Open<'_>) -> Result<(), String> {
        let mut successor = open();
        let epoch = successor.acquire().map_err(text)?;
        if epoch <= self.epoch {
            return Err(format!("epoch {epoch} follows {}", self.epoch));
        }
        for changes in [self.script.clone().changes(), Vec::new()] {
            match self.store.commit(self.epoch, &changes) {
                Err(StoreError::Deposed { ours, current }) if (ours, current) == (self.epoch, epoch) => {}
                other => return Err(format!("a deposed store's commit gave {other:?}")),
            }
        }
        self.compare()?;
        (self.store, self.epoch) = (successor, epoch);
        self.compare()
    }

    /// The only handle goes and comes back; the epoch is still its own.
    fn reopen(&mut self, open: Open<'_>) -> Result<(), String> {
        self.store = open();
        self.compare()?;
        self.compare_queries()
    }

    /// A commit in which one change does not fit is refused whole.
    fn contradict(&mut self) -> Result<(), String> {
        // The next commit will use the ids that these changes use, so nothing of them may stay.
        let mut changes = self.script.clone().changes();
        let place = self.random.below(changes.len() as u64 + 1) as usize;
        let Some(wrong) = self.script.contradiction(&mut self.random) else { return Ok(()) };
        changes.insert(place, wrong.clone());
        match self.store.commit(self.epoch, &changes) {
            Err(StoreError::Contradiction { .. }) => {}
            other => return Err(format!("a contradiction, {wrong:?}, gave {other:?}")),
        }
        self.compare()?;
        self.compare_queries()
    }

    fn compare(&mut self) -> Result<(), String> {
        let snapshot = self.store.load().map_err(text)?;
        let mut rebuilt = Catalog::default();
        for change in &snapshot.changes {
            if self.history.is_over(change) {
                return Err(format!("loaded what is over: {change:?}"));
            }
            rebuilt.apply(change);
        }
        rebuilt.reserve_ids(snapshot.next);
        let live = self.history.catalog();
        if rebuilt != *live {
            return Err(format!("the catalog is not rebuilt:\n{rebuilt:?}\nis not\n{live:?}"));
        }
        Ok(())
    }

    fn compare_queries(&mut self) -> Result<(), String> {
        let jobs = self.history.all_jobs();
        for query in self.queries() {
            equal(&query, self.store.jobs(&query).map_err(text)?, history::listed(&jobs, &query))?;
        }
        for id in (0..=self.script.jobs_submitted() + 1).map(JobId) {
            equal(&id, self.store.job(id).map_err(text)?, self.history.job(id))?;
            equal(&id, self.store.settled(id).map_err(text)?, self.history.settled(id))?;
            for limit in [0, 2, usize::MAX] {
                let attempts = self.store.attempts(id, limit).map_err(text)?;
                equal(&(id, limit), attempts, self.history.attempts(id, limit))?;
            }
        }
        self.compare_books()
    }

    fn compare_books(&mut self) -> Result<(), String> {
        let expected = self.history.books();
        let size = expected.events().len() as u64;
        for (from, limit) in [(0, usize::MAX), (0, 2), (self.random.below(size + 2), 5), (u64::MAX, 9)] {
            equal(&(from, limit), self.store.logged(from, limit).map_err(text)?, expected.logged(from, limit))?;
        }
        let between = (self.random.below(size + 2), self.random.below(size + 2));
        let time = expected.events().get(between.0 as usize).map_or(Timestamp(5), |event| event.logged.at());
        let jobs: Vec<JobId> = (0..=self.script.jobs_submitted()).map(JobId).collect();
        let store = self.store.books();
        for at in [Timestamp(0), time, time + Millis(1), Timestamp(u64::MAX)] {
            equal(&at, store.entry_at(at).map_err(text)?, expected.entry_at(at))?;
        }
        let of_jobs = jobs.iter().map(|job| ReceiptsOf::Job(*job));
        let devices = || (0..7).map(|last| DeviceId([0, 0, 0, 0, 0, 0, 0, last]));
        let owners = Script::ACCOUNTS.into_iter().chain(["nobody"]).filter_map(Account::new);
        let of: Vec<ReceiptsOf> = [ReceiptsOf::Everybody]
            .into_iter()
            .chain(owners.clone().map(ReceiptsOf::Owner))
            .chain(devices().map(ReceiptsOf::Device))
            .chain(of_jobs)
            .collect();
        for of in of {
            for (from, until, limit) in [(0, u64::MAX, usize::MAX), (between.0, between.1, usize::MAX), (0, size, 2)] {
                for newest_first in [false, true] {
                    let query = ReceiptQuery { of: of.clone(), from, until, newest_first, limit };
                    equal(&query, store.receipts(&query).map_err(text)?, expected.receipts(&query))?;
                }
            }
        }
        for device in devices() {
            for sequence in [0, 1, 2, u64::MAX] {
                let found = store.receipt(device, sequence).map_err(text)?;
                equal(&(device, sequence), found, expected.receipt(device, sequence))?;
            }
        }
        for workload in (0..5).map(|byte| Digest([byte; 32])) {
            for limit in [0, 1, 3, usize::MAX] {
                let found = store.receipts_of_workload(workload, limit).map_err(text)?;
                equal(&workload, found, expected.receipts_of_jobs(self.history.jobs_of(workload), limit))?;
            }
        }
        for member in owners {
            for (before, limit) in [(None, usize::MAX), (Some(between.0), 3), (None, 2), (Some(u64::MAX), 1)] {
                let found = store.statement(&member, before, limit).map_err(text)?;
                equal(&(&member, before), found, expected.statement(&member, before, limit))?;
            }
        }
        for run in (0..9).map(PayoutRun) {
            equal(&run, store.payout(run).map_err(text)?, self.history.payout(run))?;
        }
        for job in jobs {
            equal(&job, store.job_price(job).map_err(text)?, expected.job_price(job))?;
            for purpose in [Purpose::JobReserved(job), Purpose::JobReturned(job)] {
                let id = purpose.transfer_id(0);
                equal(&purpose, store.posted(id).map_err(text)?, expected.posted(id))?;
            }
        }
        Ok(())
    }

    fn queries(&mut self) -> Vec<JobQuery> {
        let before = JobId(self.random.below(self.script.jobs_submitted() + 2));
        let owners = [None, Some(Script::ACCOUNTS[0]), Some(Script::ACCOUNTS[1]), Some("nobody")];
        let mut queries = Vec::new();
        for owner in owners.map(|name| name.and_then(Account::new)) {
            for before in [None, Some(before), Some(JobId(u64::MAX))] {
                for batches_only in [false, true] {
                    for limit in [0, 3, usize::MAX] {
                        queries.push(JobQuery { owner: owner.clone(), before, batches_only, limit });
                    }
                }
            }
        }
        queries
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &dyn std::fmt::Debug, found: T, expected: T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what:?} gave\n{found:?}\nand not\n{expected:?}")),
    }
}

fn text(error: StoreError) -> String {
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What the suite never does, it cannot find wrong.
#[test]
fn histories_have_entries_of_every_kind() {
    use caii_audit::{Kind, Logged};
    let (mut kinds, mut purposes) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for seed in 0..SEEDS_FEW {
        let mut script = Script::new(seed);
        for change in (0..STEPS).flat_map(|_| script.changes()) {
            let caii_coordinator::Change::Logged(event) = change else { continue };
            kinds.insert(event.logged.kind());
            if let Logged::Entry(entry) = &event.logged {
                purposes.insert(format!("{:?}", entry.purpose).split('(').next().map(str::to_owned));
            }
        }
    }
    assert_eq!(kinds.len(), Kind::ALL.len(), "{kinds:?}");
    assert_eq!(purposes.len(), 11, "{purposes:?}");
}

#[test]
fn the_store_in_memory_conforms() {
    for seed in 0..100 {
        let pool = crate::MemoryStore::new();
        check(seed, STEPS, &mut || Box::new(pool.clone())).unwrap();
    }
}
