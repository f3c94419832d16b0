//! `caii tariff`: what work earns and costs, what is coming, and what another tariff would have paid.

use crate::client::{Client, PoolArgs};
use crate::error::CliError;
use crate::output::{self, Format, table};
use caii_ledger::tariff_json;
use caii_model::{MicroCredits, Millis, Tariff as Terms, Timestamp};
use caii_node::views::{List, Simulated, SimulationView, TariffPropose, TariffView};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Tariff {
    /// Show the tariff in force and those that come, in words. docs/money.md explains each clause.
    Show {
        /// Past ones as well.
        #[arg(long)]
        all: bool,
    },
    /// Publish another tariff. Jobs go by the one that was in force when they began.
    Propose {
        #[command(flatten)]
        terms: TermsArgs,
        /// From when it holds, as `2026-12-01T00:00:00Z`: at least 24 hours from now.
        #[arg(long, value_name = "TIME", required_unless_present = "now", conflicts_with = "now")]
        from: Option<String>,
        /// It holds at once, without notice to members.
        #[arg(long)]
        now: bool,
    },
    /// What accepted work would have earned and cost under another tariff, beside what it did.
    Simulate {
        #[command(flatten)]
        terms: TermsArgs,
        /// How far back.
        #[arg(long, value_name = "TIME", default_value = "31d", value_parser = super::duration)]
        last: Millis,
    },
}

/// Another tariff: a file, or the one in force with some clauses changed.
#[derive(Debug, Args)]
pub(crate) struct TermsArgs {
    /// The whole tariff as JSON (`caii-tariff/1`, as `caii --output json tariff show` has it).
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Change a clause of the tariff in force, as `compute.microCreditsPerGigaFuel=2000000`. Can be repeated.
    #[arg(long = "set", value_name = "CLAUSE=NUMBER", conflicts_with = "file", required_unless_present = "file")]
    set: Vec<String>,
}

