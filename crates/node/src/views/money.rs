//! The JSON of money: quotes, accounts, earnings, receipts, tariffs, payouts. Amounts are micro-credits, a million of which
//! are a credit.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Asks what a job would cost. Nothing is reserved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteAsk {
    /// The input file.
    pub input_file_id: String,
    /// The workload's digest, for a job of a program.
    #[serde(default)]
    pub workload: Option<String>,
    /// `jsonl` or `lines`, for a job of a program.
    #[serde(default)]
    pub format: Option<String>,
    /// What the lines call, for a batch.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Records in a task; absent: the pool chooses.
    #[serde(default)]
    pub records_per_task: Option<u32>,
    /// How results are checked; absent: as the pool has it.
    #[serde(default)]
    pub verify: Option<String>,
    /// The most that it may cost, in credits, as `12.5`.
    #[serde(default)]
    pub max_price: Option<String>,
}

/// What a job would cost, and what that follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuoteView {
    /// The most that it can cost: what is set aside.
    pub price_max_micro_credits: i64,
    /// Whether that is above the asker's limit.
    pub above_limit: bool,
    /// What the account has.
    pub balance_micro_credits: i64,
    /// Whether the pool would take the job from this account.
    pub affordable: bool,
    /// Records of the input.
    pub records: u64,
    /// Tasks.
    pub tasks: u32,
    /// Accepted results of each task that are paid for.
    pub copies: u32,
    /// The most fuel that all of it may use.
    pub fuel_max: u64,
    /// The number of the tariff.
    pub tariff: u32,
    /// Its digest.
    pub tariff_digest: String,
    /// How its results are checked: `spot`, `audit=N` or `quorum=N`.
    pub verification: String,
    /// The share of the work that is run again to check it, where devices are known, in millionths.
    pub replication_ppm: u32,
    /// The probability that an accepted record is wrong is at most this, when a tenth of the capacity colludes. Absent where
    /// nothing is stated.
    pub error_bound: Option<f64>,
    /// By what earlier tasks of the workload took; absent when there are none.
    pub estimate: Option<EstimateView>,
}

/// What a job would take if it took as much as earlier ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EstimateView {
    /// How many earlier tasks were looked at.
    pub tasks_seen: u64,
    /// What it would cost.
    pub price_micro_credits: i64,
    /// Its fuel.
    pub fuel: u64,
    /// Until it is done, if the devices that are connected now did nothing else; absent when none is.
    pub duration_ms: Option<u64>,
    /// Tasks that they run at a time.
    pub slots: u32,
}

/// What a job has cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PriceView {
    /// What was set aside.
    pub reserved_micro_credits: i64,
    /// What was paid out of it.
    pub charged_micro_credits: i64,
    /// What came back.
    pub returned_micro_credits: i64,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountView {
    /// Whose.
    pub account: String,
    /// What can be spent.
    pub balance_micro_credits: i64,
    /// What is set aside for open jobs.
    pub reserved_micro_credits: i64,
    /// What is held back while devices are on probation.
    pub held_micro_credits: i64,
    /// What it asked to be paid out.
    pub payable_micro_credits: i64,
    /// How far below zero it may go by submitting jobs; absent: as far as it likes.
    pub credit_limit_micro_credits: Option<i64>,
    /// `credits`, `direct`, `priority` or `discount`.
    pub payout: String,
}

/// A part of an account's statement, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementView {
    /// Whose.
    pub account: String,
    /// What there was after the first line.
    pub balance_micro_credits: i64,
    /// The lines.
    pub data: Vec<StatementLineView>,
    /// Whether there are more; ask again with the last line's `number` as `before`, and its `before_micro_credits` as
    /// `balance`.
    pub has_more: bool,
}

/// A transfer from or to an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementLineView {
    /// Counts all transfers of the pool.
    pub number: u64,
    /// Its id, for ever.
    pub transfer: String,
    /// The number of its entry in the pool's log.
    pub entry: u64,
    /// When.
    pub at_ms: u64,
    /// Why, in a word.
    pub kind: String,
    /// What for.
    pub purpose: String,
    /// The other account.
    pub other: String,
    /// More than zero when the account got it.
    pub amount_micro_credits: i64,
    /// What there was after it.
    pub after_micro_credits: i64,
    /// What there was before it.
    pub before_micro_credits: i64,
}

/// Gives credits to an account, or records that it paid for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    /// Whose.
    pub account: String,
    /// How much, in credits, as `12.5`.
    pub credits: String,
    /// Whether money was received for it.
    #[serde(default)]
    pub payment: bool,
    /// 32 hex digits that name it: the same again gives nothing again.
    pub key: String,
}

/// What an account's devices did and earned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarningsView {
    /// Whose.
    pub account: String,
    /// From when.
    pub since_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// By day and workload, oldest first.
    pub data: Vec<EarningsRow>,
}

/// What one workload came to on one day (UTC).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EarningsRow {
    /// As `2026-11-25`.
    pub day: String,
    /// The workload.
    pub workload: String,
    /// Its name.
    pub name: String,
    /// Claims that were accepted and still count.
    pub accepted: u64,
    /// Claims that do not count, by reason.
    pub void: BTreeMap<String, u64>,
    /// Fuel of those that count.
    pub fuel: u64,
    /// What was paid for it.
    pub earned_micro_credits: i64,
    /// What of that is held back, or was at first.
    pub held_micro_credits: i64,
    /// What will be paid for results that are not final yet, if they stand.
    pub waiting_micro_credits: i64,
}

