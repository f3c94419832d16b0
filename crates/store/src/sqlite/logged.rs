//! Entries of the pool's log to rows, and what follows from them: postings, balances, devices' accounts.

use super::fault::Fault;
use super::write::{Refused, id, number, run};
use crate::names::ledger_account_name;
use caii_audit::{Event, Logged};
use caii_coordinator::DeviceAccount;
use caii_ledger::{Entry, LedgerAccount, Purpose, TransferKind};
use caii_model::{DeviceId, MicroCredits, Receipt, Timestamp, Verdict};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// What a commit's entries come to. Accounts and devices are read once and written once, however many entries move them.
#[derive(Default)]
pub(super) struct Entries {
    ends: Option<Ends>,
    accounts: BTreeMap<LedgerAccount, Balance>,
    devices: BTreeMap<DeviceId, DeviceAccount>,
}

/// Where log and postings end.
struct Ends {
    next: u64,
    last: Timestamp,
    posting: u64,
}

struct Balance {
    number: i64,
    amount: MicroCredits,
    changed: bool,
}

impl Entries {
    /// Appends an entry to the log.
    pub(super) fn append(&mut self, db: &Connection, event: &Event) -> Result<(), Refused> {
        let Event { logged, attachment } = event;
        let (entry, at) = self.next(db, logged.at())?;
        let (mut device, mut sequence, mut owner, mut job) = (None, None, None, None);
        match logged {
            Logged::Receipt(receipt) => {
                let claim = &receipt.claim;
                (device, sequence) = (Some(claim.device.0), Some(id(claim.sequence)?));
                owner = Some(self.account(db, &LedgerAccount::Member(receipt.owner.clone()))?.number);
                job = Some(id(claim.task.job.0)?);
                self.receipt(db, receipt)?;
            }
            Logged::ClaimVoided { claim, .. } => {
                (device, sequence) = (Some(claim.device.0), Some(id(claim.sequence)?));
            }
            Logged::Entry(posted) => {
                job = posted.purpose.job().map(|job| id(job.0)).transpose()?;
                self.post(db, entry, posted)?;
            }
            Logged::PoolOpened(_)
            | Logged::TariffEnacted { .. }
            | Logged::DeviceEnrolled { .. }
            | Logged::WorkloadCertified { .. }
            | Logged::SecretCommitted { .. }
            | Logged::SecretRevealed { .. }
            | Logged::AuditDrawn(_)
            | Logged::AuditDrawnMore(_)
            | Logged::AuditOutcome(_)
            | Logged::DeviceConvicted(_) => {}
            Logged::PayoutSent(sent) => {
                let sql = "UPDATE payouts SET sent = ?2 WHERE run = ?1";
                run(db, sql, params![id(sent.run.0)?, id(entry)?])?;
            }
        }
        run(
            db,
            "INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                id(entry)?,
                logged.kind().code(),
                number(at.0),
                logged.to_canonical(),
                (!attachment.is_empty()).then_some(attachment),
                device,
                sequence,
                owner,
                job,
            ],
        )
    }

    /// Writes down what accounts and devices have now.
    pub(super) fn finish(self, db: &Connection) -> Result<(), Fault> {
        let mut balances = db.prepare_cached("UPDATE ledger_accounts SET balance = ?2 WHERE number = ?1")?;
        for balance in self.accounts.values().filter(|balance| balance.changed) {
            balances.execute((balance.number, balance.amount.0))?;
        }
        let mut devices = db.prepare_cached("INSERT OR REPLACE INTO device_accounts VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for (device, DeviceAccount { decided, accepted, held, releases }) in &self.devices {
            devices.execute((device.0, number(*decided), number(*accepted), held.0, number(*releases)))?;
        }
        Ok(())
    }

    fn ends(&mut self, db: &Connection) -> Result<&mut Ends, Refused> {
        if self.ends.is_none() {
            let mut last = db.prepare_cached("SELECT number, at FROM log ORDER BY number DESC LIMIT 1")?;
            let last = last.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
            let (next, last) = last.map_or((0, 0), |(entry, at)| (entry as u64 + 1, at as u64));
            let mut posting = db.prepare_cached("SELECT max(number) FROM postings")?;
            let posting: Option<i64> = posting.query_row([], |row| row.get(0))?;
            let posting = posting.map_or(0, |posting| posting as u64 + 1);
            self.ends = Some(Ends { next, last: Timestamp(last), posting });
        }
        Ok(self.ends.as_mut().expect("it was set above"))
    }

    /// The number of the next entry, which happened then.
    fn next(&mut self, db: &Connection, at: Timestamp) -> Result<(u64, Timestamp), Refused> {
        let ends = self.ends(db)?;
        if at < ends.last {
            return Err(Refused::Because("it happened before the last entry of the log"));
        }
        ends.last = at;
        ends.next += 1;
        Ok((ends.next - 1, at))
    }

    fn receipt(&mut self, db: &Connection, receipt: &Receipt) -> Result<(), Refused> {
        let account = self.device(db, receipt.claim.device)?;
        account.decided = receipt.claim.sequence;
        if matches!(receipt.verdict, Verdict::Accepted(_)) {
            account.accepted += 1;
        }
        Ok(())
    }

    fn post(&mut self, db: &Connection, entry: u64, posted: &Entry) -> Result<(), Refused> {
        let large = || Refused::Because("a balance would be too large to be counted");
        let mut held = MicroCredits::ZERO;
        for transfer in posted.transfers() {
            let posting = &transfer.posting;
            let debit = self.account(db, &posting.debit)?;
            debit.amount = debit.amount.checked_sub(posting.amount).ok_or_else(large)?;
            debit.changed = true;
            let debit = debit.number;
            let credit = self.account(db, &posting.credit)?;
            credit.amount = credit.amount.checked_add(posting.amount).ok_or_else(large)?;
            credit.changed = true;
            let credit = credit.number;
            if matches!(posting.kind, TransferKind::Holdback | TransferKind::AuditHoldback) {
                held = held.checked_add(posting.amount).ok_or_else(large)?;
            }
            let ends = self.ends(db)?;
            let place = ends.posting;
            ends.posting += 1;
            run(
                db,
                "INSERT INTO postings VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id(place)?, transfer.id().0, id(entry)?, debit, credit, posting.amount.0, posting.kind.code()],
            )?;
        }
        match &posted.purpose {
            Purpose::TaskAccepted(_, device) => {
                let account = self.device(db, *device)?;
                account.held = account.held.checked_add(held).ok_or_else(large)?;
            }
            Purpose::HoldbackReleased(device, releases) => {
                let account = self.device(db, *device)?;
                (account.held, account.releases) = (MicroCredits::ZERO, *releases);
            }
            Purpose::DeviceForfeited(device, _) => {
                self.device(db, *device)?.held = MicroCredits::ZERO;
            }
            Purpose::PayoutRequested(account, requests) => {
                let sql = "INSERT OR REPLACE INTO payout_requests VALUES (?1, ?2)";
                run(db, sql, params![account.as_str(), id(*requests)?])?;
            }
            Purpose::PayoutSettled(payout, account) => {
                let sql = "INSERT INTO payouts_settled VALUES (?1, ?2, ?3)";
                run(db, sql, params![id(entry)?, id(payout.0)?, account.as_str()])?;
            }
            Purpose::Granted(_)
            | Purpose::PaymentRecorded(_)
            | Purpose::JobReserved(_)
            | Purpose::JobReturned(_)
            | Purpose::TaskVoided(..)
            | Purpose::AvailabilityPaid(..) => {}
        }
        Ok(())
    }

    fn device(&mut self, db: &Connection, device: DeviceId) -> Result<&mut DeviceAccount, Refused> {
        match self.devices.entry(device) {
            Slot::Occupied(known) => Ok(known.into_mut()),
            Slot::Vacant(place) => {
                let sql = "SELECT decided, accepted, held, releases FROM device_accounts WHERE device = ?1";
                let account = db.prepare_cached(sql)?.query_row([device.0], |row| {
                    let number = |place| row.get::<_, i64>(place).map(|number| number as u64);
                    let (decided, accepted, releases) = (number(0)?, number(1)?, number(3)?);
                    Ok(DeviceAccount { decided, accepted, held: MicroCredits(row.get(2)?), releases })
                });
                Ok(place.insert(account.optional()?.unwrap_or_default()))
            }
        }
    }

    /// An account of the ledger, made when it is new.
    fn account(&mut self, db: &Connection, account: &LedgerAccount) -> Result<&mut Balance, Refused> {
        if !self.accounts.contains_key(account) {
            let (kind, name) = ledger_account_name(account);
            let sql = "SELECT number, balance FROM ledger_accounts WHERE kind = ?1 AND name = ?2";
            let known = db.prepare_cached(sql)?.query_row((kind, &name), |row| Ok((row.get(0)?, row.get(1)?)));
            let known = known.optional()?;
            let (number, amount) = match known {
                Some((number, balance)) => (number, MicroCredits(balance)),
                None => {
                    let next = if is_somebodys(account) {
                        "SELECT coalesce(max(number), 0) + 1 FROM ledger_accounts WHERE number > 0"
                    } else {
                        "SELECT coalesce(min(number), 0) - 1 FROM ledger_accounts WHERE number < 0"
                    };
                    let number: i64 = db.prepare_cached(next)?.query_row([], |row| row.get(0))?;
                    run(db, "INSERT INTO ledger_accounts VALUES (?1, ?2, ?3, 0)", params![number, kind, name])?;
                    (number, MicroCredits::ZERO)
                }
            };
            self.accounts.insert(account.clone(), Balance { number, amount, changed: false });
        }
        Ok(self.accounts.get_mut(account).expect("it was put there above"))
    }
}

/// Whether an account of the ledger belongs to a member.
fn is_somebodys(account: &LedgerAccount) -> bool {
    match account {
        LedgerAccount::Member(_) | LedgerAccount::Held(_) | LedgerAccount::Payable(_) => true,
        LedgerAccount::Escrow(_) | LedgerAccount::Fees | LedgerAccount::Verification | LedgerAccount::Treasury => false,
    }
}
