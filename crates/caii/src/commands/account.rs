//! `caii account`: what a member has, where it came from, and credits that the operator gives.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, table};
use caii_model::{MicroCredits, Timestamp};
use caii_node::views::{AccountView, StatementLineView, StatementView, TopUp};
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Show what an account has: credits to spend, set aside for jobs, held back, to be paid out.
    Balance {
        /// Whose; default: your own.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Show an account's transfers, newest first, each with what there was after it.
    Statement {
        /// Whose; default: your own.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Give credits to an account, or record that money was received for them (admins).
    TopUp {
        /// Whose.
        #[arg(long, value_name = "NAME")]
        account: String,
        /// How many credits, as `12.5`.
        credits: String,
        /// Money was received for them.
        #[arg(long)]
        payment: bool,
        /// 32 hex digits that name it, so that saying it again gives nothing again; default: new ones.
        #[arg(long, value_name = "HEX")]
        once: Option<String>,
    },
}

pub(crate) async fn run(command: Account, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Account::Balance { account } => {
            let account: AccountView = client.get(&format!("/caii/v1/account{}", of(account.as_deref()))).await?;
            output::print(format, &account, tell);
        }
        Account::Statement { account, limit } => {
            let mut lines: Vec<StatementLineView> = Vec::new();
            let of = account.as_ref().map_or_else(String::new, |account| format!("account={account}&"));
            let (mut page, mut statement) = (String::new(), None::<StatementView>);
            loop {
                let left = limit.saturating_sub(lines.len()).min(100);
                let path = format!("/caii/v1/account/statement?{of}limit={left}{page}");
                let next: StatementView = client.get(&path).await?;
                lines.extend(next.data.iter().cloned());
                let more = next.has_more && lines.len() < limit;
                if let Some(last) = lines.last() {
                    page = format!("&before={}&balance={}", last.number, last.before_micro_credits);
                }
                statement.get_or_insert(next);
                if !more {
                    break;
                }
            }
            if let Some(mut statement) = statement {
                statement.has_more &= lines.len() >= limit;
                statement.data = lines;
                output::print(format, &statement, tell_statement);
            }
        }
        Account::TopUp { account, credits, payment, once } => {
            let key = match once {
                Some(key) => key,
                None => new_key()?,
            };
            let ask = TopUp { account, credits, payment, key: key.clone() };
            let account: AccountView = client.post("/caii/v1/account/top-up", &ask).await?;
            output::print(format, &account, |account| {
                eprintln!("done; `--once {key}` repeats it without giving anything again");
                tell(account)
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A part of a URL that names an account, if one is asked for.
pub(crate) fn of(account: Option<&str>) -> String {
    account.map_or_else(String::new, |account| format!("?account={account}"))
}

fn new_key() -> Result<String, CliError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| CliError::Usage(format!("the operating system gives no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn credits(micro: i64) -> String {
    MicroCredits(micro).to_string()
}

fn tell(account: &AccountView) -> String {
    let limit = match account.credit_limit_micro_credits {
        None => "as far as it likes: this pool counts and does not collect".to_owned(),
        Some(0) => "not at all".to_owned(),
        Some(limit) => format!("by {} credits", credits(limit)),
    };
    [
        format!("account     {}", account.account),
        format!("balance     {} credits", credits(account.balance_micro_credits)),
        format!(
            "set aside   {} for open jobs; what they do not use comes back",
            credits(account.reserved_micro_credits)
        ),
        format!("held back   {} while its devices are on probation", credits(account.held_micro_credits)),
        format!("to be paid  {}", credits(account.payable_micro_credits)),
        format!("may go below zero by submitting jobs: {limit}"),
        format!("what it earns: {} (`caii payout prefer` changes that)", account.payout),
    ]
    .join("\n")
}

fn tell_statement(statement: &StatementView) -> String {
    let row = |line: &StatementLineView| {
        let amount = credits(line.amount_micro_credits);
        let amount = if line.amount_micro_credits > 0 { format!("+{amount}") } else { amount };
        let at = caii_trust::format_time(Timestamp(line.at_ms));
        vec![at, amount, credits(line.after_micro_credits), line.purpose.clone(), line.entry.to_string()]
    };
    let rows: Vec<_> = statement.data.iter().map(row).collect();
    let more = if statement.has_more { "\nthere are more: --limit shows them" } else { "" };
    format!("{}{more}", table(&["time", "credits", "after", "what for", "log entry"], &rows))
}
