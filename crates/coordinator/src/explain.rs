//! Why a job waits, why a task was retried, why a device idles: in sentences, from the state alone.

use crate::state::{Present, Work};
use crate::{Attempt, Coordinator, DeviceAccount};
use caii_ledger::LedgerAccount;
use caii_model::*;
use caii_verify::AUDITS_FINAL;
use std::collections::{BTreeMap, BTreeSet};

/// How many tasks' troubles are told one by one.
const TROUBLES_MAX: usize = 10;
/// How many devices are named whose programs were not wholly jailed.
const UNJAILED_MAX: usize = 5;

impl Coordinator {
    /// Why an open job is where it is. Empty for a job that is not open.
    pub fn explain_job(&self, id: JobId, now: Timestamp) -> Vec<String> {
        let Some(job) = self.catalog.jobs.get(&id) else { return vec![] };
        if let Some((ending, since)) = &job.ending {
            return vec![format!("{} Its output is being written since {}.", why_ending(ending), now.since(*since))];
        }
        let Some(work) = &job.work else {
            return vec!["Its input is being checked and split into tasks.".into()];
        };
        let totals = &work.totals;
        let leased = self.presence.leased_per_job.get(&id).copied().unwrap_or(0);
        let waiting = self.presence.waiting.get(&id).map_or(0, |tasks| tasks.len());
        let mut lines = vec![format!(
            "{} of {} tasks are done, {leased} are being worked on, {waiting} wait.",
            totals.tasks_settled + totals.tasks_given_up,
            totals.tasks
        )];
        lines.extend(self.how_checked(job, work));
        lines.extend(self.what_it_costs(id));
        if waiting > 0 {
            lines.extend(self.why_waiting(job, now));
        }
        lines.extend(self.troubles(work));
        lines.extend(tell_jails(work.settled.values(), |device| self.device_name(device)));
        lines
    }

    fn what_it_costs(&self, id: JobId) -> Option<String> {
        let books = &self.catalog.books;
        let left = books.ledger.balance(&LedgerAccount::Escrow(id));
        let accepted = books.cost_of(id);
        (left.0 > 0 || accepted.0 > 0).then(|| {
            format!(
                "Accepted results cost {accepted} credits so far. {left} credits are set aside for it; what is not used comes \
                 back when it ends."
            )
        })
    }

    fn how_checked(&self, job: &crate::Job, work: &Work) -> Vec<String> {
        let how = match self.verification(&job.spec) {
            Verification::Off => return vec!["Its results are not checked.".into()],
            Verification::Spot => "one item in a hundred also runs on another device".to_owned(),
            Verification::Audit { depth } => {
                format!("items also run on devices of other owners, until {depth} audits of a device agreed with it")
            }
            Verification::Quorum { results } => format!("{results} devices of different owners have to agree"),
        };
        let (open, finals) = (work.checks.open.len(), work.checks.finals.len());
        let under_way: Vec<_> = work.audits_under_way().map(|(index, _)| TaskId { job: job.id, index }).collect();
        let drawn: usize = work.checks.drawn.values().map(|items| items.len()).sum();
        let mut lines = vec![format!(
            "Its results are checked: {how}. {finals} results count, {open} are provisional; {} audits are under way, \
             {drawn} more items are drawn.",
            under_way.len()
        )];
        let unattended = under_way.iter().filter(|task| self.presence.unattended.contains_key(task)).count();
        if unattended > 0 {
            lines.push(format!(
                "{unattended} audits find no device that may do them; after {} the pool does them itself.",
                self.config.audit_patience
            ));
        }
        lines
    }

    fn why_waiting(&self, job: &crate::Job, now: Timestamp) -> Vec<String> {
        let present = &self.presence.present;
        if self.catalog.devices.is_empty() {
            return vec!["No device has joined this pool yet: `caii agent run TICKET` on a machine joins it.".into()];
        }
        if present.is_empty() {
            let last = self.presence.lost.iter().max_by_key(|(_, at)| **at);
            let heard = last.map_or_else(
                || format!("none of them since this coordinator started {} ago", now.since(self.started)),
                |(device, at)| format!("the last was {}, {} ago", self.device_name(*device), now.since(*at)),
            );
            return vec![format!(
                "None of the {} enrolled devices is connected ({heard}).",
                self.catalog.devices.len()
            )];
        }
        let adoption = self.started + self.config.adoption;
        if job.id < self.inherited && now < adoption {
            return vec![format!(
                "The coordinator started {} ago; for {} more it lets devices tell what they are already doing.",
                now.since(self.started),
                adoption.since(now)
            )];
        }
        let slots: u32 = present.values().map(|device| device.slots).sum();
        let busy: usize = present.values().map(|device| device.leases.len()).sum();
        let mut lines = vec![format!(
            "Devices connected: {}. Together they run {slots} at a time and hold {busy} now.",
            present.len()
        )];
        for (id, device) in present {
            if let Some(until) = device.avoid_jobs.get(&job.id).filter(|until| **until > now) {
                lines.push(format!(
                    "{} stays away from this job for {} more, after an attempt that failed there.",
                    self.device_name(*id),
                    until.since(now)
                ));
            }
        }
        let ahead = self.presence.leased_per_job.iter().filter(|(id, _)| **id != job.id).count();
        if ahead > 0 {
            lines
                .push(format!("{ahead} other jobs have tasks under way; accounts take turns, the least served first."));
        }
        lines
    }

