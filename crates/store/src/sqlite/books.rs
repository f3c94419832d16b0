//! Rows of the log and of the ledger to what they stand for: what a coordinator starts from, and answers to questions.

use super::fault::Fault;
use super::read::{Columns, all, bad};
use super::write::number;
use crate::names::ledger_account_from;
use crate::{JobPrice, LoggedReceipt, Paid, ReceiptQuery, ReceiptsOf, STATEMENT_LIMIT_MAX, StatementLine, Voided};
use caii_audit::{ClaimRef, Event, Logged};
use caii_coordinator::{Carried, DeviceAccount, PayoutDraft};
use caii_ledger::{Entry, Ledger, LedgerAccount, PayoutRun, Purpose, TransferId};
use caii_model::*;
use rusqlite::{Connection, OptionalExtension, params};

/// The books as of now; nothing before the log was opened.
pub(super) fn carried(db: &Connection, open: &[JobId]) -> Result<Option<Carried>, Fault> {
    let last = "SELECT number, at FROM log ORDER BY number DESC LIMIT 1";
    let Some((last, at)) = all(db, last, [], |columns| Ok((columns.number()?, columns.time()?)))?.pop() else {
        return Ok(None);
    };
    let standing = "SELECT bytes FROM log INDEXED BY log_standing WHERE kind IN (1, 2, 4, 13) ORDER BY number";
    let revealed = "SELECT bytes FROM log INDEXED BY log_secrets WHERE kind = 8 ORDER BY number DESC LIMIT 1";
    let secret_revealed = match all(db, revealed, [], decoded)?.pop() {
        Some(Logged::SecretRevealed { period, .. }) => period,
        _ => 0,
    };
    let devices = "SELECT device, decided, accepted, held, releases FROM device_accounts ORDER BY device";
    let devices = all(db, devices, [], |columns| {
        let (device, decided, accepted) = (DeviceId(columns.next()?), columns.number()?, columns.number()?);
        let (held, releases) = (MicroCredits(columns.next()?), columns.number()?);
        Ok((device, DeviceAccount { decided, accepted, held, releases }))
    })?;
    let requests = "SELECT account, requests FROM payout_requests ORDER BY account";
    let settled = "SELECT run, account FROM payouts_settled ORDER BY entry";
    Ok(Some(Carried {
        size: last + 1,
        last: at,
        standing: all(db, standing, [], decoded)?,
        balances: balances(db)?,
        entries: entries(db, open)?,
        devices,
        receipts: open_claims(db, open)?,
        payout_requests: all(db, requests, [], |columns| Ok((columns.account()?, columns.number()?)))?,
        payouts_settled: all(db, settled, [], |columns| Ok((PayoutRun(columns.number()?), columns.account()?)))?,
        secret_revealed,
    }))
}

fn balances(db: &Connection) -> Result<Vec<(LedgerAccount, MicroCredits)>, Fault> {
    let sql = "SELECT kind, name, balance FROM ledger_accounts INDEXED BY ledger_balances WHERE balance <> 0";
    let mut balances = all(db, sql, [], |columns| {
        let (kind, name): (String, String) = (columns.next()?, columns.next()?);
        let account = ledger_account_from(&kind, &name);
        let account = account.ok_or_else(|| bad("name", format!("`{kind} {name}`, which is no account")))?;
        Ok((account, MicroCredits(columns.next()?)))
    })?;
    balances.sort();
    Ok(balances)
}

/// Those of open jobs, and the last of those that belong to no job.
fn entries(db: &Connection, open: &[JobId]) -> Result<Vec<Entry>, Fault> {
    let numbered = |columns: &mut Columns<'_>| Ok((columns.number()?, entry(decoded(columns)?)?));
    let of_job = "SELECT number, bytes FROM log INDEXED BY log_by_job WHERE job = ?1 AND kind = 6";
    let mut of_jobs = Vec::new();
    for job in open {
        of_jobs.extend(all(db, of_job, [number(job.0)], numbered)?);
    }
    of_jobs.sort_by_key(|(place, _)| *place);
    let others = "SELECT number, bytes FROM log INDEXED BY log_of_no_job WHERE kind = 6 AND job IS NULL
                  ORDER BY number DESC LIMIT ?1";
    let others = all(db, others, [Ledger::RECENT_MAX as i64], numbered)?;
    Ok(of_jobs.into_iter().chain(others.into_iter().rev()).map(|(_, entry)| entry).collect())
}

