//! π from the share of random points of a square that lie within its circle.

use caii_guest::Random;
use serde::Deserialize;

use crate::{Estimate, check_draws};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pi {
    samples: u64,
    seed: u64,
}

impl Pi {
    pub(crate) fn run(&self) -> Result<Estimate, String> {
        check_draws(self.samples, 1)?;
        let mut random = Random::new(self.seed, 0);
        let mut estimate = Estimate::default();
        for _ in 0..self.samples {
            let (x, y) = (random.unit(), random.unit());
            estimate.add(if x * x + y * y < 1.0 { 4.0 } else { 0.0 });
        }
        Ok(estimate)
    }
}