pub(crate) async fn run(command: Tariff, pool: &PoolArgs, format: Format) -> Result<ExitCode, CliError> {
    let client = Client::new(pool)?;
    match command {
        Tariff::Show { all } => {
            let mut tariffs: List<TariffView> = client.get("/caii/v1/tariffs").await?;
            tariffs.data.retain(|tariff| all || tariff.state != "past");
            output::print(format, &tariffs, |tariffs| tariffs.data.iter().map(tell).collect::<Vec<_>>().join("\n\n"));
        }
        Tariff::Propose { terms, from, now } => {
            let mut tariff = chosen(&client, &terms).await?;
            if let Some(from) = from {
                let at = caii_trust::parse_time(&from);
                let at =
                    at.ok_or_else(|| CliError::Usage(format!("--from {from}: give a time as 2026-12-01T00:00:00Z")))?;
                tariff["effectiveFromMs"] = at.0.into();
            }
            let published: TariffView = client.post("/caii/v1/tariffs", &TariffPropose { tariff, now }).await?;
            output::print(format, &published, |tariff| format!("Published.\n{}", tell(tariff)));
        }
        Tariff::Simulate { terms, last } => {
            let tariff = chosen(&client, &terms).await?;
            let path = format!("/caii/v1/tariffs/simulate?since_ms={}", output::now_ms().saturating_sub(last.0));
            let simulated: SimulationView = client.post(&path, &TariffPropose { tariff, now: false }).await?;
            output::print(format, &simulated, tell_simulation);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The tariff that the arguments describe.
async fn chosen(client: &Client, terms: &TermsArgs) -> Result<Value, CliError> {
    if let Some(path) = &terms.file {
        let bytes = std::fs::read(path).map_err(|error| CliError::file("read", path, error))?;
        return serde_json::from_slice(&bytes)
            .map_err(|error| CliError::Usage(format!("{} is no JSON: {error}", path.display())));
    }
    let tariffs: List<TariffView> = client.get("/caii/v1/tariffs").await?;
    let in_force = tariffs.data.into_iter().find(|tariff| tariff.state == "in-force");
    let mut tariff = in_force.ok_or_else(|| CliError::Usage("no tariff is in force yet".into()))?.tariff;
    for setting in &terms.set {
        set(&mut tariff, setting)?;
    }
    Ok(tariff)
}

/// Changes one clause, which must be there already.
fn set(tariff: &mut Value, setting: &str) -> Result<(), CliError> {
    let wrong = |why: &str| CliError::Usage(format!("--set {setting}: {why}"));
    let (path, number) = setting.split_once('=').ok_or_else(|| wrong("give CLAUSE=NUMBER"))?;
    let number: u64 = number.parse().map_err(|_| wrong("the number must be whole and not below zero"))?;
    let pointer = format!("/{}", path.replace('.', "/"));
    let names = names(tariff, "");
    let clause = tariff.pointer_mut(&pointer).filter(|clause| clause.is_u64());
    let clause = clause.ok_or_else(|| wrong(&format!("there is no such clause; there are {}", names.join(", "))))?;
    *clause = number.into();
    Ok(())
}

/// All clauses of a tariff that can be set.
fn names(value: &Value, before: &str) -> Vec<String> {
    let Some(fields) = value.as_object() else { return vec![] };
    let mut found = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| !["number", "effectiveFromMs"].contains(&name.as_str())) {
        match value {
            Value::Object(_) => found.extend(names(value, &format!("{before}{name}."))),
            Value::Number(_) => found.push(format!("{before}{name}")),
            _ => {}
        }
    }
    found
}

fn tell(view: &TariffView) -> String {
    let Ok(tariff) = tariff_json::from_json(view.tariff.to_string().as_bytes()) else {
        return format!("tariff {} ({}): this release cannot read it", view.number, view.state);
    };
    let from = caii_trust::format_time(Timestamp(view.effective_from_ms));
    format!("tariff {} ({}), from {from}\n  {}\n{}", view.number, view.state, view.digest, clauses(&tariff))
}

fn clauses(tariff: &Terms) -> String {
    let terms = tariff.terms();
    let rows = [
        ("compute", format!("{} credits for 10^9 fuel", terms.compute_rate)),
        (
            "reliability",
            format!(
                "up to {} more, growing from {} of work accepted",
                terms.reliability_bonus, terms.reliability_share_floor
            ),
        ),
        (
            "availability",
            format!(
                "{} credits for an hour of presence, at most {} a day",
                terms.availability_rate, terms.availability_daily_max
            ),
        ),
        (
            "energy",
            format!(
                "{} credits for a kilojoule, at most {} J for 10^9 fuel",
                terms.energy_rate, terms.energy_certified_joules
            ),
        ),
        ("probation", format!("{} of a new device's reward is held back", terms.probation_holdback)),
        (
            "price",
            format!(
                "what the best device could earn, and {} for verification, {} for the pool",
                terms.verification_surcharge, terms.pool_fee
            ),
        ),
    ];
    rows.iter().map(|(clause, text)| format!("  {clause:<13}{text}")).collect::<Vec<_>>().join("\n")
}

fn tell_simulation(simulated: &SimulationView) -> String {
    let amount = |micro| MicroCredits(micro).to_string();
    let row = |what: &str, who: &str, sums: &Simulated| {
        vec![what.to_owned(), who.to_owned(), amount(sums.was_micro_credits), amount(sums.would_be_micro_credits)]
    };
    let mut rows = Vec::new();
    rows.extend(simulated.owners.iter().map(|owner| row("earned", &owner.account, &owner.sums)));
    rows.push(row("earned", "all", &simulated.earned));
    rows.extend(simulated.requesters.iter().map(|asker| row("charged", &asker.account, &asker.sums)));
    rows.push(row("charged", "all", &simulated.charged));
    let from = caii_trust::format_time(Timestamp(simulated.since_ms));
    let table = table(&["", "account", "was", "would be"], &rows);
    format!("{} accepted receipts since {from}, in credits\n{table}", simulated.receipts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_clause_is_set_by_its_name_and_nothing_else_is() {
        let mut tariff = json!({"number": 1, "compute": {"microCreditsPerGigaFuel": 5}, "price": {"poolFeePpm": 0}});
        set(&mut tariff, "compute.microCreditsPerGigaFuel=7").unwrap();
        assert_eq!(tariff["compute"]["microCreditsPerGigaFuel"], json!(7));
        for wrong in ["compute=1", "compute.rate=1", "compute.microCreditsPerGigaFuel", "price.poolFeePpm=-1", "x=1.5"]
        {
            let error = set(&mut tariff, wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        let error = set(&mut tariff, "nothing=1").unwrap_err().to_string();
        assert!(error.contains("compute.microCreditsPerGigaFuel, price.poolFeePpm"), "{error}");
    }
}
