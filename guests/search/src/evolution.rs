//! An evolution strategy that adapts one step per axis: separable CMA-ES (Ros and Hansen, 2008).

use crate::Search;

/// A population whose steps are all smaller than this share of the bounds has converged.
const CONVERGED: f64 = 1e-14;

/// One descent from a random point. `None` when the budget is used up.
pub(crate) fn descend(search: &mut Search<'_>) -> Option<()> {
    let widths = search.widths();
    let dimensions = widths.len();
    let size = dimensions as f64;
    let children = 4 + (3.0 * libm::log(size)) as usize;
    let parents = children / 2;
    let raw: Vec<f64> = (0..parents).map(|rank| libm::log((parents as f64 + 0.5) / (rank as f64 + 1.0))).collect();
    let total: f64 = raw.iter().sum();
    let weights: Vec<f64> = raw.iter().map(|weight| weight / total).collect();
    let effective = 1.0 / weights.iter().map(|weight| weight * weight).sum::<f64>();

    // The usual settings; learning from single axes alone allows the covariance a faster rate.
    let sigma_rate = (effective + 2.0) / (size + effective + 5.0);
    let sigma_damping = 1.0 + 2.0 * (libm::sqrt((effective - 1.0) / (size + 1.0)) - 1.0).max(0.0) + sigma_rate;
    let path_rate = (4.0 + effective / size) / (size + 4.0 + 2.0 * effective / size);
    let speed = (size + 2.0) / 3.0;
    let rank_one = speed * 2.0 / ((size + 1.3) * (size + 1.3) + effective);
    let rank_mu = (speed * 2.0 * (effective - 2.0 + 1.0 / effective) / ((size + 2.0) * (size + 2.0) + effective))
        .min(1.0 - rank_one);
    let expected_length = libm::sqrt(size) * (1.0 - 1.0 / (4.0 * size) + 1.0 / (21.0 * size * size));

    let mut mean = search.random_point();
    let mut sigma = 0.3;
    let mut variance = vec![1.0; dimensions];
    let mut sigma_path = vec![0.0; dimensions];
    let mut path = vec![0.0; dimensions];
    let mut generation = 0;
    loop {
        let mut population: Vec<(f64, Vec<f64>)> = Vec::with_capacity(children);
        for _ in 0..children {
            let mut point: Vec<f64> = (0..dimensions)
                .map(|axis| mean[axis] + sigma * widths[axis] * libm::sqrt(variance[axis]) * search.random.normal())
                .collect();
            population.push((search.evaluate(&mut point)?, point));
        }
        population.sort_by(|a, b| a.0.total_cmp(&b.0));
        generation += 1;
        let decay = 1.0 - libm::pow(1.0 - sigma_rate, f64::from(2 * generation));
        let mut shifts = vec![0.0; dimensions];
        for axis in 0..dimensions {
            let scale = sigma * widths[axis];
            let next: f64 = weights.iter().zip(&population).map(|(weight, (_, point))| weight * point[axis]).sum();
            shifts[axis] = (next - mean[axis]) / scale;
            sigma_path[axis] = (1.0 - sigma_rate) * sigma_path[axis]
                + libm::sqrt(sigma_rate * (2.0 - sigma_rate) * effective) * shifts[axis] / libm::sqrt(variance[axis]);
        }
        let length = libm::sqrt(sigma_path.iter().map(|x| x * x).sum());
        // A long path means that the step is too short still; the covariance waits until it has grown.
        let waits = length / libm::sqrt(decay) >= (1.4 + 2.0 / (size + 1.0)) * expected_length;
        for axis in 0..dimensions {
            let scale = sigma * widths[axis];
            let push = if waits { 0.0 } else { libm::sqrt(path_rate * (2.0 - path_rate) * effective) * shifts[axis] };
            path[axis] = (1.0 - path_rate) * path[axis] + push;
            let spread: f64 = weights
                .iter()
                .zip(&population)
                .map(|(weight, (_, point))| {
                    let step = (point[axis] - mean[axis]) / scale;
                    weight * step * step
                })
                .sum();
            variance[axis] =
                (1.0 - rank_one - rank_mu) * variance[axis] + rank_one * path[axis] * path[axis] + rank_mu * spread;
            mean[axis] += shifts[axis] * scale;
        }
        sigma *= libm::exp(sigma_rate / sigma_damping * (length / expected_length - 1.0));
        let largest = variance.iter().copied().fold(0.0, f64::max);
        let flat = population[0].0 == population[children - 1].0;
        if flat || !sigma.is_finite() || sigma * libm::sqrt(largest) < CONVERGED || largest == 0.0 {
            return Some(());
        }
    }
}
