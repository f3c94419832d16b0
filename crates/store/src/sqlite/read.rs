//! Rows to changes and records.

use super::books;
use super::fault::{BadRow, Fault};
use super::write::number;
use crate::names::{Named, payout_preference_from, verification_from};
use crate::{JobQuery, Snapshot};
use caii_coordinator::{Attempt, Change, JobEnd, JobRecord, NextIds, Totals};
use caii_model::*;
use caii_verify::{Secret, Standing};
use caii_wire::rows;
use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row};

/// The changes that rebuild what is live, in the order of [`Snapshot`].
pub(super) fn snapshot(db: &Connection) -> Result<Snapshot, Fault> {
    let mut changes = Vec::new();
    catalog(db, &mut changes)?;
    let open = format!("SELECT {JOB} FROM jobs INDEXED BY jobs_open WHERE ended IS NULL ORDER BY id");
    let open = all(db, &open, [], job_record)?;
    let ids: Vec<JobId> = open.iter().map(|job| job.id).collect();
    changes.extend(books::carried(db, &ids)?.map(|carried| Change::Carried(Box::new(carried))));
    for job in open {
        replay(db, job, &mut changes)?;
    }
    let mut next = all(db, "SELECT next_key, next_ticket, next_file, next_job FROM pool", [], |columns| {
        let (key, ticket) = (columns.number()?, columns.number()?);
        Ok(NextIds { key, ticket, file: columns.number()?, job: columns.number()? })
    })?;
    let next = next.pop().ok_or_else(|| bad("pool", "no row"))?;
    Ok(Snapshot { changes, next })
}

fn catalog(db: &Connection, changes: &mut Vec<Change>) -> Result<(), Fault> {
    let keys = "SELECT id, name, account, role, secret_hash, created, revoked FROM keys ORDER BY id";
    for (key, revoked) in all(db, keys, [], key)? {
        let id = key.id;
        changes.push(Change::KeyCreated(key));
        changes.extend(revoked.map(|at| Change::KeyRevoked(id, at)));
    }
    let tickets = "SELECT id, account, secret_hash, expires, uses_max, uses, revoked FROM tickets ORDER BY id";
    for (ticket, revoked) in all(db, tickets, [], ticket)? {
        let id = ticket.id;
        changes.push(Change::TicketIssued(ticket));
        changes.extend(revoked.map(|at| Change::TicketRevoked(id, at)));
    }
    let enrolments = "SELECT device, public_key, owner, name, enrolled, ticket FROM enrolments ORDER BY number";
    changes.extend(all(db, enrolments, [], enrolment)?);
    changes.extend(all(db, "SELECT digest, manifest FROM workloads ORDER BY digest", [], workload)?);
    let models = "SELECT name, workload, endpoint, dimensions, tokens_max, source, added FROM models ORDER BY name";
    changes.extend(all(db, models, [], model)?);
    let files = "SELECT id, owner, filename, purpose, digest, size, created FROM files ORDER BY id";
    changes.extend(all(db, files, [], file)?);
    let convictions =
        "SELECT device, workload, job, audit, item_task, item, as_auditor, at FROM convictions ORDER BY device";
    changes.extend(all(db, convictions, [], |columns| {
        Ok(Change::DeviceConvicted(Conviction {
            device: DeviceId(columns.next()?),
            workload: columns.digest()?,
            audit: TaskId { job: JobId(columns.number()?), index: TaskIndex(columns.next()?) },
            item: ItemId { task: TaskIndex(columns.next()?), item: columns.next()? },
            as_auditor: columns.next()?,
            at: columns.time()?,
        }))
    })?);
    let standings = "SELECT device, workload, drawn, survived FROM standings ORDER BY device, workload";
    changes.extend(all(db, standings, [], |columns| {
        let (device, workload) = (DeviceId(columns.next()?), columns.digest()?);
        let standing = Standing { drawn: columns.number()?, survived: columns.number()? };
        Ok(Change::StandingChanged(device, workload, standing))
    })?);
    let secrets = "SELECT period, secret, since FROM audit_secrets ORDER BY period DESC LIMIT 1";
    changes.extend(all(db, secrets, [], |columns| {
        let (period, secret) = (columns.number()?, Secret(columns.next()?));
        Ok(Change::AuditSecret { period, secret, since: columns.time()? })
    })?);
    let preferences = "SELECT account, preference, name, iban, bic FROM payout_preferences ORDER BY account";
    changes.extend(all(db, preferences, [], |columns| {
        let (account, preference) = (columns.account()?, columns.next::<String>()?);
        let payee = (columns.next()?, columns.next()?, columns.next()?);
        let preference = payout_preference_from(&preference, payee);
        let preference = preference.ok_or_else(|| bad("preference", format!("what {account} cannot prefer")))?;
        Ok(Change::PayoutPreferred(account, preference))
    })?);
    let drafts = books::payouts(db, "sent IS NULL ORDER BY run")?;
    changes.extend(drafts.into_iter().map(|draft| Change::PayoutPrepared(Box::new(draft))));
    let attendance = "SELECT device, day, attended_ms FROM attendance ORDER BY device";
    changes.extend(all(db, attendance, [], |columns| {
        Ok(Change::Attended(DeviceId(columns.next()?), columns.next()?, Millis(columns.number()?)))
    })?);
    Ok(())
}

