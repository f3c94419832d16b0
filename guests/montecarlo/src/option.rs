//! The price of an option on one asset that follows geometric Brownian motion.

use caii_guest::Random;
use serde::Deserialize;

use crate::{Estimate, check_draws};

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Call,
    Put,
    /// Like `Call`, on the mean of the prices after each step.
    AsianCall,
    /// Like `Put`, on the mean of the prices after each step.
    AsianPut,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptionPrice {
    kind: Kind,
    spot: f64,
    strike: f64,
    /// Risk-free rate a year, continuously compounded.
    rate: f64,
    /// Standard deviation of the logarithmic return a year.
    volatility: f64,
    years: f64,
    #[serde(default = "one_step")]
    steps: u64,
    samples: u64,
    seed: u64,
    /// Pairs each path with its mirror image; a sample is then the mean of the two.
    #[serde(default)]
    antithetic: bool,
}

fn one_step() -> u64 {
    1
}

impl OptionPrice {
    pub(crate) fn run(&self) -> Result<Estimate, String> {
        for (name, value) in [("spot", self.spot), ("strike", self.strike), ("years", self.years)] {
            check_between(name, value, 1e-9, 1e12)?;
        }
        check_between("rate", self.rate, -10.0, 10.0)?;
        check_between("volatility", self.volatility, 0.0, 10.0)?;
        check_draws(self.samples, self.steps)?;

        let step = self.years / self.steps as f64;
        let drift = (self.rate - self.volatility * self.volatility / 2.0) * step;
        let diffusion = self.volatility * libm::sqrt(step);
        let discount = libm::exp(-self.rate * self.years);
        let mut estimate = Estimate::default();
        let mut random = Random::new(self.seed, 0);
        let mut shocks = vec![0.0; usize::try_from(self.steps).map_err(|_| "'steps' is too large")?];
        for _ in 0..self.samples {
            shocks.fill_with(|| random.normal());
            let mut payoff = self.payoff(&shocks, drift, diffusion);
            if self.antithetic {
                payoff = (payoff + self.payoff(&shocks, drift, -diffusion)) / 2.0;
            }
            estimate.add(discount * payoff);
        }
        Ok(estimate)
    }

    fn payoff(&self, shocks: &[f64], drift: f64, diffusion: f64) -> f64 {
        let (mut logarithm, mut sum) = (libm::log(self.spot), 0.0);
        for shock in shocks {
            logarithm += drift + diffusion * shock;
            if matches!(self.kind, Kind::AsianCall | Kind::AsianPut) {
                sum += libm::exp(logarithm);
            }
        }
        let gain = match self.kind {
            Kind::Call => libm::exp(logarithm) - self.strike,
            Kind::Put => self.strike - libm::exp(logarithm),
            Kind::AsianCall => sum / shocks.len() as f64 - self.strike,
            Kind::AsianPut => self.strike - sum / shocks.len() as f64,
        };
        gain.max(0.0)
    }

    /// The formula of Black and Scholes, where it applies.
    pub(crate) fn exact(&self) -> Option<f64> {
        let spread = self.volatility * libm::sqrt(self.years);
        if spread == 0.0 || matches!(self.kind, Kind::AsianCall | Kind::AsianPut) {
            return None;
        }
        let first = (libm::log(self.spot / self.strike)
            + (self.rate + self.volatility * self.volatility / 2.0) * self.years)
            / spread;
        let second = first - spread;
        let strike_now = self.strike * libm::exp(-self.rate * self.years);
        Some(match self.kind {
            Kind::Call => self.spot * cumulative(first) - strike_now * cumulative(second),
            _ => strike_now * cumulative(-second) - self.spot * cumulative(-first),
        })
    }
}

/// The standard normal distribution function.
fn cumulative(x: f64) -> f64 {
    libm::erfc(-x / std::f64::consts::SQRT_2) / 2.0
}

fn check_between(name: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("'{name}' is {value}; it must be between {least} and {most}"))
    }
}