    fn troubles(&self, work: &Work) -> Vec<String> {
        let mut lines: Vec<String> = work
            .attempts
            .iter()
            .take(TROUBLES_MAX)
            .map(|(index, attempts)| {
                let state = if work.given_up.contains(index) {
                    "was given up; its records are in the error file"
                } else if work.settled.contains_key(index) {
                    "was done in the end"
                } else {
                    "goes to another device"
                };
                let told: Vec<String> = attempts.iter().map(|attempt| self.tell(attempt)).collect();
                format!("Task {index} {state}: {}.", told.join("; "))
            })
            .collect();
        if work.attempts.len() > TROUBLES_MAX {
            lines.push(format!("{} more tasks had failed attempts.", work.attempts.len() - TROUBLES_MAX));
        }
        lines
    }

    fn tell(&self, attempt: &Attempt) -> String {
        tell_attempt(attempt, &self.device_name(attempt.device))
    }

    fn device_name(&self, id: DeviceId) -> String {
        match self.catalog.devices.get(&id) {
            Some(device) if !device.name.is_empty() => format!("{id} ({})", device.name),
            _ => id.to_string(),
        }
    }

    /// What audits found of a device.
    fn trust_in(&self, id: DeviceId) -> Vec<String> {
        let convicted = self.catalog.convicted.get(&id).map(|conviction| {
            let role = if conviction.as_auditor { "as the auditor of" } else { "in" };
            format!(
                "It falsified item {} of {} {role} {} (found by {}, {} in Unix seconds): it gets no more work, and what it \
                 did that did not count yet is done again.",
                conviction.item.item,
                conviction.item.task,
                conviction.audit.job,
                conviction.audit,
                conviction.at.unix_seconds()
            )
        });
        let of_it = self.catalog.standings.range((id, Digest([0; 32]))..=(id, Digest([255; 32])));
        let stands = of_it.map(|((_, workload), standing)| {
            let name = self.catalog.workloads.get(workload).map_or_else(|| workload.short(), |m| m.name.clone());
            format!("{} of {} audits of its results of {name} agreed with it.", standing.survived, standing.drawn)
        });
        convicted.into_iter().chain(stands).collect()
    }

    /// Why a device does what it does. Empty for a device that is not enrolled.
    pub fn explain_device(&self, id: DeviceId, now: Timestamp) -> Vec<String> {
        if !self.catalog.devices.contains_key(&id) {
            return vec![];
        }
        let mut history = self.trust_in(id);
        history.extend(self.what_it_earned(id));
        let Some(device) = self.presence.present.get(&id) else {
            let heard = match self.presence.lost.get(&id) {
                Some(at) => format!("It was last heard of {} ago.", now.since(*at)),
                None => {
                    format!("It has not been heard of since this coordinator started {} ago.", now.since(self.started))
                }
            };
            return ["It is not connected.".into(), heard].into_iter().chain(history).collect();
        };
        let mut lines = vec![format!(
            "It is connected since {} and was last heard of {} ago.",
            now.since(device.since),
            now.since(device.heard)
        )];
        lines.push(self.what_it_does(device, now));
        if let Some((jail, at)) = device.jail {
            let told = tell_jail(jail);
            lines.push(format!("The program of its last result, {} ago, ran {told}.", now.since(at)));
        }
        for (job, until) in device.avoid_jobs.iter().filter(|(_, until)| **until > now) {
            lines.push(format!("It stays away from {job} for {} more: it could not start it.", until.since(now)));
        }
        for (task, until) in device.avoid_tasks.iter().filter(|(_, until)| **until > now) {
            lines.push(format!("It stays away from task {task} for {} more: it failed there.", until.since(now)));
        }
        lines.append(&mut history);
        lines
    }

