//! Changes to rows.

use super::fault::{Fault, contradiction};
use super::logged::Entries;
use crate::Epoch;
use crate::names::{Named, ending_name, job_kind_name, verification_name, verification_number};
use caii_audit::Logged;
use caii_coordinator::{Attempt, Change, JobEnd, NextIds, PayoutDraft, PayoutPreference, Totals};
use caii_model::*;
use caii_wire::rows;
use rusqlite::{Connection, Params, params};

/// The epoch in force; 0 before the first.
pub(super) fn epoch(db: &Connection) -> Result<Epoch, Fault> {
    let epoch: i64 = db.prepare_cached("SELECT epoch FROM pool")?.query_row([], |row| row.get(0))?;
    Ok(Epoch(epoch as u64))
}

pub(super) fn set_epoch(db: &Connection, epoch: Epoch) -> Result<(), Fault> {
    db.execute("UPDATE pool SET epoch = ?1", [number(epoch.0)])?;
    Ok(())
}

/// Writes the changes down, in order. Called in a transaction, which the caller drops on an error.
pub(super) fn apply(db: &Connection, changes: &[Change]) -> Result<(), Fault> {
    let (mut used, mut entries) = (Used::default(), Entries::default());
    for change in changes {
        used.note(change);
        match apply_one(db, change, &mut entries) {
            Ok(()) => {}
            Err(Refused::Because(reason)) => {
                return Err(Fault::Contradiction { change: format!("{change:?}"), reason });
            }
            Err(Refused::Sqlite(error)) => {
                return Err(match contradiction(&error) {
                    Some(reason) => Fault::Contradiction { change: format!("{change:?}"), reason },
                    None => Fault::Sqlite(error),
                });
            }
        }
    }
    entries.finish(db)?;
    used.raise_next_ids(db)
}

pub(super) enum Refused {
    Because(&'static str),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A number as it is stored: bit for bit, because SQLite has no unsigned ones.
pub(super) fn number(value: u64) -> i64 {
    value as i64
}

pub(super) fn run(db: &Connection, sql: &str, values: impl Params) -> Result<(), Refused> {
    db.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Runs a statement that must change exactly one row.
fn run_one(db: &Connection, sql: &str, values: impl Params, otherwise: &'static str) -> Result<(), Refused> {
    match db.prepare_cached(sql)?.execute(values)? {
        1 => Ok(()),
        _ => Err(Refused::Because(otherwise)),
    }
}

fn apply_one(db: &Connection, change: &Change, entries: &mut Entries) -> Result<(), Refused> {
    match change {
        Change::KeyCreated(key) => run(
            db,
            "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id(key.id.0)?,
                key.name,
                key.account.as_str(),
                key.role.name(),
                key.secret_hash.0,
                number(key.created.0),
                key.revoked.map(|at| number(at.0)),
            ],
        ),
        Change::KeyRevoked(key, at) => run_one(
            db,
            "UPDATE keys SET revoked = ?2 WHERE id = ?1",
            [id(key.0)?, number(at.0)],
            "no key of this id exists",
        ),
        Change::TicketIssued(ticket) => run(
            db,
            "INSERT INTO tickets VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)",
            params![
                id(ticket.id.0)?,
                ticket.account.as_str(),
                ticket.secret_hash.0,
                number(ticket.expires.0),
                ticket.uses_max,
                ticket.uses,
            ],
        ),
        Change::TicketRevoked(ticket, at) => run_one(
            db,
            "UPDATE tickets SET revoked = ?2 WHERE id = ?1",
            [id(ticket.0)?, number(at.0)],
            "no ticket of this id exists",
        ),
        Change::DeviceEnrolled(device, ticket) => run(
            db,
            "INSERT INTO enrolments VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                device.id.0,
                device.public_key,
                device.owner.as_str(),
                device.name,
                number(device.enrolled.0),
                id(ticket.0)?,
            ],
        ),
        Change::WorkloadAdded(manifest) => run(
            db,
            "INSERT INTO workloads VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![manifest.digest().0, manifest.name, rows::encode_manifest(manifest)],
        ),
        Change::ModelAdded(model) => run(
            db,
            "INSERT OR REPLACE INTO models VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                model.name,
                model.workload.0,
                model.endpoint.name(),
                model.dimensions,
                model.tokens_max,
                model.source,
                number(model.added.0),
            ],
        ),
        Change::ModelRemoved(name) => run(db, "DELETE FROM models WHERE name = ?1", [name]),
        Change::FileCreated(file) => run(
            db,
            "INSERT INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id(file.id.0)?,
                file.owner.as_str(),
                file.filename,
                file.purpose.name(),
                file.digest.0,
                number(file.size.0),
                number(file.created.0),
            ],
        ),
        Change::FileDeleted(file, _) => run(db, "DELETE FROM files WHERE id = ?1", [id(file.0)?]),
        Change::JobSubmitted(job, spec, at) => job_submitted(db, *job, spec, *at),
        Change::JobPrepared(job, prepared, at) => {
            run_one(
                db,
                "UPDATE jobs SET prepared = ?2, blob = ?3 WHERE id = ?1 AND ended IS NULL AND prepared IS NULL",
                params![id(job.0)?, number(at.0), prepared.blob.0],
                "no job of this id is open and unprepared",
            )?;
            let prepared = rows::encode_prepared(prepared);
            run(db, "INSERT INTO inputs VALUES (?1, ?2)", params![id(job.0)?, prepared])
        }
        Change::TaskSettled(task, settled) => task_settled(db, *task, settled),
        Change::AttemptFailed(task, attempt) => attempt_failed(db, *task, attempt),
        Change::TaskGivenUp(task, at) => {
            run(db, "INSERT INTO given_up VALUES (?1, ?2, ?3)", params![id(task.job.0)?, task.index.0, number(at.0)])
        }
        Change::AuditSecret { period, secret, since } => {
            run(db, "INSERT INTO audit_secrets VALUES (?1, ?2, ?3)", params![id(*period)?, secret.0, number(since.0)])
        }
        Change::Checked(task, event) => run(
            db,
            "INSERT INTO checks VALUES (NULL, ?1, ?2, ?3)",
            params![id(task.job.0)?, task.index.0, rows::encode_check(event)],
        ),
        Change::StandingChanged(device, workload, standing) => run(
            db,
            "INSERT OR REPLACE INTO standings VALUES (?1, ?2, ?3, ?4)",
            params![device.0, workload.0, number(standing.drawn), number(standing.survived)],
        ),
        Change::DeviceConvicted(conviction) => device_convicted(db, conviction),
        Change::TaskVoided(task, reason, at) => task_voided(db, *task, *reason, *at),
        Change::JobEnding(job, ending, at) => run_one(
            db,
            "UPDATE jobs SET ending = ?2, ending_details = ?3, ending_since = ?4 WHERE id = ?1 AND ended IS NULL",
            params![id(job.0)?, ending_name(ending), rows::encode_ending(ending), number(at.0)],
            "no job of this id is open",
        ),
        Change::JobEnded(job, end) => job_ended(db, *job, end),
        Change::Attended(device, _, Millis(0)) => run(db, "DELETE FROM attendance WHERE device = ?1", [device.0]),
        Change::Attended(device, day, attended) => {
            run(db, "INSERT OR REPLACE INTO attendance VALUES (?1, ?2, ?3)", params![device.0, day, number(attended.0)])
        }
        Change::PayoutPreferred(account, preference) => payout_preferred(db, account, preference),
        Change::PayoutPrepared(draft) => payout_prepared(db, draft),
        Change::PayoutApproved(payout, envelope) => run_one(
            db,
            "UPDATE payouts SET approval = ?2 WHERE run = ?1 AND sent IS NULL",
            params![id(payout.0)?, envelope],
            "no payout run of this number waits to be sent",
        ),
        Change::Logged(event) => entries.append(db, event),
        Change::Carried(_) => Err(Refused::Because("it is what a store loads, not what is committed")),
    }
}