/// Accepted claims of open jobs that are not voided, by device and number.
fn open_claims(db: &Connection, open: &[JobId]) -> Result<Vec<Receipt>, Fault> {
    let of_job = "SELECT bytes FROM log AS receipt INDEXED BY log_by_job WHERE job = ?1 AND kind = 5 AND NOT EXISTS (
                      SELECT 1 FROM log AS void WHERE void.kind = 14 AND void.device = receipt.device
                          AND void.sequence = receipt.sequence)";
    let mut receipts = Vec::new();
    for job in open {
        receipts.extend(all(db, of_job, [number(job.0)], |columns| receipt_of(decoded(columns)?))?);
    }
    receipts.retain(|receipt| matches!(receipt.verdict, Verdict::Accepted(_)));
    receipts.sort_by_key(|receipt| (receipt.claim.device, receipt.claim.sequence));
    Ok(receipts)
}

pub(super) fn logged(db: &Connection, from: u64, limit: usize) -> Result<Vec<Event>, Fault> {
    let Ok(from) = i64::try_from(from) else { return Ok(vec![]) };
    let sql = "SELECT bytes, attachment FROM log WHERE number >= ?1 ORDER BY number LIMIT ?2";
    all(db, sql, (from, limit_of(limit)), |columns| {
        let logged = decoded(columns)?;
        let attachment: Option<Vec<u8>> = columns.next()?;
        Ok(Event { logged, attachment: attachment.unwrap_or_default() })
    })
}

/// Times never go back from one entry to the next, so halving finds the place.
pub(super) fn entry_at(db: &Connection, at: Timestamp) -> Result<u64, Fault> {
    let last: Option<i64> = db.prepare_cached("SELECT max(number) FROM log")?.query_row([], |row| row.get(0))?;
    let (mut low, mut high) = (0, last.map_or(0, |last| last + 1));
    let mut time = db.prepare_cached("SELECT at FROM log WHERE number = ?1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let happened: i64 = time.query_row([middle], |row| row.get(0))?;
        if (happened as u64) < at.0 { low = middle + 1 } else { high = middle }
    }
    Ok(low as u64)
}

pub(super) fn receipts(db: &Connection, query: &ReceiptQuery) -> Result<Vec<LoggedReceipt>, Fault> {
    let order = if query.newest_first { "DESC" } else { "ASC" };
    let (source, of): (&str, rusqlite::types::Value) = match &query.of {
        ReceiptsOf::Everybody => ("log WHERE ?4 IS NULL AND", rusqlite::types::Value::Null),
        ReceiptsOf::Owner(owner) => match member(db, owner)? {
            Some(owner) => ("log INDEXED BY log_by_owner WHERE owner = ?4 AND", owner.into()),
            None => return Ok(vec![]),
        },
        ReceiptsOf::Device(device) => ("log INDEXED BY log_receipts WHERE device = ?4 AND", device.0.to_vec().into()),
        ReceiptsOf::Job(job) => ("log INDEXED BY log_by_job WHERE job = ?4 AND", number(job.0).into()),
    };
    // A device's receipts are numbered in the order of the log.
    let by = if matches!(query.of, ReceiptsOf::Device(_)) { "sequence" } else { "number" };
    let sql = format!(
        "SELECT number, bytes FROM {source} kind = 5 AND number >= ?1 AND number < ?2 ORDER BY {by} {order} LIMIT ?3"
    );
    let clamp = |entry: u64| i64::try_from(entry).unwrap_or(i64::MAX);
    let limit = limit_of(query.limit.min(ReceiptQuery::LIMIT_MAX));
    let values = params![clamp(query.from), clamp(query.until), limit, of];
    let found = all(db, &sql, values, |columns| Ok((columns.number()?, receipt_of(decoded(columns)?)?)))?;
    found.into_iter().map(|(entry, receipt)| fate(db, entry, receipt)).collect()
}

