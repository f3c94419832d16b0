//! `caii key`: API keys of requesters and admins.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, ago, table};
use caii_node::views::{KeyCreate, KeyCreated, KeyView, List};
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key. Its secret is shown this once.
    Create {
        /// Whose jobs, files and devices it reaches; made by naming it.
        #[arg(long, value_name = "NAME")]
        account: String,
        /// A label.
        #[arg(long, default_value = "")]
        name: String,
        /// Let it do everything, in every account.
        #[arg(long)]
        admin: bool,
    },
    /// Show all keys.
    List,
    /// Make a key useless.
    Revoke {
        /// Which, as `key_3`.
        id: String,
    },
}

pub(crate) async fn run(command: Key, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Key::Create { account, name, admin } => {
            let role = if admin { "admin" } else { "requester" }.to_owned();
            let created: KeyCreated = client.post("/caii/v1/keys", &KeyCreate { name, account, role }).await?;
            output::print(format, &created, |created| {
                eprintln!("{} for {}; keep its secret, it is not shown again:", created.key.id, created.key.account);
                created.secret.clone()
            });
        }
        Key::List => {
            let keys: List<KeyView> = client.get("/caii/v1/keys").await?;
            output::print(format, &keys, |keys| {
                let row = |key: &KeyView| {
                    let state = key.revoked_ms.map_or("in use".into(), |at| format!("revoked {}", ago(at)));
                    vec![
                        key.id.clone(),
                        key.account.clone(),
                        key.role.clone(),
                        key.name.clone(),
                        ago(key.created_ms),
                        state,
                    ]
                };
                let rows: Vec<_> = keys.data.iter().map(row).collect();
                table(&["id", "account", "role", "name", "made", "state"], &rows)
            });
        }
        Key::Revoke { id } => {
            let path = format!("/caii/v1/keys/{id}/revoke");
            let key: KeyView = client.post(&path, &serde_json::json!({})).await?;
            output::print(format, &key, |key| format!("{} is revoked", key.id));
        }
    }
    Ok(ExitCode::SUCCESS)
}
