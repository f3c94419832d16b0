//! The plainest store: the list of all changes, searched from the start for every answer.

use crate::JobQuery;
use crate::memory::Log;
use caii_coordinator::{Attempt, Catalog, Change, JobRecord, PayoutDraft};
use caii_ledger::PayoutRun;
use caii_model::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default, Clone)]
pub(crate) struct History {
    log: Vec<Change>,
    catalog: Catalog,
    ended: BTreeSet<JobId>,
    deleted: BTreeSet<FileId>,
}

impl History {
    pub(crate) fn commit(&mut self, changes: Vec<Change>) {
        for change in &changes {
            self.catalog.apply(change);
            match change {
                Change::JobEnded(id, _) => _ = self.ended.insert(*id),
                Change::FileDeleted(id, _) => _ = self.deleted.insert(*id),
                _ => {}
            }
        }
        self.log.extend(changes);
    }

    /// What a coordinator holds that made these changes and never stopped.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Whether the change is about what need not be loaded any more.
    pub(super) fn is_over(&self, change: &Change) -> bool {
        match change {
            Change::JobSubmitted(id, ..) | Change::JobPrepared(id, ..) | Change::JobEnding(id, ..) => {
                self.ended.contains(id)
            }
            Change::TaskSettled(task, _)
            | Change::AttemptFailed(task, _)
            | Change::TaskGivenUp(task, _)
            | Change::Checked(task, _) => self.ended.contains(&task.job),
            Change::TaskVoided(..) => true,
            Change::FileCreated(file) => self.deleted.contains(&file.id),
            Change::ModelRemoved(_) | Change::FileDeleted(..) | Change::JobEnded(..) | Change::Logged(_) => true,
            _ => false,
        }
    }

    pub(super) fn job(&self, id: JobId) -> Option<JobRecord> {
        let mut record = None;
        for change in &self.log {
            match (change, &mut record) {
                (Change::JobSubmitted(job, spec, at), None) if *job == id => {
                    record = Some(JobRecord {
                        id,
                        spec: spec.clone(),
                        submitted: *at,
                        prepared: None,
                        blob: None,
                        ending: None,
                        end: None,
                    });
                }
                (Change::JobPrepared(job, prepared, at), Some(record)) if *job == id => {
                    (record.prepared, record.blob) = (Some(*at), Some(prepared.blob));
                }
                (Change::JobEnding(job, ending, at), Some(record)) if *job == id => {
                    record.ending = Some((ending.clone(), *at));
                }
                (Change::JobEnded(job, end), Some(record)) if *job == id => {
                    let since = record.ending.as_ref().map_or(end.at, |(_, since)| *since);
                    record.ending = Some((end.ending.clone(), since));
                    record.end = Some(end.clone());
                }
                _ => {}
            }
        }
        record
    }

    /// Every job that there ever was.
    pub(super) fn all_jobs(&self) -> Vec<JobRecord> {
        let submitted = self.log.iter().filter_map(|change| match change {
            Change::JobSubmitted(id, ..) => self.job(*id),
            _ => None,
        });
        submitted.collect()
    }

    /// Everything that was logged, to be searched.
    pub(super) fn books(&self) -> Log {
        let mut books = Log::default();
        for change in &self.log {
            if let Change::Logged(event) = change {
                books.push(event.as_ref().clone()).expect("what the store took fits");
            }
        }
        books
    }

    /// A payout run as it was made last.
    pub(super) fn payout(&self, run: PayoutRun) -> Option<PayoutDraft> {
        let mut found: Option<PayoutDraft> = None;
        for change in &self.log {
            match change {
                Change::PayoutPrepared(draft) if draft.sent.run == run => found = Some(draft.as_ref().clone()),
                Change::PayoutApproved(approved, envelope) if *approved == run => {
                    found.as_mut().unwrap().approval = Some(envelope.clone());
                }
                _ => {}
            }
        }
        found
    }

    /// Jobs of a workload, newest first.
    pub(super) fn jobs_of(&self, workload: Digest) -> Vec<JobId> {
        let jobs = self.log.iter().rev().filter_map(|change| match change {
            Change::JobSubmitted(id, spec, _) if spec.workload == workload => Some(*id),
            _ => None,
        });
        jobs.collect()
    }

    pub(super) fn attempts(&self, job: JobId, limit: usize) -> Vec<(TaskIndex, Attempt)> {
        let attempts = self.log.iter().filter_map(|change| match change {
            Change::AttemptFailed(task, attempt) if task.job == job => Some((task.index, attempt.clone())),
            _ => None,
        });
        attempts.take(limit).collect()
    }

    pub(super) fn settled(&self, job: JobId) -> Vec<(TaskIndex, Settled)> {
        let mut kept = BTreeMap::new();
        for change in &self.log {
            match change {
                Change::TaskSettled(task, settled) if task.job == job => _ = kept.insert(task.index, settled.clone()),
                Change::TaskVoided(task, ..) if task.job == job => _ = kept.remove(&task.index),
                _ => {}
            }
        }
        kept.into_iter().collect()
    }
}

pub(super) fn listed(jobs: &[JobRecord], query: &JobQuery) -> Vec<JobRecord> {
    let mut jobs: Vec<_> = jobs
        .iter()
        .filter(|job| query.owner.as_ref().is_none_or(|owner| job.spec.owner == *owner))
        .filter(|job| query.before.is_none_or(|before| job.id < before))
        .filter(|job| !matches!(job.spec.kind, JobKind::Sync { .. }))
        .filter(|job| !query.batches_only || matches!(job.spec.kind, JobKind::Batch { .. }))
        .cloned()
        .collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
    jobs.truncate(query.limit.min(1_000));
    jobs
}