fn payout_preferred(db: &Connection, account: &Account, preference: &PayoutPreference) -> Result<(), Refused> {
    let payee = match preference {
        PayoutPreference::Direct(payee) => Some(payee),
        PayoutPreference::Credits | PayoutPreference::Priority | PayoutPreference::Discount => None,
    };
    run(
        db,
        "INSERT OR REPLACE INTO payout_preferences VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            account.as_str(),
            preference.as_str(),
            payee.map(|payee| payee.name.as_str()),
            payee.map(|payee| payee.iban.as_str()),
            payee.and_then(|payee| payee.bic.as_ref()).map(|bic| bic.as_str()),
        ],
    )
}

/// In place of the same run's files that were not sent.
fn payout_prepared(db: &Connection, draft: &PayoutDraft) -> Result<(), Refused> {
    let PayoutDraft { sent, pain001, csv, approval } = draft;
    run(db, "DELETE FROM payouts WHERE run = ?1 AND sent IS NULL", [id(sent.run.0)?])?;
    run(
        db,
        "INSERT INTO payouts VALUES (?1, ?2, ?3, ?4, ?5, NULL)",
        params![id(sent.run.0)?, Logged::PayoutSent(sent.clone()).to_canonical(), pain001, csv, approval],
    )
}

fn device_convicted(db: &Connection, conviction: &Conviction) -> Result<(), Refused> {
    let Conviction { device, workload, audit, item, as_auditor, at } = conviction;
    run(db, "DELETE FROM standings WHERE device = ?1", [device.0])?;
    run(
        db,
        "INSERT OR REPLACE INTO convictions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            device.0,
            workload.0,
            id(audit.job.0)?,
            audit.index.0,
            item.task.0,
            item.item,
            as_auditor,
            number(at.0)
        ],
    )
}