    fn what_it_earned(&self, id: DeviceId) -> Option<String> {
        let DeviceAccount { decided, accepted, held, .. } = self.catalog.books.device(id);
        let held = match held {
            MicroCredits::ZERO => String::new(),
            held => format!(
                " {held} credits are held back until {AUDITS_FINAL} audits of a workload agreed with it (docs/money.md)."
            ),
        };
        (decided > 0).then(|| format!("{accepted} of its {decided} claims were accepted.{held}"))
    }

    fn what_it_does(&self, device: &Present, now: Timestamp) -> String {
        if !device.leases.is_empty() {
            let tasks: Vec<String> =
                device.leases.values().take(8).map(|held| held.signed.lease.task.to_string()).collect();
            let more = if device.leases.len() > tasks.len() { ", …" } else { "" };
            return format!("It holds {} tasks ({}{more}).", device.leases.len(), tasks.join(", "));
        }
        if device.slots == 0 {
            return "It offers no slots: its owner has paused it or needs the machine.".into();
        }
        if self.presence.waiting.is_empty() {
            return "It is idle: no task waits.".into();
        }
        if now < self.started + self.config.adoption {
            return "It is idle: the coordinator has just started and first asks every device what it is doing.".into();
        }
        "It is idle: it stays away from the tasks that wait, or is about to ask for one.".into()
    }
}

/// An attempt that came to nothing, in words.
pub fn tell_attempt(attempt: &Attempt, device: &str) -> String {
    let what = match attempt.failure.kind {
        AttemptFailureKind::DeviceLost => "was lost",
        AttemptFailureKind::DeviceForgot => "lost the task, as after a restart of its agent",
        AttemptFailureKind::GivenBack => "gave the task back",
        AttemptFailureKind::LeaseExpired => "took too long",
        AttemptFailureKind::RunnerDied => "saw its runner process die",
        AttemptFailureKind::ItemTooSlow => "met an item that took longer than the limit",
        AttemptFailureKind::PreparationFailed => "could not start the program",
        AttemptFailureKind::BlobUnavailable => "could not get the data",
        AttemptFailureKind::DiskFull => "had no room on disk",
        AttemptFailureKind::Uncertified => "refused to run the program",
        AttemptFailureKind::MalformedResult => "returned a result that does not fit",
    };
    if attempt.failure.detail.is_empty() {
        format!("{device} {what}")
    } else {
        format!("{device} {what}: {}", attempt.failure.detail)
    }
}

/// What devices say confined the programs of these results.
pub fn tell_jails<'a>(settled: impl Iterator<Item = &'a Settled>, name: impl Fn(DeviceId) -> String) -> Vec<String> {
    let (mut whole, mut weak) = (0, BTreeMap::<u32, (u32, BTreeSet<DeviceId>)>::new());
    for settled in settled {
        if settled.report.jail.missing().any(JailLayer::is_mandatory) {
            let (count, devices) = weak.entry(settled.report.jail.0).or_default();
            *count += 1;
            devices.insert(settled.device);
        } else {
            whole += 1;
        }
    }
    let mut lines = vec![];
    if whole > 0 {
        lines.push(format!("{whole} results were computed in a jail of all mandatory layers."));
    }
    lines.extend(weak.into_iter().map(|(jail, (count, devices))| {
        let mut names: Vec<String> = devices.iter().take(UNJAILED_MAX).map(|device| name(*device)).collect();
        if devices.len() > UNJAILED_MAX {
            names.push(format!("{} more", devices.len() - UNJAILED_MAX));
        }
        format!("{count} results were computed {}: by {}.", tell_jail(JailLayers(jail)), names.join(", "))
    }));
    lines
}

/// What confined a program, to go on with "it ran".
fn tell_jail(jail: JailLayers) -> String {
    let missing: Vec<&str> = jail.missing().map(JailLayer::name).collect();
    match missing.len() {
        _ if jail == JailLayers::NONE => "in no jail that its device would tell of".to_owned(),
        0 => format!("in a jail of all {} layers", JailLayer::ALL.len()),
        count => {
            let (all, in_force) = (JailLayer::ALL.len(), JailLayer::ALL.len() - count);
            format!("in a jail of {in_force} of {all} layers, without {}", missing.join(", "))
        }
    }
}

fn why_ending(ending: &Ending) -> String {
    match ending {
        Ending::Completed => "Every task is done.".into(),
        Ending::Cancelled => "It was cancelled.".into(),
        Ending::Expired => "Its deadline has passed.".into(),
        Ending::Failed { errors } => {
            let first = errors.first().map_or("no reason is on record", |error| &error.message);
            format!("It failed: {first}.")
        }
    }
}
