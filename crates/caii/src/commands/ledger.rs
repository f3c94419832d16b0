//! `caii ledger`: whether the books balance.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, table};
use caii_model::MicroCredits;
use caii_node::views::TrialBalanceView;
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Show all balances by kind of account: they sum to zero, or this exits with 1.
    TrialBalance,
}

pub(crate) async fn run(command: Ledger, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Ledger::TrialBalance => {
            let balance: TrialBalanceView = client.get("/caii/v1/ledger/trial-balance").await?;
            output::print(format, &balance, |balance| {
                let row = |(kind, amount): (&String, &String)| vec![kind.clone(), credits(amount)];
                let mut rows: Vec<_> = balance.balances.iter().map(row).collect();
                rows.push(vec!["all together".into(), credits(&balance.sum)]);
                let verdict = if balance.balanced { "it balances" } else { "IT DOES NOT BALANCE" };
                let size = balance.log_size;
                format!("{}\n{verdict}, after {size} entries of the log", table(&["accounts", "credits"], &rows))
            });
            Ok(if balance.balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Micro-credits as the API gives sums, in credits; what is too large for one amount is shown as it is.
fn credits(micro: &str) -> String {
    micro.parse().map_or_else(|_| format!("{micro} millionths"), |amount| MicroCredits(amount).to_string())
}
