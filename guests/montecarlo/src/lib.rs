//! Monte Carlo simulation: estimates with their standard error, the same bits everywhere.

mod option;
mod pi;

use serde::Deserialize;
use serde_json::json;

/// Most random paths times steps in one item; about a minute of work.
const MAX_DRAWS: u64 = 1_000_000_000;

/// Most steps of a path, which is held in memory.
const MAX_STEPS: u64 = 1_000_000;

/// What an item asks for.
#[derive(Deserialize)]
#[serde(tag = "simulation", rename_all = "lowercase", deny_unknown_fields)]
enum Task {
    /// The share of random points that lie within the circle.
    Pi(pi::Pi),
    /// The price of an option on one asset that follows geometric Brownian motion.
    Option(option::OptionPrice),
}

/// Runs the simulation that `item`, a JSON object, describes; the result is a JSON object.
///
/// # Errors
/// The item is malformed or its numbers make no sense, or there are arguments.
pub fn run(item: &[u8], args: &[String]) -> Result<Vec<u8>, String> {
    if let Some(arg) = args.first() {
        return Err(format!("this program takes no arguments, such as {arg:?}"));
    }
    let task: Task = serde_json::from_slice(item).map_err(|error| format!("the item is no simulation: {error}"))?;
    let (estimate, exact) = match task {
        Task::Pi(pi) => (pi.run()?, Some(std::f64::consts::PI)),
        Task::Option(option) => (option.run()?, option.exact()),
    };
    let mut result = json!({
        "estimate": estimate.mean,
        "standard_error": estimate.standard_error(),
        "samples": estimate.samples,
    });
    if let Some(exact) = exact {
        result["exact"] = json!(exact);
    }
    Ok(result.to_string().into_bytes())
}

/// Mean and spread of samples as they come (Welford).
#[derive(Debug, Default)]
struct Estimate {
    samples: u64,
    mean: f64,
    squares: f64,
}

impl Estimate {
    fn add(&mut self, value: f64) {
        self.samples += 1;
        let before = value - self.mean;
        self.mean += before / self.samples as f64;
        self.squares += before * (value - self.mean);
    }

    fn standard_error(&self) -> f64 {
        if self.samples < 2 {
            return 0.0;
        }
        let samples = self.samples as f64;
        libm::sqrt(self.squares / (samples - 1.0) / samples)
    }
}

/// Refuses what would take too long or gives no estimate.
fn check_draws(samples: u64, steps: u64) -> Result<(), String> {
    if samples < 2 {
        return Err(format!("'samples' is {samples}; an estimate needs at least 2"));
    }
    if steps > MAX_STEPS {
        return Err(format!("'steps' is {steps}; it can be at most {MAX_STEPS}"));
    }
    if steps == 0 || samples.checked_mul(steps).is_none_or(|draws| draws > MAX_DRAWS) {
        return Err(format!(
            "'samples' {samples} times 'steps' {steps} must be between 1 and {MAX_DRAWS}; use several items with \
             different seeds for more"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(item: &str) -> Result<serde_json::Value, String> {
        run(item.as_bytes(), &[]).map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    /// The estimate must lie within four standard errors of `exact`, or of what the result itself says is exact.
    fn check_close(item: &str, exact: Option<f64>, largest_error: f64) {
        let result = result(item).unwrap();
        let number = |name: &str| result[name].as_f64().unwrap();
        let (estimate, error) = (number("estimate"), number("standard_error"));
        let exact = exact.unwrap_or_else(|| number("exact"));
        assert!((estimate - exact).abs() < 4.0 * error, "{item}: {estimate} ± {error} is not {exact}");
        assert!(error > 0.0 && error < largest_error, "{item}: {error}");
    }

    #[test]
    fn pi_is_found() {
        check_close(r#"{"simulation": "pi", "samples": 200000, "seed": 1}"#, None, 0.005);
    }

    #[test]
    fn option_prices_agree_with_black_and_scholes() {
        let item = |extra: &str| {
            format!(
                r#"{{"simulation": "option", "spot": 100, "strike": 105, "rate": 0.03, "volatility": 0.2, "years": 1,
                    "samples": 100000, "seed": 3, {extra}}}"#
            )
        };
        check_close(&item(r#""kind": "call""#), Some(7.128_06), 0.05);
        check_close(&item(r#""kind": "put""#), None, 0.05);
        check_close(&item(r#""kind": "put", "steps": 4"#), None, 0.05);
        check_close(&item(r#""kind": "call", "antithetic": true"#), None, 0.04);
    }

    #[test]
    fn an_asian_option_is_cheaper_than_a_plain_one() {
        let price = |kind: &str| {
            let item = format!(
                r#"{{"simulation": "option", "kind": "{kind}", "spot": 100, "strike": 100, "rate": 0.05,
                    "volatility": 0.3, "years": 1, "steps": 12, "samples": 20000, "seed": 3}}"#
            );
            result(&item).unwrap()
        };
        assert!(price("asian-call")["estimate"].as_f64() < price("call")["estimate"].as_f64());
        assert_eq!(price("asian-call")["exact"], serde_json::Value::Null);
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        let with_seed = |seed: u64| {
            run(format!(r#"{{"simulation": "pi", "samples": 1000, "seed": {seed}}}"#).as_bytes(), &[]).unwrap()
        };
        assert_eq!(with_seed(5), with_seed(5));
        assert_ne!(with_seed(5), with_seed(6));
    }

    #[test]
    fn nonsense_is_refused() {
        for (item, words) in [
            ("{}", "the item is no simulation: missing field `simulation`"),
            (r#"{"simulation": "e"}"#, "unknown variant `e`"),
            (r#"{"simulation": "pi", "samples": 10, "sead": 1}"#, "unknown field `sead`"),
            (r#"{"simulation": "pi", "samples": 1, "seed": 1}"#, "'samples' is 1"),
            (r#"{"simulation": "pi", "samples": 2000000000, "seed": 1}"#, "must be between 1 and 1000000000"),
            (
                r#"{"simulation": "option", "kind": "call", "spot": -1, "strike": 1, "rate": 0, "volatility": 0.1,
                    "years": 1, "samples": 10, "seed": 1}"#,
                "'spot' is -1",
            ),
        ] {
            let refusal = result(item).unwrap_err();
            assert!(refusal.contains(words), "{item}: {refusal}");
        }
    }
}