fn replay(db: &Connection, job: JobRecord, changes: &mut Vec<Change>) -> Result<(), Fault> {
    let id = job.id;
    let task = |index| TaskId { job: id, index };
    changes.push(Change::JobSubmitted(id, job.spec, job.submitted));
    if let Some(at) = job.prepared {
        let mut inputs = all(db, "SELECT prepared FROM inputs WHERE job = ?1", [number(id.0)], |columns| {
            let encoded: Vec<u8> = columns.next()?;
            rows::decode_prepared(&encoded).map_err(|error| bad("prepared", error))
        })?;
        let prepared = inputs.pop().ok_or_else(|| bad("inputs.job", format!("no row for {id}")))?;
        changes.push(Change::JobPrepared(id, prepared, at));
        changes.extend(settled(db, id)?.into_iter().map(|(index, settled)| Change::TaskSettled(task(index), settled)));
        let checks = "SELECT task, event FROM checks WHERE job = ?1 ORDER BY number";
        changes.extend(all(db, checks, [number(id.0)], |columns| {
            let (index, event): (u32, Vec<u8>) = (columns.next()?, columns.next()?);
            let event = rows::decode_check(&event).map_err(|error| bad("event", error))?;
            Ok(Change::Checked(task(TaskIndex(index)), event))
        })?);
        let attempts = attempts(db, id, usize::MAX)?;
        changes.extend(attempts.into_iter().map(|(index, attempt)| Change::AttemptFailed(task(index), attempt)));
        let given_up = "SELECT task, at FROM given_up WHERE job = ?1 ORDER BY task";
        changes.extend(all(db, given_up, [number(id.0)], |columns| {
            Ok(Change::TaskGivenUp(task(TaskIndex(columns.next()?)), columns.time()?))
        })?);
    }
    changes.extend(job.ending.map(|(ending, at)| Change::JobEnding(id, ending, at)));
    Ok(())
}

pub(super) fn job(db: &Connection, id: JobId) -> Result<Option<JobRecord>, Fault> {
    let sql = format!("SELECT {JOB} FROM jobs WHERE id = ?1");
    Ok(all(db, &sql, [number(id.0)], job_record)?.pop())
}

pub(super) fn jobs(db: &Connection, query: &JobQuery) -> Result<Vec<JobRecord>, Fault> {
    // The index is named because the planner, which does not know how many requests are synchronous, would rather read
    // them all.
    let (index, owner) = match query.owner {
        Some(_) => ("jobs_listed_by_owner", "owner = ?3"),
        // The same parameters in either case.
        None => ("jobs_listed", "?3 IS NULL"),
    };
    let mut sql = format!("SELECT {JOB} FROM jobs INDEXED BY {index} WHERE kind <> 'sync' AND id < ?1 AND {owner}");
    if query.batches_only {
        sql.push_str(" AND kind = 'batch'");
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?2");
    let before = query.before.map_or(i64::MAX, |id| i64::try_from(id.0).unwrap_or(i64::MAX));
    let limit = query.limit.min(JobQuery::LIMIT_MAX) as i64;
    all(db, &sql, (before, limit, query.owner.as_ref().map(Account::as_str)), job_record)
}

pub(super) fn attempts(db: &Connection, job: JobId, limit: usize) -> Result<Vec<(TaskIndex, Attempt)>, Fault> {
    let sql = "SELECT task, lease, device, kind, detail, at FROM attempts WHERE job = ?1 ORDER BY number LIMIT ?2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    all(db, sql, [number(job.0), limit], |columns| {
        let (task, lease, device) = (TaskIndex(columns.next()?), LeaseId(columns.next()?), DeviceId(columns.next()?));
        let failure = AttemptFailure { kind: columns.named()?, detail: columns.next()? };
        Ok((task, Attempt { lease, device, failure, at: columns.time()? }))
    })
}