/// Keeps the row, but not among those that count, and forgets how far its checks were.
fn task_voided(db: &Connection, task: TaskId, reason: VoidReason, at: Timestamp) -> Result<(), Refused> {
    let (job, index) = (id(task.job.0)?, task.index.0);
    run_one(
        db,
        "INSERT INTO voided SELECT NULL, job, task, device, root, result, size, items, items_failed, records_failed,
             fuel, cpu_ms, wall_ms, jail, at, ?3, ?4 FROM settled WHERE job = ?1 AND task = ?2",
        params![job, index, reason.name(), number(at.0)],
        "the task is not settled",
    )?;
    run(db, "DELETE FROM settled WHERE job = ?1 AND task = ?2", params![job, index])?;
    run(db, "DELETE FROM checks WHERE job = ?1 AND task = ?2", params![job, index])
}

fn job_submitted(db: &Connection, job: JobId, spec: &JobSpec, at: Timestamp) -> Result<(), Refused> {
    run(
        db,
        "INSERT INTO jobs (id, owner, name, kind, kind_details, workload, input, records_per_task, deadline, submitted,
             verification, verification_number, max_price)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            id(job.0)?,
            spec.owner.as_str(),
            spec.name,
            job_kind_name(&spec.kind),
            rows::encode_job_kind(&spec.kind),
            spec.workload.0,
            spec.input.map(|file| number(file.0)),
            spec.records_per_task,
            number(spec.deadline.0),
            number(at.0),
            verification_name(spec.verification),
            verification_number(spec.verification),
            spec.max_price.map(|price| price.0),
        ],
    )
}

fn task_settled(db: &Connection, task: TaskId, settled: &Settled) -> Result<(), Refused> {
    let report = &settled.report;
    run(
        db,
        "INSERT INTO settled VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            id(task.job.0)?,
            task.index.0,
            settled.device.0,
            report.root.0,
            report.result.0,
            number(report.size.0),
            report.items,
            report.items_failed,
            report.records_failed,
            number(report.fuel.0),
            number(report.cpu.0),
            number(report.wall.0),
            number(settled.at.0),
            report.jail.0,
        ],
    )
}

fn attempt_failed(db: &Connection, task: TaskId, attempt: &Attempt) -> Result<(), Refused> {
    run(
        db,
        "INSERT INTO attempts VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            id(task.job.0)?,
            task.index.0,
            attempt.lease.0,
            attempt.device.0,
            attempt.failure.kind.name(),
            attempt.failure.detail,
            number(attempt.at.0),
        ],
    )
}

fn job_ended(db: &Connection, job: JobId, end: &JobEnd) -> Result<(), Refused> {
    let JobEnd { ending, at, output, errors, totals } = end;
    let Totals { records, records_ok, records_failed, tasks, tasks_settled, tasks_given_up, .. } = *totals;
    run_one(
        db,
        "UPDATE jobs SET ending = ?2, ending_details = ?3, ending_since = coalesce(ending_since, ?4), ended = ?4,
             output = ?5, errors = ?6, records = ?7, records_ok = ?8, records_failed = ?9, tasks = ?10,
             tasks_settled = ?11, tasks_given_up = ?12, attempts_failed = ?13, devices = ?14, fuel = ?15, cpu_ms = ?16
         WHERE id = ?1 AND ended IS NULL",
        params![
            id(job.0)?,
            ending_name(ending),
            rows::encode_ending(ending),
            number(at.0),
            output.map(|file| number(file.0)),
            errors.map(|file| number(file.0)),
            number(records),
            number(records_ok),
            number(records_failed),
            tasks,
            tasks_settled,
            tasks_given_up,
            totals.attempts_failed,
            totals.devices,
            number(totals.fuel.0),
            number(totals.cpu.0),
        ],
        "no job of this id is open",
    )
}

/// An id as it is stored. Ids are ordered by, so that one beyond SQLite's numbers would be out of place.
pub(super) fn id(value: u64) -> Result<i64, Refused> {
    i64::try_from(value).map_err(|_| Refused::Because("its id is too large"))
}

/// The largest ids that a commit's changes use.
#[derive(Default)]
struct Used {
    key: u64,
    ticket: u64,
    file: u64,
    job: u64,
}

impl Used {
    fn note(&mut self, change: &Change) {
        match change {
            Change::KeyCreated(key) => self.key = self.key.max(key.id.0),
            Change::TicketIssued(ticket) => self.ticket = self.ticket.max(ticket.id.0),
            Change::FileCreated(file) => self.file = self.file.max(file.id.0),
            Change::JobSubmitted(job, ..) => self.job = self.job.max(job.0),
            _ => {}
        }
    }

    fn raise_next_ids(&self, db: &Connection) -> Result<(), Fault> {
        let next = NextIds { key: self.key + 1, ticket: self.ticket + 1, file: self.file + 1, job: self.job + 1 };
        if next == NextIds::default() {
            return Ok(());
        }
        db.prepare_cached(
            "UPDATE pool SET next_key = max(next_key, ?1), next_ticket = max(next_ticket, ?2),
                 next_file = max(next_file, ?3), next_job = max(next_job, ?4)",
        )?
        .execute([next.key, next.ticket, next.file, next.job].map(number))?;
        Ok(())
    }
}
