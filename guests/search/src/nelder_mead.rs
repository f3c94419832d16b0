//! The simplex of Nelder and Mead (1965).

use crate::Search;

/// A simplex whose values differ by less than this has shrunk to nothing.
const FLAT: f64 = 1e-15;

/// One descent from a random point. `None` when the budget is used up.
pub(crate) fn descend(search: &mut Search<'_>) -> Option<()> {
    let (value, start) = search.evaluate_random()?;
    let mut simplex = vec![(value, start.clone())];
    for (axis, width) in search.widths().into_iter().enumerate() {
        let mut point = start.clone();
        let (low, high) = search.bounds[axis];
        // Towards the farther bound, so that the corner does not fall onto the start.
        point[axis] += if high - point[axis] > point[axis] - low { 0.1 } else { -0.1 } * width;
        simplex.push((search.evaluate(&mut point)?, point));
    }
    loop {
        // Stable, so that equal values keep their order.
        simplex.sort_by(|a, b| a.0.total_cmp(&b.0));
        let worst_index = simplex.len() - 1;
        let (best, worst) = (simplex[0].0, simplex[worst_index].0);
        if !best.is_finite() || worst - best <= FLAT * (1.0 + best.abs()) {
            return Some(());
        }
        let others = &simplex[..worst_index];
        let centre: Vec<f64> = (0..start.len())
            .map(|axis| others.iter().map(|(_, point)| point[axis]).sum::<f64>() / others.len() as f64)
            .collect();
        let worst_point = simplex[worst_index].1.clone();
        let mut along = |factor: f64| -> Option<(f64, Vec<f64>)> {
            let mut point: Vec<f64> = centre.iter().zip(&worst_point).map(|(c, w)| c + factor * (w - c)).collect();
            search.evaluate(&mut point).map(|value| (value, point))
        };
        let reflected = along(-1.0)?;
        let replacement = if reflected.0 < best {
            let expanded = along(-2.0)?;
            Some(if expanded.0 < reflected.0 { expanded } else { reflected })
        } else if reflected.0 < simplex[worst_index - 1].0 {
            Some(reflected)
        } else {
            let contracted = along(if reflected.0 < worst { -0.5 } else { 0.5 })?;
            (contracted.0 < worst.min(reflected.0)).then_some(contracted)
        };
        if let Some(replacement) = replacement {
            simplex[worst_index] = replacement;
            continue;
        }
        let anchor = simplex[0].1.clone();
        for (value, point) in &mut simplex[1..] {
            point.iter_mut().zip(&anchor).for_each(|(x, a)| *x = a + (*x - a) / 2.0);
            *value = search.evaluate(point)?;
        }
    }
}
