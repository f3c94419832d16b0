//! What members prefer to do with what they earn, and payouts: files for the bank, who approved them, what the bank
//! answered. Bank details are kept and never logged; the log has the files' digests.

use crate::draft::Draft;
use crate::registry::field;
use crate::{Catalog, Change, Coordinator, Reply};
use caii_audit::{Logged, PayoutSent};
use caii_ledger::{LedgerAccount, PayoutRun, events};
use caii_model::*;
use caii_payout::{
    Approvers, Batch, BatchSpec, Currency, MinorUnits, Payable, Payee, Rate, SepaText, Statement, csv, pain001,
};
use caii_trust::Envelope;
use std::collections::{BTreeMap, BTreeSet};

/// What a member wants to become of what it earns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PayoutPreference {
    /// Credits stay, to be spent.
    #[default]
    Credits,
    /// They are paid to a bank account.
    Direct(Payee),
    /// As long as there are any, the member's jobs go before others of the same kind.
    Priority,
    /// They are settled against the member's bill by a credit note.
    Discount,
}

impl PayoutPreference {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Credits => "credits",
            Self::Direct(_) => "direct",
            Self::Priority => "priority",
            Self::Discount => "discount",
        }
    }
}

/// By what rules a pool pays out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutRules {
    /// Who pays, from which account.
    pub debtor: Payee,
    /// In which currency.
    pub currency: Currency,
    /// For how many micro-credits.
    pub rate: Rate,
    /// What payees read on their statement.
    pub remittance: SepaText,
    /// Who has to approve a run, and how many of them.
    pub approvers: Approvers,
}

/// A run that has not been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutDraft {
    /// What will be logged of it; its time is that of making it.
    pub sent: PayoutSent,
    /// The ISO 20022 file; empty for credit notes.
    pub pain001: Vec<u8>,
    /// The same payments as CSV.
    pub csv: Vec<u8>,
    /// What was signed so far: a DSSE envelope.
    pub approval: Option<Vec<u8>>,
}

impl PayoutDraft {
    /// What approving it says.
    pub fn statement(&self, pool: PoolId) -> Statement {
        let PayoutSent { run, currency, pain001, csv, payments, .. } = &self.sent;
        Statement {
            pool,
            run: *run,
            pain001: *pain001,
            csv: *csv,
            payments: payments.len(),
            currency: *currency,
            total: self.sent.total().unwrap_or_default(),
        }
    }
}

/// What the catalog keeps of payouts beside the books.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Payouts {
    /// Of members who said it.
    preferences: BTreeMap<Account, PayoutPreference>,
    draft: Option<Box<PayoutDraft>>,
}

impl Payouts {
    pub(crate) fn prefer(&mut self, account: &Account, preference: &PayoutPreference) {
        self.preferences.insert(account.clone(), preference.clone());
    }

    pub(crate) fn prepare(&mut self, draft: &PayoutDraft) {
        self.draft = Some(Box::new(draft.clone()));
    }

    pub(crate) fn approve(&mut self, run: PayoutRun, envelope: &[u8]) {
        let draft = self.draft.as_mut().filter(|draft| draft.sent.run == run);
        draft.expect("what is approved was prepared").approval = Some(envelope.to_vec());
    }

    /// A run that was sent is no draft any more.
    pub(crate) fn logged(&mut self, logged: &Logged) {
        if matches!(logged, Logged::PayoutSent(_)) {
            self.draft = None;
        }
    }
}

impl Catalog {
    /// What a member prefers.
    pub fn payout_preference(&self, account: &Account) -> PayoutPreference {
        self.payouts.preferences.get(account).cloned().unwrap_or_default()
    }

    /// The run that is not sent yet.
    pub fn payout_draft(&self) -> Option<&PayoutDraft> {
        self.payouts.draft.as_deref()
    }
}

impl Coordinator {
    /// Whether an account's jobs go before others of the same kind.
    pub(crate) fn goes_first(&self, account: &Account) -> bool {
        self.catalog.payouts.preferences.get(account) == Some(&PayoutPreference::Priority)
            && self.catalog.books.ledger.balance(&LedgerAccount::Member(account.clone())) > MicroCredits::ZERO
    }
}

