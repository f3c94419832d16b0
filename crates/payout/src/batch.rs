//! A batch of payments: what is sent to the bank in one file.

use crate::{Bic, Currency, Iban, MinorUnits, Rate, SepaText};
use caii_ledger::PayoutRun;
use caii_model::{Account, MicroCredits, PoolId, Timestamp};
use std::collections::BTreeSet;
use thiserror::Error;

/// Whom a member is paid as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payee {
    /// The name of the account's holder, at most [`SepaText::NAME_MAX`].
    pub name: SepaText,
    /// The account.
    pub iban: Iban,
    /// Its bank, where that is asked for.
    pub bic: Option<Bic>,
}

/// What a member asked to be paid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payable {
    /// Who.
    pub account: Account,
    /// All that is payable to them.
    pub amount: MicroCredits,
    /// Where to.
    pub payee: Payee,
}

/// What all payments of a batch share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSpec {
    /// The pool; with the run it makes the identifiers that banks ask for.
    pub pool: PoolId,
    /// Which run.
    pub run: PayoutRun,
    /// Who pays, from which account.
    pub debtor: Payee,
    /// In which currency.
    pub currency: Currency,
    /// For how many micro-credits.
    pub rate: Rate,
    /// When the file is made.
    pub created: Timestamp,
    /// On which day the bank is to pay (the UTC day of this time).
    pub execution: Timestamp,
    /// What payees read on their statement, at most [`SepaText::REMITTANCE_MAX`].
    pub remittance: SepaText,
}

/// One payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its identifier, which comes back with the bank's answer.
    pub end_to_end: String,
    /// To which member.
    pub account: Account,
    /// Where to.
    pub payee: Payee,
    /// How much.
    pub amount: MinorUnits,
    /// What leaves the ledger for it, exactly: the amount times the rate.
    pub credits: MicroCredits,
}

/// A batch, in the order of accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What all payments share.
    pub spec: BatchSpec,
    /// At least one.
    pub payments: Vec<Payment>,
    /// What was too little for one unit and stays payable, of everybody who has such.
    pub dust: Vec<(Account, MicroCredits)>,
    /// All payments together.
    pub total: MinorUnits,
}

/// Why payables make no batch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Nobody has enough for one unit of the currency.
    #[error("nobody is owed as much as 1 {0} in its smallest unit; there is nothing to pay")]
    Nothing(Currency),
    /// There are too many payments for a file.
    #[error("{found} members are to be paid; a file holds {max}: pay them in several runs")]
    TooMany {
        /// How many.
        found: usize,
        /// How many fit.
        max: usize,
    },
    /// A member is there twice.
    #[error("{0} is in the batch twice")]
    Twice(Account),
    /// The bank has not answered to an earlier file.
    #[error("an earlier run that pays {0} is not settled: record whether the bank paid it, then run again")]
    Unsettled(Account),
    /// Less than nothing is payable.
    #[error("{account} is owed {amount} credits, which is less than nothing")]
    Negative {
        /// To whom.
        account: Account,
        /// How much.
        amount: MicroCredits,
    },
    /// An amount is larger than banks take.
    #[error("{account} would be paid {amount}; banks take at most {max} in one payment")]
    TooLarge {
        /// To whom.
        account: Account,
        /// How much.
        amount: String,
        /// How much banks take.
        max: String,
    },
    /// The run's number does not fit into the identifiers.
    #[error("the run's number {0} is beyond what fits into a bank's identifiers")]
    Run(u64),
    /// The file's texts are longer than they may be.
    #[error("the {field} has {found} characters; at most {max} are sent")]
    Text {
        /// Which.
        field: &'static str,
        /// How many characters it has.
        found: usize,
        /// How many it may have.
        max: usize,
    },
}

impl Batch {
    /// Payments in one file.
    pub const PAYMENTS_MAX: usize = 10_000;
    /// The most that SEPA transfers in one payment: 999,999,999.99.
    pub const AMOUNT_MAX: MinorUnits = MinorUnits(99_999_999_999);
    /// Digits of a run's number in identifiers, which have 35 characters: pool, run, payment.
    const RUN_MAX: u64 = 999_999_999_999;

    /// The payments for these payables, rounded down to the currency's smallest unit. `unsettled` are the members whom
    /// an earlier file pays that the bank has not answered to: what is payable to them may be on its way already.
    ///
    /// # Errors
    /// If they cannot be paid in one file.
    pub fn new(spec: BatchSpec, payables: &[Payable], unsettled: &BTreeSet<Account>) -> Result<Self, BatchError> {
        if spec.run.0 > Self::RUN_MAX {
            return Err(BatchError::Run(spec.run.0));
        }
        let length = |field, text: &SepaText, max| match text.as_str().len() {
            found if found > max => Err(BatchError::Text { field, found, max }),
            _ => Ok(()),
        };
        length("debtor's name", &spec.debtor.name, SepaText::NAME_MAX)?;
        length("remittance text", &spec.remittance, SepaText::REMITTANCE_MAX)?;
        let mut sorted: Vec<&Payable> = payables.iter().collect();
        sorted.sort_by(|one, other| one.account.cmp(&other.account));
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].account == pair[1].account) {
            return Err(BatchError::Twice(pair[0].account.clone()));
        }

        let mut payments: Vec<Payment> = Vec::new();
        let mut dust = Vec::new();
        for Payable { account, amount: payable, payee } in sorted {
            let converted = spec.rate.convert(*payable);
            let negative = || BatchError::Negative { account: account.clone(), amount: *payable };
            let (amount, rest) = converted.ok_or_else(negative)?;
            if rest != MicroCredits::ZERO {
                dust.push((account.clone(), rest));
            }
            if amount == MinorUnits(0) {
                continue;
            }
            if unsettled.contains(account) {
                return Err(BatchError::Unsettled(account.clone()));
            }
            if amount > Self::AMOUNT_MAX {
                let [amount, max] = [amount, Self::AMOUNT_MAX].map(|amount| spec.currency.write(amount));
                return Err(BatchError::TooLarge { account: account.clone(), amount, max });
            }
            length("payee's name", &payee.name, SepaText::NAME_MAX)?;
            payments.push(Payment {
                end_to_end: format!("{}-{}", spec.message_id(), payments.len() + 1),
                account: account.clone(),
                payee: payee.clone(),
                amount,
                // Not more than what is payable.
                credits: MicroCredits(payable.0 - rest.0),
            });
        }
        match payments.len() {
            0 => return Err(BatchError::Nothing(spec.currency)),
            found if found > Self::PAYMENTS_MAX => {
                return Err(BatchError::TooMany { found, max: Self::PAYMENTS_MAX });
            }
            _ => {}
        }
        // 10^4 payments of less than 10^11 each.
        let total = MinorUnits(payments.iter().map(|payment| payment.amount.0).sum());
        Ok(Self { spec, payments, dust, total })
    }
}

impl BatchSpec {
    /// The file's identifier: the pool's id and the run's number, at most 29 characters.
    pub fn message_id(&self) -> String {
        let pool: String = self.pool.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{pool}-{}", self.run.0)
    }
}