pub(super) fn settled(db: &Connection, job: JobId) -> Result<Vec<(TaskIndex, Settled)>, Fault> {
    let sql =
        "SELECT task, device, root, result, size, items, items_failed, records_failed, fuel, cpu_ms, wall_ms, jail, at
               FROM settled WHERE job = ?1 ORDER BY task";
    all(db, sql, [number(job.0)], |columns| {
        let (task, device) = (TaskIndex(columns.next()?), DeviceId(columns.next()?));
        let report = TaskReport {
            root: columns.digest()?,
            result: columns.digest()?,
            size: Bytes(columns.number()?),
            items: columns.next()?,
            items_failed: columns.next()?,
            records_failed: columns.next()?,
            fuel: Fuel(columns.number()?),
            cpu: Millis(columns.number()?),
            wall: Millis(columns.number()?),
            jail: JailLayers(columns.next()?),
        };
        Ok((task, Settled { device, report, at: columns.time()? }))
    })
}

fn key(columns: &mut Columns<'_>) -> Result<(Key, Option<Timestamp>), Fault> {
    let key = Key {
        id: KeyId(columns.number()?),
        name: columns.next()?,
        account: columns.account()?,
        role: columns.named()?,
        secret_hash: columns.digest()?,
        created: columns.time()?,
        revoked: None,
    };
    Ok((key, columns.optional_number()?.map(Timestamp)))
}

fn ticket(columns: &mut Columns<'_>) -> Result<(Ticket, Option<Timestamp>), Fault> {
    let ticket = Ticket {
        id: TicketId(columns.number()?),
        account: columns.account()?,
        secret_hash: columns.digest()?,
        expires: columns.time()?,
        uses_max: columns.next()?,
        uses: columns.next()?,
    };
    Ok((ticket, columns.optional_number()?.map(Timestamp)))
}

fn enrolment(columns: &mut Columns<'_>) -> Result<Change, Fault> {
    let device = Device {
        id: DeviceId(columns.next()?),
        public_key: columns.next()?,
        owner: columns.account()?,
        name: columns.next()?,
        enrolled: columns.time()?,
    };
    Ok(Change::DeviceEnrolled(device, TicketId(columns.number()?)))
}

fn workload(columns: &mut Columns<'_>) -> Result<Change, Fault> {
    let digest = columns.digest()?;
    let encoded: Vec<u8> = columns.next()?;
    let manifest = rows::decode_manifest(&encoded).map_err(|error| bad("manifest", error))?;
    if manifest.digest() != digest {
        return Err(bad("manifest", format!("a manifest of another digest than {digest}")));
    }
    Ok(Change::WorkloadAdded(manifest))
}

fn model(columns: &mut Columns<'_>) -> Result<Change, Fault> {
    Ok(Change::ModelAdded(Model {
        name: columns.next()?,
        workload: columns.digest()?,
        endpoint: columns.named()?,
        dimensions: columns.next()?,
        tokens_max: columns.next()?,
        source: columns.next()?,
        added: columns.time()?,
    }))
}

fn file(columns: &mut Columns<'_>) -> Result<Change, Fault> {
    Ok(Change::FileCreated(FileMeta {
        id: FileId(columns.number()?),
        owner: columns.account()?,
        filename: columns.next()?,
        purpose: columns.named()?,
        digest: columns.digest()?,
        size: Bytes(columns.number()?),
        created: columns.time()?,
    }))
}

/// The columns of [`job_record`].
const JOB: &str = "id, owner, name, kind_details, workload, input, records_per_task, deadline, verification, \
                   verification_number, max_price, submitted, prepared, \
                   blob, ending_details, ending_since, ended, output, errors, records, records_ok, records_failed, \
                   tasks, tasks_settled, tasks_given_up, attempts_failed, devices, fuel, cpu_ms";