impl Draft<'_> {
    pub(crate) fn payout_prefer(&mut self, account: Account, preference: PayoutPreference) {
        if self.catalog().payout_preference(&account) != preference {
            self.record(Change::PayoutPreferred(account, preference));
        }
        self.reply(Ok(Reply::Done));
    }

    /// Makes the files of the next run, in place of those that were not sent.
    pub(crate) fn payout_prepare(&mut self, execution: Timestamp, credit_notes: bool) {
        let answer = self.try_payout_prepare(execution, credit_notes);
        self.reply(answer.map(Reply::Payout));
    }

    fn try_payout_prepare(&mut self, execution: Timestamp, credit_notes: bool) -> Result<PayoutRun, Refusal> {
        let rules = self.payout_rules()?;
        let books = &self.catalog().books;
        let unsettled: BTreeSet<Account> = books.payouts.values().flat_map(|open| open.keys().cloned()).collect();
        let wanted = |preference: &PayoutPreference| match preference {
            PayoutPreference::Direct(payee) => (!credit_notes).then(|| Some(payee.clone())),
            PayoutPreference::Discount => credit_notes.then_some(None),
            PayoutPreference::Credits | PayoutPreference::Priority => None,
        };
        let members = self.catalog().payouts.preferences.iter();
        let members: Vec<(Account, Option<Payee>)> = members
            .filter(|(account, _)| !unsettled.contains(*account))
            .filter_map(|(account, preference)| wanted(preference).map(|payee| (account.clone(), payee)))
            .collect();
        // Nothing is asked for before it is known that there is something to pay.
        let due = |account: &Account| {
            let ledger = &self.catalog().books.ledger;
            let balance = ledger.balance(&LedgerAccount::Member(account.clone())).max(MicroCredits::ZERO);
            let payable = ledger.balance(&LedgerAccount::Payable(account.clone()));
            // What is too little for a cent stays to be spent.
            let (_, rest) = rules.rate.convert(balance.checked_add(payable)?)?;
            let asked = balance.checked_sub(rest).filter(|asked| *asked > MicroCredits::ZERO).unwrap_or_default();
            Some((asked, payable.checked_add(asked)?))
        };
        let due: Vec<(Account, Option<Payee>, MicroCredits, MicroCredits)> = members
            .into_iter()
            .filter_map(|(account, payee)| due(&account).map(|(asked, payable)| (account, payee, asked, payable)))
            .collect();
        let run = PayoutRun(self.catalog().books.payout_last + 1);
        let spec = BatchSpec {
            pool: self.coordinator().pool,
            run,
            debtor: rules.debtor.clone(),
            currency: rules.currency,
            rate: rules.rate,
            created: self.now(),
            execution,
            remittance: rules.remittance.clone(),
        };
        let files = if credit_notes { credit_notes_of(&spec, &due) } else { payments_of(spec, &due) }?;
        for (account, _, asked, _) in &due {
            let number = self.catalog().books.payout_requests.get(account).map_or(1, |number| number + 1);
            let entry = events::payout_requested(account, number, *asked, self.now());
            self.post(entry).map_err(|refusal| field("account", format!("{account}: {refusal}")))?;
        }
        let Files { pain001, csv, payments } = files;
        let sent = PayoutSent {
            run,
            currency: rules.currency,
            rate: rules.rate,
            pain001: Digest::of(&pain001),
            csv: Digest::of(&csv),
            payments,
            at: self.now(),
        };
        self.record(Change::PayoutPrepared(Box::new(PayoutDraft { sent, pain001, csv, approval: None })));
        Ok(run)
    }

    fn payout_rules(&self) -> Result<PayoutRules, Refusal> {
        let missing = "this pool has no rules for payouts; the operator adds `[payout]` to pool.toml";
        self.config().payout.clone().ok_or_else(|| field("payout", missing.into()))
    }

    fn payout_draft(&self, run: PayoutRun) -> Result<&PayoutDraft, Refusal> {
        let draft = self.catalog().payout_draft().filter(|draft| draft.sent.run == run);
        draft.ok_or_else(|| {
            field("run", format!("{run} is not one that waits to be sent; `caii payout list` shows all"))
        })
    }

    /// Takes signatures of approvers.
    pub(crate) fn payout_approve(&mut self, run: PayoutRun, envelope: &[u8]) {
        let answer = self.try_payout_approve(run, envelope);
        self.reply(answer.map(|()| Reply::Done));
    }

    fn try_payout_approve(&mut self, run: PayoutRun, envelope: &[u8]) -> Result<(), Refusal> {
        let rules = self.payout_rules()?;
        let draft = self.payout_draft(run)?;
        let wrong = |reason: String| field("envelope", reason);
        let signed = Envelope::from_json(envelope).map_err(|error| wrong(error.to_string()))?;
        let mut statement = draft.statement(self.coordinator().pool).envelope();
        if signed.payload_type != statement.payload_type || signed.payload != statement.payload {
            return Err(wrong("it approves other files than these: fetch the run's files again and sign those".into()));
        }
        let before = draft.approval.as_deref().and_then(|bytes| Envelope::from_json(bytes).ok());
        // Only what counts is kept, and each approver once.
        for signature in before.into_iter().chain([signed]).flat_map(|envelope| envelope.signatures) {
            let Some(key) = signature.key.filter(|key| !statement.signatures.iter().any(|s| s.key == Some(*key)))
            else {
                continue;
            };
            let mut alone = draft.statement(self.coordinator().pool).envelope();
            alone.add(key, signature.bytes.clone());
            if rules.approvers.who(&draft.statement(self.coordinator().pool), &alone).is_empty() {
                return Err(wrong("a signature in it is of nobody who approves payouts here, or does not hold".into()));
            }
            statement.add(key, signature.bytes);
        }
        self.record(Change::PayoutApproved(run, statement.to_json()));
        Ok(())
    }

    /// The files go to the bank.
    pub(crate) fn payout_send(&mut self, run: PayoutRun) {
        let answer = self.try_payout_send(run);
        self.reply(answer.map(|()| Reply::Done));
    }

    fn try_payout_send(&mut self, run: PayoutRun) -> Result<(), Refusal> {
        let rules = self.payout_rules()?;
        let draft = self.payout_draft(run)?;
        let statement = draft.statement(self.coordinator().pool);
        let envelope = match &draft.approval {
            Some(bytes) => Envelope::from_json(bytes).map_err(|error| field("run", error.to_string()))?,
            None => statement.envelope(),
        };
        let approved = rules.approvers.approved(&statement, &envelope);
        approved.map_err(|error| field("run", format!("{run} cannot be sent: {error}")))?;
        // Somebody may have got or lost something since: what is paid is what is payable now.
        let ledger = &self.catalog().books.ledger;
        let changed = draft.sent.payments.iter().find(|(account, amount)| {
            let payable = ledger.balance(&LedgerAccount::Payable(account.clone()));
            draft.sent.rate.convert(payable).map(|(due, _)| due) != Some(*amount)
        });
        if let Some((account, _)) = changed {
            return Err(field(
                "run",
                format!("what is payable to {account} has changed: `caii payout run` makes it anew"),
            ));
        }
        let sent = PayoutSent { at: self.now(), ..draft.sent.clone() };
        self.log(Logged::PayoutSent(sent));
        Ok(())
    }

    /// The bank answered.
    pub(crate) fn payout_settle(&mut self, run: PayoutRun, paid: &[Account], failed: &[Account]) {
        let answer = self.try_payout_settle(run, paid, failed);
        self.reply(answer.map(|()| Reply::Done));
    }

    fn try_payout_settle(&mut self, run: PayoutRun, paid: &[Account], failed: &[Account]) -> Result<(), Refusal> {
        let open = self.catalog().books.payouts.get(&run).cloned().unwrap_or_default();
        let both = paid.iter().find(|account| failed.contains(account));
        if let Some(account) = both {
            return Err(field("account", format!("{account} cannot be both paid and not paid")));
        }
        if let Some(account) = paid.iter().chain(failed).find(|account| !open.contains_key(*account)) {
            let reason =
                format!("{run} does not wait for an answer about {account}; `caii payout list` shows what it does");
            return Err(field("account", reason));
        }
        let at = self.now();
        for (account, amount) in &open {
            let event = match (paid.contains(account), failed.contains(account)) {
                (true, _) => events::payout_done,
                (_, true) => events::payout_failed,
                _ => continue,
            };
            self.post(event(run, account, *amount, at)).map_err(|refusal| field("account", refusal.to_string()))?;
        }
        Ok(())
    }
}