/// A receipt and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// The device.
    pub device: String,
    /// The number that it gave to the claim.
    pub sequence: u64,
    /// The number of the receipt's entry in the pool's log.
    pub entry: u64,
    /// When it was decided.
    pub at_ms: u64,
    /// The device's owner.
    pub owner: String,
    /// The task, as `job_17/3`.
    pub task: String,
    /// The workload.
    pub workload: String,
    /// Its name, if the pool has it.
    pub workload_name: Option<String>,
    /// `accepted`, or the reason for which it is void.
    pub verdict: String,
    /// Items of the task.
    pub items: u32,
    /// Fuel.
    pub fuel: u64,
    /// The reward.
    pub reward_micro_credits: i64,
    /// What is held back of it.
    pub held_micro_credits: i64,
    /// Where it was paid.
    pub paid: Option<ReceiptPaid>,
    /// Where it was voided after it was accepted.
    pub voided: Option<ReceiptVoided>,
    /// Its canonical bytes in hex: all of the above follows from them.
    pub canonical: String,
    /// The canonical bytes of its tariff, in hex.
    pub tariff: String,
}

/// Where a receipt was paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiptPaid {
    /// The number of the ledger entry in the log.
    pub entry: u64,
    /// The id of its first transfer.
    pub transfer: String,
    /// When.
    pub at_ms: u64,
}

/// Where a receipt was voided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiptVoided {
    /// The number of the entry in the log.
    pub entry: u64,
    /// Why, in a word.
    pub reason: String,
    /// Why, in words.
    pub words: String,
    /// When.
    pub at_ms: u64,
}

/// A tariff.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TariffView {
    /// Its number.
    pub number: u32,
    /// `past`, `in-force` or `coming`.
    pub state: String,
    /// Its digest.
    pub digest: String,
    /// From when it holds.
    pub effective_from_ms: u64,
    /// As it is published: `caii-tariff/1`.
    pub tariff: serde_json::Value,
}

/// Proposes a tariff, or asks what it would have paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TariffPropose {
    /// As `caii-tariff/1`. Its number is given by the pool.
    pub tariff: serde_json::Value,
    /// It may begin at once, without a notice of 24 hours.
    #[serde(default)]
    pub now: bool,
}

/// What a tariff would have paid, beside what was paid, for the same work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimulationView {
    /// From when.
    pub since_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// Accepted receipts that count.
    pub receipts: u64,
    /// What devices' owners earned, by owner.
    pub owners: Vec<SimulatedAccount>,
    /// What requesters paid, by requester.
    pub requesters: Vec<SimulatedAccount>,
    /// All owners together.
    pub earned: Simulated,
    /// All requesters together.
    pub charged: Simulated,
}

/// One account's sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimulatedAccount {
    /// Whose.
    pub account: String,
    /// The sums.
    #[serde(flatten)]
    pub sums: Simulated,
}

/// A sum as it was and as it would have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// By the tariffs that were in force.
    pub was_micro_credits: i64,
    /// By the one that is asked about.
    pub would_be_micro_credits: i64,
}

/// All balances by kind of account. They sum to zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialBalanceView {
    /// Entries of the log.
    pub log_size: u64,
    /// By kind of account, in micro-credits as decimal text: they may be larger than JSON's numbers.
    pub balances: BTreeMap<String, String>,
    /// All together.
    pub sum: String,
    /// Whether that is zero.
    pub balanced: bool,
}

/// What is to become of what an account earns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayoutPrefer {
    /// Whose; the asker's account when absent.
    #[serde(default)]
    pub account: Option<String>,
    /// `credits`, `direct`, `priority` or `discount`.
    pub preference: String,
    /// The holder of the bank account, for `direct`.
    #[serde(default)]
    pub name: Option<String>,
    /// The bank account, for `direct`.
    #[serde(default)]
    pub iban: Option<String>,
    /// Its bank, where that is asked for.
    #[serde(default)]
    pub bic: Option<String>,
}

/// Asks for the files of the next payout run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayoutAsk {
    /// On which day the bank is to pay; absent: tomorrow.
    #[serde(default)]
    pub execution_ms: Option<u64>,
    /// Credit notes for members who prefer a discount, instead of payments.
    #[serde(default)]
    pub credit_notes: bool,
}

/// A payout run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PayoutView {
    /// Its number.
    pub run: u64,
    /// `waits` for approvals, `sent`, or `settled`.
    pub state: String,
    /// When it was made or sent.
    pub at_ms: u64,
    /// The currency.
    pub currency: String,
    /// All payments together.
    pub total: String,
    /// Whom it pays.
    pub payments: Vec<PaymentView>,
    /// Digest of the ISO 20022 file.
    pub pain001: String,
    /// Digest of the CSV.
    pub csv: String,
    /// Who approved it so far.
    pub approved_by: Vec<String>,
    /// How many have to.
    pub approvals_needed: usize,
    /// What approving signs, as text.
    pub statement: String,
}

/// One payment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaymentView {
    /// To whom.
    pub account: String,
    /// How much, in the currency.
    pub amount: String,
    /// Whether the bank has not answered yet; absent before it was sent.
    pub open: Option<bool>,
}

/// What the bank answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PayoutSettle {
    /// Whom it paid.
    pub paid: Vec<String>,
    /// Whom it did not.
    pub failed: Vec<String>,
    /// It paid everybody else whom the run names.
    pub paid_the_rest: bool,
}