pub(super) fn receipt(db: &Connection, device: DeviceId, sequence: u64) -> Result<Option<LoggedReceipt>, Fault> {
    let sql = "SELECT number, bytes FROM log INDEXED BY log_receipts WHERE kind = 5 AND device = ?1 AND sequence = ?2";
    let found = all(db, sql, params![device.0, number(sequence)], |columns| {
        Ok((columns.number()?, receipt_of(decoded(columns)?)?))
    })?;
    found.into_iter().next().map(|(entry, receipt)| fate(db, entry, receipt)).transpose()
}

/// What became of a receipt.
fn fate(db: &Connection, entry: u64, receipt: Receipt) -> Result<LoggedReceipt, Fault> {
    let claim = ClaimRef { device: receipt.claim.device, sequence: receipt.claim.sequence };
    let voided = voided(db, claim)?;
    let transfer = Purpose::TaskAccepted(receipt.claim.task, claim.device).transfer_id(0);
    let sql = "SELECT log.number, log.at FROM postings JOIN log ON log.number = postings.entry WHERE id = ?1";
    let paid =
        all(db, sql, [transfer.0], |columns| Ok(Paid { entry: columns.number()?, transfer, at: columns.time()? }))?;
    // A device can do a task again after its first result was voided; then the payment is of the second.
    let paid = paid.into_iter().next().filter(|_| voided.is_none() && matches!(receipt.verdict, Verdict::Accepted(_)));
    Ok(LoggedReceipt { entry, receipt, paid, voided })
}

fn voided(db: &Connection, claim: ClaimRef) -> Result<Option<Voided>, Fault> {
    let sql = "SELECT number, bytes FROM log INDEXED BY log_voided WHERE kind = 14 AND device = ?1 AND sequence = ?2";
    let voided = all(db, sql, params![claim.device.0, number(claim.sequence)], |columns| {
        match (columns.number()?, decoded(columns)?) {
            (entry, Logged::ClaimVoided { reason, at, .. }) => Ok(Voided { entry, reason, at }),
            _ => Err(bad("kind", "14 and another kind of entry")),
        }
    })?;
    Ok(voided.into_iter().next())
}

pub(super) fn receipts_of_workload(db: &Connection, workload: Digest, limit: usize) -> Result<Vec<Receipt>, Fault> {
    let jobs = "SELECT id FROM (SELECT id, workload FROM jobs ORDER BY id DESC LIMIT ?2) WHERE workload = ?1
                ORDER BY id DESC";
    let jobs = all(db, jobs, params![workload.0, crate::WORKLOAD_JOBS_MAX as i64], |columns| columns.number())?;
    let mut found: Vec<Receipt> = Vec::new();
    for job in jobs {
        // Void ones are few: a page that is longer by some is enough, and the next one goes on before it.
        let mut before = i64::MAX;
        loop {
            let left = limit - found.len();
            if left == 0 {
                return Ok(found);
            }
            let sql = "SELECT number, bytes FROM log INDEXED BY log_by_job WHERE job = ?1 AND kind = 5 AND number < ?2
                       ORDER BY number DESC LIMIT ?3";
            let page = all(db, sql, params![number(job), before, limit_of(left)], |columns| {
                Ok((columns.next::<i64>()?, receipt_of(decoded(columns)?)?))
            })?;
            let Some((last, _)) = page.last() else { break };
            before = *last;
            for (_, receipt) in page {
                let claim = ClaimRef { device: receipt.claim.device, sequence: receipt.claim.sequence };
                if matches!(receipt.verdict, Verdict::Accepted(_)) && voided(db, claim)?.is_none() {
                    found.push(receipt);
                }
            }
        }
    }
    Ok(found)
}

