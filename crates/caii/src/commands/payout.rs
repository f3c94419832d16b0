//! `caii payout`: what becomes of earned credits, and runs of payments by the bank.

use super::charter::{Passphrase, read_key};
use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, table};
use caii_governance::Signer;
use caii_model::{Digest, MicroCredits, Timestamp};
use caii_node::views::{AccountView, List, PayoutAsk, PayoutPrefer, PayoutSettle, PayoutView};
use caii_payout::{PAYLOAD_TYPE, pain001};
use caii_trust::Envelope;
use clap::{Subcommand, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Payout {
    /// Say what is to become of what your devices earn.
    Prefer {
        /// What.
        preference: Preference,
        /// The holder of the bank account, for `direct`.
        #[arg(long, required_if_eq("preference", "direct"))]
        name: Option<String>,
        /// The bank account, for `direct`. It is told to the bank and to whoever approves payouts, and never published.
        #[arg(long, required_if_eq("preference", "direct"))]
        iban: Option<String>,
        /// Its bank, where that is asked for.
        #[arg(long)]
        bic: Option<String>,
        /// Of another account (admins).
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Make the files of the next run: an ISO 20022 file (pain.001.001.09) and a CSV with the same payments.
    Run {
        /// When the bank is to pay, as `2026-12-01T00:00:00Z`; default: tomorrow.
        #[arg(long, value_name = "TIME")]
        on: Option<String>,
        /// Credit notes for members who prefer a discount, instead of payments.
        #[arg(long)]
        credit_notes: bool,
        /// Where the files go; default: here.
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Approve a run by your signature, after its files were read and counted again on this machine.
    Approve {
        /// Which run.
        run: u64,
        /// Your key file.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Send a run that enough people approved: from then on its payments are on their way.
    Send {
        /// Which run.
        run: u64,
    },
    /// Record what the bank answered.
    Settle {
        /// Which run.
        run: u64,
        /// Whom it paid. Can be repeated.
        #[arg(long, value_name = "ACCOUNT")]
        paid: Vec<String>,
        /// Whom it did not pay: they get their credits back. Can be repeated.
        #[arg(long, value_name = "ACCOUNT")]
        failed: Vec<String>,
        /// It paid everybody else.
        #[arg(long)]
        rest: bool,
    },
    /// Show all runs.
    List,
    /// Show a run.
    Show {
        /// Which run.
        run: u64,
    },
}

/// What becomes of earned credits.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Preference {
    /// They stay on the account and pay for jobs. The default.
    Credits,
    /// They are paid to a bank account by the operator's next run.
    Direct,
    /// They stay, and as long as there are any the account's jobs go before others of the same kind.
    Priority,
    /// The operator settles them against the account's bill by a credit note.
    Discount,
}

impl Preference {
    fn as_str(self) -> &'static str {
        match self {
            Self::Credits => "credits",
            Self::Direct => "direct",
            Self::Priority => "priority",
            Self::Discount => "discount",
        }
    }
}

pub(crate) async fn run(command: Payout, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Payout::Prefer { preference, name, iban, bic, account } => {
            let ask = PayoutPrefer { account, preference: preference.as_str().to_owned(), name, iban, bic };
            let account: AccountView = client.post("/caii/v1/payouts/prefer", &ask).await?;
            output::print(format, &account, |account| {
                let balance = MicroCredits(account.balance_micro_credits);
                format!("what {} earns: {}; it has {balance} credits", account.account, account.payout)
            });
        }
        Payout::Run { on, credit_notes, dir } => {
            let on = on.map(|text| {
                let at = caii_trust::parse_time(&text);
                at.ok_or_else(|| CliError::Usage(format!("--on {text}: give a time as 2026-12-01T00:00:00Z")))
            });
            let execution_ms = on.transpose()?.map(|at: Timestamp| at.0);
            let made: PayoutView = client.post("/caii/v1/payouts", &PayoutAsk { execution_ms, credit_notes }).await?;
            for (file, bytes) in files(&client, &made).await? {
                let path = dir.join(format!("payout-{}-{file}", made.run));
                std::fs::write(&path, bytes).map_err(|error| CliError::file("write", &path, error))?;
                eprintln!("{}", path.display());
            }
            output::print(format, &made, tell);
        }
        Payout::Approve { run, key_file, passphrase } => {
            let view: PayoutView = client.get(&format!("/caii/v1/payouts/{run}")).await?;
            let read = files(&client, &view).await?;
            recount(&view, &read)?;
            let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, view.statement.clone().into_bytes());
            let key = read_key(&key_file, &passphrase)?;
            let signature = key.sign(&envelope.signed_bytes()).map_err(caii_governance::GovernanceError::from)?;
            envelope.add(key.public().id(), signature);
            let path = format!("/caii/v1/payouts/{run}/approve");
            let view: PayoutView = client.post_bytes(&path, envelope.to_json()).await?;
            output::print(format, &view, tell);
        }
        Payout::Send { run } => {
            let view: PayoutView = client.post(&format!("/caii/v1/payouts/{run}/send"), &serde_json::json!({})).await?;
            output::print(format, &view, tell);
        }
        Payout::Settle { run, paid, failed, rest } => {
            let answered = PayoutSettle { paid, failed, paid_the_rest: rest };
            let view: PayoutView = client.post(&format!("/caii/v1/payouts/{run}/settle"), &answered).await?;
            output::print(format, &view, tell);
        }
        Payout::List => {
            let runs: List<PayoutView> = client.get("/caii/v1/payouts").await?;
            output::print(format, &runs, |runs| {
                let row = |run: &PayoutView| {
                    let approved = format!("{} of {}", run.approved_by.len(), run.approvals_needed);
                    let total = format!("{} {}", run.total, run.currency);
                    vec![run.run.to_string(), run.state.clone(), run.payments.len().to_string(), total, approved]
                };
                let rows: Vec<_> = runs.data.iter().map(row).collect();
                table(&["run", "state", "payments", "total", "approved by"], &rows)
            });
        }
        Payout::Show { run } => {
            let view: PayoutView = client.get(&format!("/caii/v1/payouts/{run}")).await?;
            output::print(format, &view, tell);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The files of a run, each checked against the digest that approving signs.
async fn files(client: &Client, view: &PayoutView) -> Result<Vec<(&'static str, Vec<u8>)>, CliError> {
    let mut read = Vec::new();
    for (file, digest) in [("pain001.xml", &view.pain001), ("payments.csv", &view.csv)] {
        // Credit notes are no payments: there is nothing for a bank.
        if *digest == Digest::of(b"").to_string() {
            continue;
        }
        let bytes = client.get_bytes(&format!("/caii/v1/payouts/{}/{file}", view.run)).await?;
        if Digest::of(&bytes).to_string() != *digest {
            return Err(CliError::CannotRead(format!("{file} of run {} is not the one that is signed", view.run)));
        }
        read.push((file, bytes));
    }
    Ok(read)
}

/// Reads the bank's file as the bank would: as many payments and as much money as the run says.
fn recount(view: &PayoutView, files: &[(&str, Vec<u8>)]) -> Result<(), CliError> {
    let Some((name, bytes)) = files.iter().find(|(name, _)| Path::new(name).extension().is_some_and(|e| e == "xml"))
    else {
        return Ok(());
    };
    let read = pain001::read(bytes).map_err(|error| CliError::CannotRead(format!("{name}: {error}")))?;
    let total = read.payments.iter().try_fold(0_u64, |sum, payment| sum.checked_add(payment.amount.0));
    let total = total.map(|total| read.currency.write(caii_payout::MinorUnits(total)));
    if read.payments.len() != view.payments.len() || total.as_ref() != Some(&view.total) {
        let why = format!(
            "{name} has {} payments of {} together; the run says {} of {}",
            read.payments.len(),
            total.unwrap_or_else(|| "more than can be counted".into()),
            view.payments.len(),
            view.total
        );
        return Err(CliError::CannotRead(why));
    }
    Ok(())
}

fn tell(view: &PayoutView) -> String {
    let row = |payment: &caii_node::views::PaymentView| {
        let state = match payment.open {
            None => "not sent",
            Some(true) => "on its way",
            Some(false) => "settled",
        };
        vec![payment.account.clone(), format!("{} {}", payment.amount, view.currency), state.to_owned()]
    };
    let rows: Vec<_> = view.payments.iter().map(row).collect();
    let approved = match view.approved_by.as_slice() {
        [] => "nobody".to_owned(),
        who => who.join(", "),
    };
    format!(
        "run {} ({}): {} payments, {} {} together; approved by {approved}, {} needed\n{}",
        view.run,
        view.state,
        view.payments.len(),
        view.total,
        view.currency,
        view.approvals_needed,
        table(&["to", "amount", "state"], &rows)
    )
}
