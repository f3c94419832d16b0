//! What a job would cost: for `caii job quote` and `--dry-run`.

use crate::client::Client;
use crate::error::CliError;
use crate::output::{self, Format, thousands};
use caii_model::{MicroCredits, Millis, NoCredits, Ppm, Verification};
use caii_node::views::{QuoteAsk, QuoteView};
use reqwest::Method;

/// Parses credits as people write them.
pub(crate) fn credits(text: &str) -> Result<MicroCredits, String> {
    text.parse().map_err(|error: NoCredits| error.to_string())
}

/// Asks the pool, which checks and splits the input as a job's, and takes the uploaded input back.
pub(crate) async fn ask(client: &Client, ask: &QuoteAsk, format: Format) -> Result<(), CliError> {
    let quote: Result<QuoteView, CliError> = client.post("/caii/v1/quotes", ask).await;
    // Whatever the answer was, nothing is to stay behind.
    client.call(Method::DELETE, &format!("/v1/files/{}", ask.input_file_id)).await?;
    output::print(format, &quote?, tell);
    Ok(())
}

fn tell(quote: &QuoteView) -> String {
    let amount = |micro| MicroCredits(micro).to_string();
    let copies = match quote.copies {
        1 => String::new(),
        copies => format!(", each {copies} times"),
    };
    let mut lines = vec![
        format!("costs at most  {} credits; what is not used of it comes back", amount(quote.price_max_micro_credits)),
        format!(
            "which is       {} records in {} tasks{copies}, {} fuel at most, by tariff {}",
            thousands(quote.records),
            thousands(quote.tasks.into()),
            thousands(quote.fuel_max),
            quote.tariff
        ),
    ];
    match &quote.estimate {
        Some(estimate) => {
            lines.push(format!(
                "probably       {} credits and {} fuel, as the last {} tasks of this program took",
                amount(estimate.price_micro_credits),
                thousands(estimate.fuel),
                thousands(estimate.tasks_seen)
            ));
            lines.push(match estimate.duration_ms {
                Some(ms) => format!(
                    "takes          about {}, if the {} tasks that run at a time now are all of this job",
                    Millis(ms),
                    estimate.slots
                ),
                None => "takes          unknown: no device is connected".to_owned(),
            });
        }
        None => {
            lines.push("probably       unknown: this program has not run in this pool yet".to_owned());
            lines.push("takes          unknown".to_owned());
        }
    }
    lines.push(format!("checked        {}: {}", quote.verification, how(quote)));
    lines.push(match quote.error_bound {
        Some(bound) => format!(
            "wrong records  a record that is accepted is wrong with a probability of at most {bound:.1e}, if a tenth of \
             the capacity colludes"
        ),
        None => "wrong records  nothing is promised about devices that lie on purpose".to_owned(),
    });
    let balance = amount(quote.balance_micro_credits);
    lines.push(match (quote.above_limit, quote.affordable) {
        (true, _) => "would not run  it may cost more than --max-price".to_owned(),
        (false, false) => format!("would not run  the account has {balance} credits; `caii account top-up` gives more"),
        (false, true) => format!("would run      the account has {balance} credits"),
    });
    lines.join("\n")
}

fn how(quote: &QuoteView) -> String {
    let share = Ppm(quote.replication_ppm);
    match quote.verification.parse() {
        Ok(Verification::Audit { .. }) => {
            format!("{share} of the items also run on devices of other owners, more of them where devices are new")
        }
        Ok(Verification::Spot) => format!("{share} of the items also run on another device"),
        Ok(Verification::Quorum { results }) => format!("all of it runs on {results} devices of different owners"),
        Ok(Verification::Off) | Err(_) => "nothing runs twice".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_node::views::EstimateView;

    #[test]
    fn people_read_quotes() {
        let mut quote = QuoteView {
            price_max_micro_credits: 12_500_000,
            above_limit: false,
            balance_micro_credits: 20_000_000,
            affordable: true,
            records: 1_000,
            tasks: 10,
            copies: 2,
            fuel_max: 5_000_000,
            tariff: 3,
            tariff_digest: String::new(),
            verification: "quorum=2".to_owned(),
            replication_ppm: 1_000_000,
            error_bound: Some(0.01),
            estimate: None,
        };
        let told = tell(&quote);
        for said in [
            "costs at most  12.5 credits",
            "1,000 records in 10 tasks, each 2 times, 5,000,000 fuel at most, by tariff 3",
            "probably       unknown",
            "all of it runs on 2 devices of different owners",
            "at most 1.0e-2",
            "would run      the account has 20 credits",
        ] {
            assert!(told.contains(said), "{said}: {told}");
        }
        quote.affordable = false;
        quote.verification = "spot".to_owned();
        quote.replication_ppm = 10_000;
        quote.error_bound = None;
        let estimate =
            EstimateView { tasks_seen: 7, price_micro_credits: 1, fuel: 9, duration_ms: Some(61_000), slots: 4 };
        quote.estimate = Some(estimate);
        let told = tell(&quote);
        for said in [
            "probably       0.000001 credits and 9 fuel",
            "about 1 min 1 s",
            "1 % of the items",
            "nothing is promised",
            "top-up",
        ] {
            assert!(told.contains(said), "{said}: {told}");
        }
    }
}
