//! `caii earnings`: what an account's devices did and earned, by day and workload.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, now_ms, table, thousands};
use caii_model::{MicroCredits, Millis};
use caii_node::views::{EarningsRow, EarningsView};
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Earnings {
    /// Whose devices; default: your own account's.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// How far back.
    #[arg(long, value_name = "TIME", default_value = "31d", value_parser = super::duration)]
    last: Millis,
}

pub(crate) async fn run(args: Earnings, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    let of = args.account.map_or_else(String::new, |account| format!("account={account}&"));
    let path = format!("/caii/v1/earnings?{of}since_ms={}", now_ms().saturating_sub(args.last.0));
    let earnings: EarningsView = client.get(&path).await?;
    output::print(format, &earnings, tell);
    Ok(ExitCode::SUCCESS)
}

fn tell(earnings: &EarningsView) -> String {
    let credits = |micro| MicroCredits(micro).to_string();
    let row = |row: &EarningsRow| {
        let void: Vec<String> = row.void.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let void = if void.is_empty() { "-".to_owned() } else { void.join(", ") };
        let name = if row.name.is_empty() { row.workload.clone() } else { row.name.clone() };
        vec![
            row.day.clone(),
            name,
            row.accepted.to_string(),
            void,
            thousands(row.fuel),
            credits(row.earned_micro_credits),
            credits(row.held_micro_credits),
            credits(row.waiting_micro_credits),
        ]
    };
    if earnings.data.is_empty() {
        return format!("the devices of {} made no claims in that time", earnings.account);
    }
    let rows: Vec<_> = earnings.data.iter().map(row).collect();
    let header = ["day", "workload", "accepted", "void", "fuel", "earned", "of it held back", "not final yet"];
    let sum = |of: fn(&EarningsRow) -> i64| MicroCredits::checked_sum(earnings.data.iter().map(of).map(MicroCredits));
    let total = sum(|row| row.earned_micro_credits).map_or_else(|| "too much to count".into(), |sum| sum.to_string());
    format!(
        "{}\n{} earned {total} credits; `caii receipt list` shows each claim",
        table(&header, &rows),
        earnings.account
    )
}
