//! Parameter search: the smallest value of a function within bounds.

mod evolution;
mod expression;
mod nelder_mead;
mod objective;

use caii_guest::Random;
use serde::Deserialize;
use serde_json::json;

use objective::Objective;

/// Most parameters of a function.
const MAX_PARAMETERS: usize = 100;

/// Most evaluations of the function in one item.
const MAX_BUDGET: u64 = 10_000_000;

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Method {
    /// Points drawn evenly from the bounds.
    Random,
    /// The simplex of Nelder and Mead, begun anew at a random point whenever it has shrunk to nothing.
    NelderMead,
    /// An evolution strategy that adapts its step along each axis (separable CMA-ES), begun anew likewise.
    Evolution,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    objective: String,
    /// Lower and upper bound of each parameter.
    bounds: Vec<(f64, f64)>,
    method: Method,
    /// How often the function may be evaluated.
    budget: u64,
    seed: u64,
}

/// Runs the search that `item`, a JSON object, describes; the result is a JSON object.
///
/// # Errors
/// The item is malformed, its objective or bounds make no sense, or there are arguments.
pub fn run(item: &[u8], args: &[String]) -> Result<Vec<u8>, String> {
    if let Some(arg) = args.first() {
        return Err(format!("this program takes no arguments, such as {arg:?}"));
    }
    let task: Task = serde_json::from_slice(item).map_err(|error| format!("the item is no search: {error}"))?;
    if task.bounds.is_empty() || task.bounds.len() > MAX_PARAMETERS {
        return Err(format!("'bounds' has {} entries; between 1 and {MAX_PARAMETERS} are possible", task.bounds.len()));
    }
    for (index, (low, high)) in task.bounds.iter().enumerate() {
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(format!("'bounds' at index {index} is [{low}, {high}]; the first must be smaller"));
        }
    }
    if task.budget == 0 || task.budget > MAX_BUDGET {
        return Err(format!("'budget' is {}; it must be between 1 and {MAX_BUDGET}", task.budget));
    }
    let objective = Objective::parse(&task.objective, task.bounds.len())?;
    let mut search = Search {
        objective: &objective,
        bounds: &task.bounds,
        left: task.budget,
        best: None,
        random: Random::new(task.seed, 0),
    };
    match task.method {
        Method::Random => while search.evaluate_random().is_some() {},
        Method::NelderMead => while nelder_mead::descend(&mut search).is_some() {},
        Method::Evolution => while evolution::descend(&mut search).is_some() {},
    }
    let Some((value, point)) = search.best else {
        return Err("the objective was no number anywhere that the search looked".to_owned());
    };
    Ok(json!({ "value": value, "point": point, "evaluations": task.budget }).to_string().into_bytes())
}

/// A search under way. Its methods return `None` when the budget is used up, which ends every method of search.
struct Search<'a> {
    objective: &'a Objective,
    bounds: &'a [(f64, f64)],
    left: u64,
    best: Option<(f64, Vec<f64>)>,
    random: Random,
}

impl Search<'_> {
    /// The value at `point`, which is moved to the bounds where it lies outside; no number counts as infinity.
    fn evaluate(&mut self, point: &mut [f64]) -> Option<f64> {
        self.left = self.left.checked_sub(1)?;
        for (x, (low, high)) in point.iter_mut().zip(self.bounds) {
            *x = x.clamp(*low, *high);
        }
        let value = self.objective.value(point);
        if value.is_finite() && self.best.as_ref().is_none_or(|(best, _)| value < *best) {
            self.best = Some((value, point.to_vec()));
        }
        Some(if value.is_nan() { f64::INFINITY } else { value })
    }

    fn evaluate_random(&mut self) -> Option<(f64, Vec<f64>)> {
        let mut point = self.random_point();
        self.evaluate(&mut point).map(|value| (value, point))
    }

    fn random_point(&mut self) -> Vec<f64> {
        let random = &mut self.random;
        self.bounds.iter().map(|(low, high)| low + (high - low) * random.unit()).collect()
    }

    fn widths(&self) -> Vec<f64> {
        self.bounds.iter().map(|(low, high)| high - low).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(item: &serde_json::Value) -> Result<serde_json::Value, String> {
        run(item.to_string().as_bytes(), &[]).map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    fn check_found(objective: &str, method: &str, bounds: &[(f64, f64)], largest: f64) {
        let item = json!({ "objective": objective, "bounds": bounds, "method": method, "budget": 20_000, "seed": 1 });
        let value = result(&item).unwrap()["value"].as_f64().unwrap();
        assert!(value <= largest, "{objective} by {method}: {value}");
    }

    #[test]
    fn known_minima_are_found() {
        let square = [(-5.0, 5.0); 2];
        check_found("sphere", "random", &square, 0.05);
        check_found("rosenbrock", "nelder-mead", &square, 1e-12);
        check_found("ackley", "evolution", &[(-30.0, 30.0); 4], 1e-6);
        check_found("rastrigin", "nelder-mead", &square, 1e-9);
        check_found("(x0 - 1)^2 + abs(x1 + 2) + 3", "evolution", &square, 3.000_001);
    }

    #[test]
    fn the_best_point_lies_within_the_bounds() {
        for method in ["random", "nelder-mead", "evolution"] {
            let item = json!({ "objective": "x0 + x1", "bounds": [[1, 2], [3, 9]], "method": method, "budget": 500, "seed": 2 });
            let found = result(&item).unwrap();
            let value = found["value"].as_f64().unwrap();
            assert!((4.0..5.0).contains(&value), "{method}: {found}");
            assert_eq!(found["evaluations"], 500);
        }
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        let with_seed = |seed: u64| {
            let bounds = [(-1.0, 1.0); 3];
            result(&json!({ "objective": "ackley", "bounds": bounds, "method": "random", "budget": 9, "seed": seed }))
        };
        assert_eq!(with_seed(5), with_seed(5));
        assert_ne!(with_seed(5), with_seed(6));
    }

    #[test]
    fn nonsense_is_refused() {
        let base = json!({ "objective": "sphere", "bounds": [[0, 1]], "method": "random", "budget": 9, "seed": 1 });
        for (field, value, words) in [
            ("objective", json!("x0 +"), "the objective ends where a value should stand"),
            ("objective", json!("x1"), "there is no x1: the bounds give x0 to x0"),
            ("objective", json!("log(0 - 1) + 0 * x0"), "was no number anywhere"),
            ("objective", json!("rosenbrock"), "needs at least 2 parameters"),
            ("bounds", json!([]), "'bounds' has 0 entries"),
            ("bounds", json!([[1, 1]]), "'bounds' at index 0 is [1, 1]"),
            ("budget", json!(0), "'budget' is 0"),
            ("method", json!("guess"), "unknown variant `guess`"),
            ("speed", json!(1), "unknown field `speed`"),
        ] {
            let mut item = base.clone();
            item[field] = value;
            let refusal = result(&item).unwrap_err();
            assert!(refusal.contains(words), "{item}: {refusal}");
        }
    }
}
