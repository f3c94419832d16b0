//! The `caii` binary: one file a verb under `commands/`.
//!
//! Data goes to standard output, talk to standard error. Exit status: 0 done, 1 refused or failed, 2 wrong usage,
//! 3 the job itself ended otherwise than completed, 130 interrupted.

mod client;
mod commands;
mod error;
mod manifest_file;
mod output;
mod published;
mod waiting;
mod wiping;

use clap::{Parser, Subcommand};
use error::CliError;
use output::Format;
use std::process::ExitCode;

/// Pools idle machines into one fabric for AI batch work.
#[derive(Debug, Parser)]
#[command(name = "caii", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    pool: client::PoolArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pool, or look at it.
    #[command(subcommand)]
    Pool(commands::pool::Pool),
    /// Lend this machine to a pool.
    #[command(subcommand)]
    Agent(commands::agent::Agent),
    /// Models that batches and OpenAI clients may name.
    #[command(subcommand)]
    Model(commands::model::Model),
    /// Batches in the format of the OpenAI Batch API.
    #[command(subcommand)]
    Batch(commands::batch::Batch),
    /// Jobs: any WebAssembly program over the records of a file. Batches are jobs too.
    #[command(subcommand)]
    Job(commands::job::Job),
    /// The devices that contributors lend.
    #[command(subcommand)]
    Device(commands::device::Device),
    /// API keys of requesters and admins.
    #[command(subcommand)]
    Key(commands::key::Key),
    /// Join tickets for contributors.
    #[command(subcommand)]
    Ticket(commands::ticket::Ticket),
    /// Who may certify programs: their keys, and how many of them it takes. Works on files; no pool is needed.
    #[command(subcommand)]
    Charter(commands::charter::Charter),
    /// Programs and what stewards certified of them. Works on files; no pool is needed.
    #[command(subcommand)]
    Workload(commands::workload::Workload),
    /// What a member has, and where it came from.
    #[command(subcommand)]
    Account(commands::account::Account),
    /// What an account's devices did and earned, by day and workload.
    Earnings(commands::earnings::Earnings),
    /// Why a claim earned what it did, and the proof that it is in the pool's log.
    #[command(subcommand)]
    Receipt(commands::receipt::Receipt),
    /// What work earns and costs.
    #[command(subcommand)]
    Tariff(commands::tariff::Tariff),
    /// What becomes of earned credits, and payments by the bank.
    #[command(subcommand)]
    Payout(commands::payout::Payout),
    /// The pool's books.
    #[command(subcommand)]
    Ledger(commands::ledger::Ledger),
    /// Make embedding requests from text, and compare embeddings.
    #[command(subcommand)]
    Embeddings(commands::embeddings::Embeddings),
    /// Check everything that a pool published: 0 nothing is wrong, 1 something is, 2 it cannot be read. No key is needed.
    Audit(Box<commands::audit::Audit>),
    /// Cosign a log's checkpoints as an independent party. No pool is needed.
    #[command(subcommand)]
    Witness(commands::witness::WitnessCommand),
    /// The process that runs programs; started by the agent.
    #[command(hide = true)]
    Runner,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Runner) {
        return caii_sandbox::runner_main();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("caii: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let format = cli.output;
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => {
            output::error(format, &error);
            error.exit_code()
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode, CliError> {
    let format = cli.output;
    match cli.command {
        Command::Pool(command) => commands::pool::run(command, &cli.pool, format).await,
        Command::Agent(command) => commands::agent::run(command, format).await,
        Command::Model(command) => commands::model::run(command, &cli.pool, format).await,
        Command::Batch(command) => commands::batch::run(command, &cli.pool, format).await,
        Command::Job(command) => commands::job::run(command, &cli.pool, format).await,
        Command::Device(command) => commands::device::run(command, &cli.pool, format).await,
        Command::Key(command) => commands::key::run(command, &cli.pool, format).await,
        Command::Ticket(command) => commands::ticket::run(command, &cli.pool, format).await,
        Command::Charter(command) => commands::charter::run(command, format),
        Command::Workload(command) => commands::workload::run(command, &cli.pool, format).await,
        Command::Account(command) => commands::account::run(command, &cli.pool, format).await,
        Command::Earnings(args) => commands::earnings::run(args, &cli.pool, format).await,
        Command::Receipt(command) => commands::receipt::run(command, &cli.pool, format).await,
        Command::Tariff(command) => commands::tariff::run(command, &cli.pool, format).await,
        Command::Payout(command) => commands::payout::run(command, &cli.pool, format).await,
        Command::Ledger(command) => commands::ledger::run(command, &cli.pool, format).await,
        Command::Embeddings(command) => commands::embeddings::run(command, format),
        Command::Audit(args) => commands::audit::run(*args, &cli.pool, format).await,
        Command::Witness(command) => commands::witness::run(command, &cli.pool, format).await,
        Command::Runner => unreachable!("handled before the runtime starts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The whole reference in one snapshot: what users see changes only in review.
    #[test]
    fn help_tree() {
        fn collect(command: &mut clap::Command, path: &str, text: &mut String) {
            let path =
                if path.is_empty() { command.get_name().to_owned() } else { format!("{path} {}", command.get_name()) };
            // What every command takes is shown once. Nobody's environment belongs into the reference.
            let once = command.clone().mut_args(|arg| {
                let hidden =
                    path.contains(' ') && (arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str()));
                arg.hide(hidden).hide_env_values(true)
            });
            text.push_str(&format!("# {path}\n\n{}\n", once.term_width(110).render_long_help()));
            for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
                collect(sub, &path, text);
            }
        }
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut text = String::new();
        collect(&mut command, "", &mut text);
        // The default directories are those of whoever runs the test.
        let home = std::env::var("HOME").unwrap_or_default();
        insta::assert_snapshot!(text.replace(&home, "~"));
    }
}