/// What a run's files hold.
struct Files {
    pain001: Vec<u8>,
    csv: Vec<u8>,
    payments: Vec<(Account, MinorUnits)>,
}

type Due = (Account, Option<Payee>, MicroCredits, MicroCredits);

/// Payments to bank accounts. The file is read again before anybody sees it.
fn payments_of(spec: BatchSpec, due: &[Due]) -> Result<Files, Refusal> {
    let wrong = |error: &dyn std::error::Error| field("payout", error.to_string());
    let payable = |(account, payee, _, amount): &Due| {
        payee.clone().map(|payee| Payable { account: account.clone(), amount: *amount, payee })
    };
    let payables: Vec<Payable> = due.iter().filter_map(payable).collect();
    let batch = Batch::new(spec, &payables, &BTreeSet::new()).map_err(|error| wrong(&error))?;
    let xml = pain001::write(&batch).map_err(|error| wrong(&error))?;
    pain001::check(&xml, &batch).map_err(|error| wrong(&error))?;
    let payments = batch.payments.iter().map(|payment| (payment.account.clone(), payment.amount)).collect();
    Ok(Files { pain001: xml, csv: csv(&batch).into_bytes(), payments })
}

/// Credit notes: the columns of payments, with nothing about a bank.
fn credit_notes_of(spec: &BatchSpec, due: &[Due]) -> Result<Files, Refusal> {
    let mut lines = vec![HEAD.to_owned()];
    let mut payments = Vec::new();
    let day = caii_trust::format_time(spec.execution);
    for (account, _, _, payable) in due {
        let (amount, rest) = spec.rate.convert(*payable).unwrap_or_default();
        if amount == MinorUnits(0) {
            continue;
        }
        payments.push((account.clone(), amount));
        let id = format!("{}-{}", spec.message_id(), payments.len());
        let credits = payable.0 - rest.0;
        let amount = spec.currency.write(amount);
        lines.push(format!("{id},{account},,,,{},{amount},{credits},{},credit note", spec.currency, &day[..10]));
    }
    if payments.is_empty() {
        let reason = "nobody who prefers a discount has enough for the currency's smallest unit";
        return Err(field("payout", reason.into()));
    }
    let csv = lines.into_iter().map(|line| line + "\r\n").collect::<String>().into_bytes();
    Ok(Files { pain001: vec![], csv, payments })
}

const HEAD: &str = "end_to_end_id,account,name,iban,bic,currency,amount,micro_credits,execution_date,remittance";