pub(super) fn statement(
    db: &Connection,
    account: &Account,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<StatementLine>, Fault> {
    let Some(member) = member(db, account)? else { return Ok(vec![]) };
    // Each half in the order of its index, so that no more is read than the page holds.
    let sql = "SELECT number, id, entry, (SELECT bytes FROM log WHERE log.number = entry) FROM (
                   SELECT * FROM (SELECT number, id, entry FROM postings INDEXED BY postings_by_debit
                       WHERE debit = ?1 AND debit > 0 AND number < ?2 ORDER BY number DESC LIMIT ?3)
                   UNION ALL
                   SELECT * FROM (SELECT number, id, entry FROM postings INDEXED BY postings_by_credit
                       WHERE credit = ?1 AND credit > 0 AND number < ?2 ORDER BY number DESC LIMIT ?3))
               ORDER BY number DESC LIMIT ?3";
    let before = before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
    all(db, sql, params![member, before, limit_of(limit.min(STATEMENT_LIMIT_MAX))], |columns| {
        let (number, id, place): (u64, [u8; 16], u64) = (columns.number()?, columns.next()?, columns.number()?);
        let mut transfers = entry(decoded(columns)?)?.transfers().collect::<Vec<_>>().into_iter();
        let transfer = transfers.find(|transfer| transfer.id() == TransferId(id));
        let transfer = transfer.ok_or_else(|| bad("id", "a transfer that its entry does not have"))?;
        Ok(StatementLine { number, entry: place, transfer })
    })
}

pub(super) fn job_price(db: &Connection, job: JobId) -> Result<JobPrice, Fault> {
    let amount = |purpose: Purpose| -> Result<MicroCredits, Fault> {
        let id = purpose.transfer_id(0);
        let found = all(db, "SELECT amount FROM postings WHERE id = ?1", [id.0], |columns| columns.next())?;
        Ok(MicroCredits(found.first().copied().unwrap_or(0)))
    };
    let (reserved, returned) = (amount(Purpose::JobReserved(job))?, amount(Purpose::JobReturned(job))?);
    let sql = "SELECT balance FROM ledger_accounts WHERE kind = 'escrow' AND name = ?1";
    let left = all(db, sql, [job.0.to_string()], |columns| columns.next())?;
    let left = MicroCredits(left.first().copied().unwrap_or(0));
    let charged = reserved.checked_sub(returned).and_then(|rest| rest.checked_sub(left));
    let charged = charged.ok_or_else(|| bad("balance", "more than was reserved for the job"))?;
    Ok(JobPrice { reserved, charged, returned })
}

pub(super) fn posted(db: &Connection, id: TransferId) -> Result<Option<(u64, Entry)>, Fault> {
    let sql = "SELECT log.number, log.bytes FROM postings JOIN log ON log.number = postings.entry WHERE id = ?1";
    let found = all(db, sql, [id.0], |columns| Ok((columns.number()?, entry(decoded(columns)?)?)))?;
    Ok(found.into_iter().next())
}

/// Payout runs; `which` is a condition on the table and an order.
pub(super) fn payouts(db: &Connection, which: &str) -> Result<Vec<PayoutDraft>, Fault> {
    let sql = format!("SELECT details, pain001, csv, approval FROM payouts WHERE {which}");
    all(db, &sql, [], |columns| {
        let Logged::PayoutSent(sent) = decoded(columns)? else {
            return Err(bad("details", "an entry of another kind than a payout run"));
        };
        Ok(PayoutDraft { sent, pain001: columns.next()?, csv: columns.next()?, approval: columns.next()? })
    })
}

/// The number of a member's account; nothing if it never had anything.
fn member(db: &Connection, account: &Account) -> Result<Option<i64>, Fault> {
    let sql = "SELECT number FROM ledger_accounts WHERE kind = 'member' AND name = ?1";
    Ok(db.prepare_cached(sql)?.query_row([account.as_str()], |row| row.get(0)).optional()?)
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn decoded(columns: &mut Columns<'_>) -> Result<Logged, Fault> {
    let bytes: Vec<u8> = columns.next()?;
    Logged::from_canonical(&bytes).map_err(|error| bad("bytes", format!("an entry that cannot be read: {error}")))
}

fn entry(logged: Logged) -> Result<Entry, Fault> {
    match logged {
        Logged::Entry(entry) => Ok(entry),
        other => Err(bad("kind", format!("6 and a {} entry", other.kind().as_str()))),
    }
}

fn receipt_of(logged: Logged) -> Result<Receipt, Fault> {
    match logged {
        Logged::Receipt(receipt) => Ok(*receipt),
        other => Err(bad("kind", format!("5 and a {} entry", other.kind().as_str()))),
    }
}