fn job_record(columns: &mut Columns<'_>) -> Result<JobRecord, Fault> {
    let id = JobId(columns.number()?);
    let (owner, name) = (columns.account()?, columns.next()?);
    let kind: Vec<u8> = columns.next()?;
    let spec = JobSpec {
        owner,
        name,
        kind: rows::decode_job_kind(&kind).map_err(|error| bad("kind_details", error))?,
        workload: columns.digest()?,
        input: columns.optional_number()?.map(FileId),
        records_per_task: columns.next()?,
        deadline: columns.time()?,
        verification: columns.verification()?,
        max_price: columns.next::<Option<i64>>()?.map(MicroCredits),
    };
    let (submitted, prepared) = (columns.time()?, columns.optional_number()?.map(Timestamp));
    let blob: Option<[u8; 32]> = columns.next()?;
    let ending: Option<Vec<u8>> = columns.next()?;
    let ending = match (ending, columns.optional_number()?) {
        (Some(ending), Some(at)) => {
            Some((rows::decode_ending(&ending).map_err(|error| bad("ending_details", error))?, Timestamp(at)))
        }
        (None, None) => None,
        _ => return Err(bad("ending_since", "a time without an ending, or none with one")),
    };
    let end = match columns.optional_number()? {
        None => None,
        Some(at) => {
            let (ending, _) = ending.clone().ok_or_else(|| bad("ended", "a time without an ending"))?;
            Some(job_end(ending, Timestamp(at), columns)?)
        }
    };
    Ok(JobRecord { id, spec, submitted, prepared, blob: blob.map(Digest), ending, end })
}

fn job_end(ending: Ending, at: Timestamp, columns: &mut Columns<'_>) -> Result<JobEnd, Fault> {
    let (output, errors) = (columns.optional_number()?.map(FileId), columns.optional_number()?.map(FileId));
    let totals = Totals {
        records: columns.number()?,
        records_ok: columns.number()?,
        records_failed: columns.number()?,
        tasks: columns.next()?,
        tasks_settled: columns.next()?,
        tasks_given_up: columns.next()?,
        attempts_failed: columns.next()?,
        devices: columns.next()?,
        fuel: Fuel(columns.number()?),
        cpu: Millis(columns.number()?),
    };
    Ok(JobEnd { ending, at, output, errors, totals })
}

pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    values: impl Params,
    mut read: impl FnMut(&mut Columns<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(values)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(&mut Columns { row, place: 0 })?);
    }
    Ok(all)
}

/// A row's columns, one after the other.
pub(super) struct Columns<'r> {
    row: &'r Row<'r>,
    place: usize,
}

impl Columns<'_> {
    pub(super) fn next<T: FromSql>(&mut self) -> Result<T, Fault> {
        self.place += 1;
        Ok(self.row.get(self.place - 1)?)
    }

    pub(super) fn number(&mut self) -> Result<u64, Fault> {
        Ok(self.next::<i64>()? as u64)
    }

    fn optional_number(&mut self) -> Result<Option<u64>, Fault> {
        Ok(self.next::<Option<i64>>()?.map(|value| value as u64))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, Fault> {
        self.number().map(Timestamp)
    }

    fn digest(&mut self) -> Result<Digest, Fault> {
        self.next().map(Digest)
    }

    pub(super) fn account(&mut self) -> Result<Account, Fault> {
        let name: String = self.next()?;
        Account::new(&name).ok_or_else(|| self.bad(&name, "account"))
    }

    /// A word and its number.
    fn verification(&mut self) -> Result<Verification, Fault> {
        let (name, number): (String, u32) = (self.next()?, self.next()?);
        verification_from(&name, number).ok_or_else(|| self.bad(&format!("{name} {number}"), "verification"))
    }

    fn named<T: Named>(&mut self) -> Result<T, Fault> {
        let name: String = self.next()?;
        T::from_name(&name).ok_or_else(|| self.bad(&name, "word"))
    }

    /// The complaint that the column just read holds no such thing.
    fn bad(&self, value: &str, what: &str) -> Fault {
        let column = self.row.as_ref().column_name(self.place - 1).unwrap_or("?");
        bad(column, format!("`{value}`, which is no {what} that this program knows"))
    }
}

pub(super) fn bad(column: &str, problem: impl std::fmt::Display) -> Fault {
    BadRow { column: column.to_owned(), problem: problem.to_string() }.into()
}
