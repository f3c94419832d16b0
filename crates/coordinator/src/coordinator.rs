//! The state machine itself: its configuration, how it starts, and the one `match` over its inputs.

use crate::state::Presence;
use crate::{Catalog, Change, Context, Effect, Input, NextIds, RequestId, Step};
use caii_model::*;
use caii_trust::LeaseAuthority;

/// How a coordinator behaves. The defaults are those of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A device that was not heard of for so long is lost. Devices speak at least every [`Config::wait_max`].
    pub device_silence_max: Millis,
    /// The longest that a reply is held back.
    pub wait_max: Millis,
    /// How long a lease is worth something.
    pub lease_duration: Millis,
    /// After a start, so long no work is given out that devices may still be doing: they tell what they hold first.
    pub adoption: Millis,
    /// A device whose connection broke is lost when it is not heard again for so long.
    pub gone_silence_max: Millis,
    /// A task that failed on so many different devices, or twice as often on fewer when no others are there, through
    /// what may be its own fault, is given up. A program that cannot be started on so many devices, or twice as often
    /// on fewer when no others are there, ends its job.
    pub blamed_devices_max: u32,
    /// A task is given up after so many attempts of any kind, those that an owner ended not counted, unless a device is
    /// there that has not tried it; after four times as many in any case.
    pub attempts_max: u32,
    /// How long a device stays away from a task, or from a job that it cannot start, after an attempt that failed
    /// there. Doubled with each further failure there, up to 128 times.
    pub avoid: Millis,
    /// How long an audit waits for a device that may do it, before the pool does it itself.
    pub audit_patience: Millis,
    /// How long draws depend on one secret before it is revealed.
    pub audit_secret: Millis,
    /// The most leases a device may hold.
    pub leases_per_device_max: u32,
    /// The most open jobs of an account.
    pub jobs_open_max: u32,
    /// The most tasks of a job.
    pub tasks_per_job_max: u32,
    /// The most records of a job.
    pub records_per_job_max: u64,
    /// The meter of this pool's devices, which names their engine.
    pub meter: MeterId,
    /// Further meters that the same engine has, for programs that the operator vouches for. The shell lets only admins
    /// add workloads with them.
    pub meters_vetted: Vec<MeterId>,
    /// By what rules members are paid out; absent: not at all.
    pub payout: Option<crate::PayoutRules>,
}

impl Config {
    /// The defaults, for this meter.
    pub fn new(meter: MeterId) -> Self {
        Self {
            device_silence_max: Millis(12_000),
            wait_max: Millis(5_000),
            lease_duration: Millis(3_600_000),
            adoption: Millis(3_000),
            gone_silence_max: Millis(5_000),
            blamed_devices_max: 3,
            attempts_max: 12,
            avoid: Millis(5_000),
            audit_patience: Millis(30_000),
            audit_secret: Millis(3_600_000),
            leases_per_device_max: 1_024,
            jobs_open_max: 1_000,
            tasks_per_job_max: 2_000_000,
            records_per_job_max: 100_000_000,
            meter,
            meters_vetted: Vec::new(),
            payout: None,
        }
    }
}

/// A pool's control plane.
pub struct Coordinator {
    pub(crate) config: Config,
    pub(crate) pool: PoolId,
    pub(crate) boot: BootId,
    pub(crate) authority: Box<dyn LeaseAuthority + Send>,
    pub(crate) catalog: Catalog,
    pub(crate) presence: Presence,
    pub(crate) started: Timestamp,
    /// Jobs with smaller ids were there at the start: devices may already be at work on them.
    pub(crate) inherited: JobId,
    /// The time that passed by the shell's clock, never backwards.
    pub(crate) now: Timestamp,
    /// What the shell's clock said last.
    pub(crate) clock: Timestamp,
    /// The time of the last tick.
    pub(crate) ticked: Timestamp,
    /// The version of the governance metadata, as the shell says it; not durable.
    pub(crate) governance: u64,
}

