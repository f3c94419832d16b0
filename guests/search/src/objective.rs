//! What is minimised: a test function by name, or an expression.

use std::f64::consts::TAU;

use crate::expression::Expression;

pub(crate) enum Objective {
    /// A sum of squares; 0 at the origin.
    Sphere,
    /// A narrow bent valley; 0 where all parameters are 1.
    Rosenbrock,
    /// Many even dents; 0 at the origin.
    Rastrigin,
    /// Many dents in a funnel; 0 at the origin.
    Ackley,
    Expression(Expression),
}

impl Objective {
    pub(crate) fn parse(text: &str, parameters: usize) -> Result<Self, String> {
        match text {
            "sphere" => Ok(Self::Sphere),
            "rosenbrock" if parameters < 2 => Err("rosenbrock needs at least 2 parameters".to_owned()),
            "rosenbrock" => Ok(Self::Rosenbrock),
            "rastrigin" => Ok(Self::Rastrigin),
            "ackley" => Ok(Self::Ackley),
            expression => Expression::parse(expression, parameters).map(Self::Expression),
        }
    }

    pub(crate) fn value(&self, point: &[f64]) -> f64 {
        let squares = || point.iter().map(|x| x * x).sum::<f64>();
        let cosines = || point.iter().map(|x| libm::cos(TAU * x)).sum::<f64>();
        let count = point.len() as f64;
        match self {
            Self::Sphere => squares(),
            Self::Rosenbrock => point
                .windows(2)
                .map(|pair| {
                    let (bend, slope) = (pair[1] - pair[0] * pair[0], 1.0 - pair[0]);
                    100.0 * bend * bend + slope * slope
                })
                .sum(),
            Self::Rastrigin => 10.0 * count + squares() - 10.0 * cosines(),
            Self::Ackley => {
                20.0 + std::f64::consts::E
                    - 20.0 * libm::exp(-0.2 * libm::sqrt(squares() / count))
                    - libm::exp(cosines() / count)
            }
            Self::Expression(expression) => expression.value(point),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_their_minima_where_they_should() {
        for (name, minimum) in [("sphere", 0.0), ("rosenbrock", 1.0), ("rastrigin", 0.0), ("ackley", 0.0)] {
            let objective = Objective::parse(name, 3).unwrap();
            assert!(objective.value(&[minimum; 3]).abs() < 1e-12, "{name}");
            assert!(objective.value(&[minimum, minimum, minimum + 0.1]) > 0.01, "{name}");
        }
    }
}
