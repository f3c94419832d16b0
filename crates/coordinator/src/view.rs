//! Plain read models of the state, for the shell, the command line and the dashboard. They are not serialised here.

use crate::{Attempt, Coordinator, JobRecord, Totals};
use caii_model::*;
use std::collections::BTreeMap;

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Its input is being checked and split.
    Preparing,
    /// Its tasks are being done.
    Running,
    /// Its output is being written.
    Assembling,
    /// It has ended.
    Ended,
}

/// An open job as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// Its row so far.
    pub record: JobRecord,
    /// How far it is.
    pub phase: Phase,
    /// What it has come to so far.
    pub totals: Totals,
    /// Tasks that devices work on now.
    pub tasks_leased: u32,
    /// Tasks that wait.
    pub tasks_waiting: u32,
}

/// A device as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceView {
    /// Who it is.
    pub device: Device,
    /// Whether it is in conversation with this coordinator.
    pub present: bool,
    /// When it was last heard of, if this coordinator process ever heard of it.
    pub heard: Option<Timestamp>,
    /// Tasks that it runs at a time.
    pub slots: u32,
    /// What it works on.
    pub tasks: Vec<TaskId>,
    /// Workloads that it can start at once.
    pub ready: Vec<Digest>,
}

/// All that is needed to write a job's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    /// The job.
    pub id: JobId,
    /// As submitted.
    pub spec: JobSpec,
    /// How records form items.
    pub scope: Scope,
    /// Its split input; absent when it ended before that.
    pub prepared: Option<Prepared>,
    /// How it is ending.
    pub ending: Ending,
    /// The accepted results.
    pub settled: BTreeMap<TaskIndex, Settled>,
    /// The reasons of tasks that were given up: the attempts of each.
    pub given_up: BTreeMap<TaskIndex, Vec<Attempt>>,
}

/// An audit as the shell needs it to gather, compare or run its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditView {
    /// What runs it.
    pub workload: Digest,
    /// How records form items.
    pub scope: Scope,
    /// The job's records.
    pub blob: Digest,
    /// Its items in order, each with the part of the records in which its task is, and the result that claims it.
    pub items: Vec<AuditedItem>,
    /// The auditor's result, once there is one.
    pub result: Option<Digest>,
}

/// An item of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedItem {
    /// Which it is.
    pub id: ItemId,
    /// Its task's part of the job's records.
    pub input: TaskInput,
    /// The result that it is claimed in; absent when the claim was voided.
    pub claim: Option<Digest>,
}

impl Coordinator {
    /// The accepted results that count.
    fn counting(&self, job: &crate::Job, work: &crate::state::Work) -> BTreeMap<TaskIndex, Settled> {
        let all = self.verification(&job.spec) == Verification::Off;
        let counts = |index: &TaskIndex| !work.is_audit(*index) && (all || work.checks.finals.contains(index));
        work.settled.iter().filter(|(index, _)| counts(index)).map(|(index, by)| (*index, by.clone())).collect()
    }

    /// An audit that has not come to an end.
    pub fn audit(&self, task: TaskId) -> Option<AuditView> {
        let job = self.catalog.jobs.get(&task.job).filter(|job| job.ending.is_none())?;
        let work = job.work.as_ref()?;
        let state = work.checks.audits.get(&task.index).filter(|state| state.end.is_none())?;
        let scope = self.catalog.workloads.get(&job.spec.workload)?.scope;
        let item = |place| {
            let id = state.item(place)?;
            let claim = work.settled.get(&id.task).filter(|settled| settled.device == state.audit.of);
            let input = *work.prepared.tasks.get(id.task.0 as usize)?;
            Some(AuditedItem { id, input, claim: claim.map(|settled| settled.report.result) })
        };
        Some(AuditView {
            workload: job.spec.workload,
            scope,
            blob: work.prepared.blob,
            items: (0..state.items(work, scope)).filter_map(item).collect(),
            result: work.settled.get(&task.index).map(|settled| settled.report.result),
        })
    }

    /// Devices that are trusted no more, and why.
    pub fn convictions(&self) -> impl Iterator<Item = &Conviction> {
        self.catalog.convicted.values()
    }

    /// The key with this secret, unless revoked.
    pub fn key_by_secret_hash(&self, hash: &Digest) -> Option<&Key> {
        self.catalog.keys_by_hash.get(hash).and_then(|id| self.catalog.keys.get(id))
    }

