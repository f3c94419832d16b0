//! `caii ticket`: join tickets for contributors.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, now_ms, table};
use caii_model::Millis;
use caii_node::views::{List, TicketCreate, TicketCreated, TicketView};
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Ticket {
    /// Make a join ticket. It is shown this once.
    Create {
        /// Whose devices they become; default: your own account's.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// How many devices it may enrol.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it works: a number and s, m, h or d.
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = super::duration)]
        expires: Millis,
    },
    /// Show all tickets.
    List,
    /// Keep a ticket from enrolling any more devices.
    Revoke {
        /// Which, as `ticket_3`.
        id: String,
    },
}

pub(crate) async fn run(command: Ticket, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Ticket::Create { account, uses, expires } => {
            let ask = TicketCreate { account, valid_for_ms: expires.0, uses_max: uses };
            let created: TicketCreated = client.post("/caii/v1/tickets", &ask).await?;
            output::print(format, &created, |created| {
                eprintln!("{} for {} device(s); a contributor runs `caii agent run` with it:", created.view.id, uses);
                created.ticket.clone()
            });
        }
        Ticket::List => {
            let tickets: List<TicketView> = client.get("/caii/v1/tickets").await?;
            output::print(format, &tickets, |tickets| {
                let row = |ticket: &TicketView| {
                    let left = ticket.expires_ms.saturating_sub(now_ms());
                    let state = match left {
                        0 => "expired".into(),
                        _ if ticket.uses >= ticket.uses_max => "used up".into(),
                        left => format!("{} left", Millis(left)),
                    };
                    let uses = format!("{} of {}", ticket.uses, ticket.uses_max);
                    vec![ticket.id.clone(), ticket.account.clone(), uses, state]
                };
                let rows: Vec<_> = tickets.data.iter().map(row).collect();
                table(&["id", "account", "used", "state"], &rows)
            });
        }
        Ticket::Revoke { id } => {
            let path = format!("/caii/v1/tickets/{id}/revoke");
            let ticket: TicketView = client.post(&path, &serde_json::json!({})).await?;
            output::print(format, &ticket, |ticket| format!("{} enrols no more devices", ticket.id));
        }
    }
    Ok(ExitCode::SUCCESS)
}
