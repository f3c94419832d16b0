//! `caii device`: the devices that contributors lend.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, ago, table};
use caii_node::views::{DeviceView, ExplainView, List};
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// Show all devices.
    List,
    /// Why a device does what it does, or nothing.
    Explain {
        /// Which, as `dev_0123456789abcdef`.
        id: String,
    },
}

pub(crate) async fn run(command: Device, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Device::List => {
            let devices: List<DeviceView> = client.get("/caii/v1/devices").await?;
            output::print(format, &devices, |devices| {
                let row = |device: &DeviceView| {
                    let state = match (device.present, device.heard_ms) {
                        (true, _) => "connected".to_owned(),
                        (false, Some(at)) => format!("heard {}", ago(at)),
                        (false, None) => "not connected".to_owned(),
                    };
                    let work = match device.tasks.len() {
                        0 => "-".to_owned(),
                        count => format!("{count} tasks ({})", device.tasks[0]),
                    };
                    let (id, name, account) = (device.id.clone(), device.name.clone(), device.account.clone());
                    vec![id, name, account, state, device.slots.to_string(), work]
                };
                let rows: Vec<_> = devices.data.iter().map(row).collect();
                table(&["id", "name", "owner", "state", "slots", "holds"], &rows)
            });
        }
        Device::Explain { id } => {
            let explain: ExplainView = client.get(&format!("/caii/v1/devices/{id}/explain")).await?;
            output::print(format, &explain, |explain| explain.lines.join("\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