    /// All keys, revoked ones too.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.catalog.keys.values()
    }

    /// All tickets, expired ones too.
    pub fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        self.catalog.tickets.values()
    }

    /// The ticket with this secret.
    pub fn ticket_by_secret_hash(&self, hash: &Digest) -> Option<&Ticket> {
        self.catalog.tickets_by_hash.get(hash).and_then(|id| self.catalog.tickets.get(id))
    }

    /// An enrolled device.
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.catalog.devices.get(&id)
    }

    /// The conversation that a device is in, which authorises its blob requests.
    pub fn session(&self, id: DeviceId) -> Option<SessionId> {
        self.presence.present.get(&id).map(|present| present.session)
    }

    /// Whether a lease that the device is thought to work on covers this part of a blob, which authorises it to read it.
    pub fn lease_covers(&self, id: DeviceId, blob: &Digest, part: &std::ops::Range<u64>) -> bool {
        let leases = self.presence.present.get(&id).into_iter().flat_map(|present| present.leases.values());
        leases.map(|held| &held.signed.lease).any(|lease| {
            let end = lease.input.offset.saturating_add(u64::from(lease.input.len));
            lease.blob == *blob && lease.input.offset <= part.start && part.end <= end
        })
    }

    /// All enrolled devices.
    pub fn devices(&self) -> Vec<DeviceView> {
        self.catalog.devices.keys().filter_map(|id| self.device_view(*id)).collect()
    }

    /// One enrolled device.
    pub fn device_view(&self, id: DeviceId) -> Option<DeviceView> {
        let device = self.catalog.devices.get(&id)?.clone();
        let present = self.presence.present.get(&id);
        Some(DeviceView {
            device,
            present: present.is_some(),
            heard: present.map(|p| p.heard).or_else(|| self.presence.lost.get(&id).copied()),
            slots: present.map_or(0, |p| p.slots),
            tasks: present.map_or_else(Vec::new, |p| p.leases.values().map(|held| held.signed.lease.task).collect()),
            ready: present.map_or_else(Vec::new, |p| p.ready.iter().copied().collect()),
        })
    }

    /// Tasks that all present devices together run at a time.
    pub fn slots_present(&self) -> u32 {
        self.presence.present.values().map(|present| present.slots).sum()
    }

    /// A workload.
    pub fn workload(&self, digest: &Digest) -> Option<&Manifest> {
        self.catalog.workloads.get(digest)
    }

    /// All workloads.
    pub fn workloads(&self) -> impl Iterator<Item = &Manifest> {
        self.catalog.workloads.values()
    }

    /// A model.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.catalog.models.get(name)
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.catalog.models.values()
    }

    /// A file, if `owner` may see it (`None`: an admin).
    pub fn file(&self, owner: Option<&Account>, id: FileId) -> Option<&FileMeta> {
        self.catalog.files.get(&id).filter(|file| owner.is_none_or(|owner| file.owner == *owner))
    }

    /// The files that `owner` may see, newest first.
    pub fn files(&self, owner: Option<&Account>) -> impl Iterator<Item = &FileMeta> {
        let owner = owner.cloned();
        self.catalog.files.values().rev().filter(move |file| owner.as_ref().is_none_or(|owner| file.owner == *owner))
    }

    /// An open job, if `owner` may see it (`None`: an admin). Ended ones are in the store's history.
    pub fn job(&self, owner: Option<&Account>, id: JobId) -> Option<JobView> {
        let job = self.catalog.jobs.get(&id).filter(|job| owner.is_none_or(|owner| job.spec.owner == *owner))?;
        let work = job.work.as_ref();
        Some(JobView {
            record: JobRecord {
                id,
                spec: job.spec.clone(),
                submitted: job.submitted,
                prepared: work.map(|work| work.prepared_at),
                blob: work.map(|work| work.prepared.blob),
                ending: job.ending.clone(),
                end: None,
            },
            phase: match (&job.ending, work) {
                (Some(_), _) => Phase::Assembling,
                (None, None) => Phase::Preparing,
                (None, Some(_)) => Phase::Running,
            },
            totals: work.map(|work| work.totals).unwrap_or_default(),
            tasks_leased: self.presence.leased_per_job.get(&id).copied().unwrap_or(0),
            tasks_waiting: self.presence.waiting.get(&id).map_or(0, |waiting| waiting.len() as u32),
        })
    }

    /// The open jobs that `owner` may see, newest first.
    pub fn jobs(&self, owner: Option<&Account>) -> Vec<JobView> {
        self.catalog.jobs.keys().rev().filter_map(|id| self.job(owner, *id)).collect()
    }

    /// An open job as submitted.
    pub fn job_spec(&self, id: JobId) -> Option<&JobSpec> {
        self.catalog.jobs.get(&id).map(|job| &job.spec)
    }

    /// Every blob that something durable names: files, workloads, and the inputs and results of open jobs.
    pub fn live_blobs(&self) -> std::collections::BTreeSet<Digest> {
        let files = self.catalog.files.values().map(|file| file.digest);
        let workloads = self.catalog.workloads.values();
        let workloads = workloads.flat_map(|m| m.blobs.iter().map(|blob| blob.digest).chain([m.program]));
        let work = self.catalog.jobs.values().filter_map(|job| job.work.as_ref());
        let work = work.flat_map(|work| {
            let gathered = work.checks.audits.values().filter_map(|audit| audit.input.map(|(blob, _)| blob));
            let results = work.settled.values().map(|settled| settled.report.result);
            results.chain([work.prepared.blob]).chain(gathered)
        });
        files.chain(workloads).chain(work).collect()
    }

    /// What an ending job's output is to be written from.
    pub fn assembly(&self, id: JobId) -> Option<Assembly> {
        let job = self.catalog.jobs.get(&id)?;
        let (ending, _) = job.ending.clone()?;
        let manifest = self.catalog.workloads.get(&job.spec.workload)?;
        let work = job.work.as_ref();
        let given_up = work.map_or_else(BTreeMap::new, |work| {
            let reasons = |index| work.attempts.get(index).cloned().unwrap_or_default();
            work.given_up.iter().map(|index| (*index, reasons(index))).collect()
        });
        Some(Assembly {
            id,
            spec: job.spec.clone(),
            scope: manifest.scope,
            prepared: work.map(|work| work.prepared.clone()),
            ending,
            settled: work.map(|work| self.counting(job, work)).unwrap_or_default(),
            given_up,
        })
    }
}