impl Coordinator {
    /// Starts from stored changes. Returns what was under way and has to be done (again).
    pub fn load(
        config: Config,
        pool: PoolId,
        boot: BootId,
        authority: Box<dyn LeaseAuthority + Send>,
        changes: &[Change],
        next: NextIds,
        now: Timestamp,
    ) -> (Self, Vec<Effect>) {
        let mut catalog = Catalog::default();
        changes.iter().for_each(|change| catalog.apply(change));
        catalog.reserve_ids(next);
        let mut presence = Presence::default();
        for (id, job) in &catalog.jobs {
            if let Some(work) = job.work.as_ref().filter(|work| job.ending.is_none() && !work.open.is_empty()) {
                presence.waiting.insert(*id, work.open.clone());
            }
        }
        let inherited = JobId(catalog.next.job);
        // Nothing is logged of a time before what is logged already, wherever the clock was set.
        let clock = now;
        let now = now.max(catalog.books.last);
        let (started, ticked) = (now, now);
        let coordinator = Self {
            config,
            pool,
            boot,
            authority,
            catalog,
            presence,
            started,
            inherited,
            now,
            clock,
            ticked,
            governance: 0,
        };
        let effects = coordinator.unfinished();
        (coordinator, effects)
    }

    /// The durable part, for tests that compare it.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Which pool this is.
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// Which run of a coordinator process this is.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// How it behaves.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes one input. The caller commits `changes`, then releases `effects`; if the commit fails it drops this
    /// coordinator and loads another one.
    pub fn step(&mut self, context: Context, request: RequestId, input: Input) -> Step {
        self.now = self.now + context.now.since(self.clock);
        self.clock = context.now;
        let mut draft = crate::draft::Draft::new(self, context.entropy, request);
        match input {
            Input::KeyCreate { name, account, role, secret_hash } => draft.key_create(name, account, role, secret_hash),
            Input::KeyRevoke(key) => draft.key_revoke(key),
            Input::TicketIssue { account, secret_hash, valid_for, uses_max } => {
                draft.ticket_issue(account, secret_hash, valid_for, uses_max)
            }
            Input::TicketRevoke(ticket) => draft.ticket_revoke(ticket),
            Input::WorkloadAdd(manifest) => draft.workload_add(manifest),
            Input::ModelAdd(model) => draft.model_add(model),
            Input::ModelRemove(name) => draft.model_remove(name),
            Input::FileCreate { owner, filename, purpose, digest, size } => {
                draft.file_create(owner, filename, purpose, digest, size)
            }
            Input::FileDelete { owner, file } => draft.file_delete(owner, file),
            Input::JobSubmit(spec) => draft.job_submit(spec, None),
            Input::JobSubmitPrepared(spec, prepared) => draft.job_submit(spec, Some(prepared)),
            Input::JobCancel { owner, job } => draft.job_cancel(owner, job),
            Input::JobPrepared(job, result) => draft.job_prepared(job, result),
            Input::JobAssembled(job, assembled) => draft.job_assembled(job, assembled),
            Input::AuditGathered(task, blob, input) => draft.audit_gathered(task, blob, input),
            Input::AuditCompared(task, differ) => {
                draft.audit_compared(task, &differ);
                draft.dispatch();
            }
            Input::AuditRefereed(task, findings) => draft.audit_refereed(task, findings),
            Input::Enrol { secret_hash, public_key, name } => draft.enrol(secret_hash, public_key, name),
            Input::Exchange(exchange) => draft.exchange(exchange),
            Input::ExchangeGone(device) => draft.exchange_gone(device),
            Input::GovernanceChanged { version } => draft.governance_changed(version),
            Input::WorkloadRevoked { workload, reason } => draft.workload_revoked(workload, &reason),
            Input::WorkloadUncertified { workload, reason } => draft.workload_uncertified(workload, &reason),
            Input::Open(opening) => draft.open(*opening),
            Input::WorkloadCertified { workload, charter, envelope } => {
                draft.workload_certified(workload, charter, envelope);
            }
            Input::TariffEnact(terms) => draft.tariff_enact(terms),
            Input::Credit { key, to, amount, paid } => draft.credit(key, &to, amount, paid),
            Input::PayoutPrefer { account, preference } => draft.payout_prefer(account, preference),
            Input::PayoutPrepare { execution, credit_notes } => draft.payout_prepare(execution, credit_notes),
            Input::PayoutApprove { run, envelope } => draft.payout_approve(run, &envelope),
            Input::PayoutSend { run } => draft.payout_send(run),
            Input::PayoutSettle { run, paid, failed } => draft.payout_settle(run, &paid, &failed),
            Input::Tick => draft.tick(),
        }
        draft.finish()
    }
}
