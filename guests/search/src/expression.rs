//! Expressions such as `(x0 - 1)^2 + sin(x1)`, parsed once into a list of steps for a stack.

/// Longest expression in bytes.
const MAX_BYTES: usize = 10_000;

/// Deepest nesting of parentheses and signs.
const MAX_DEPTH: usize = 100;

/// A parsed expression.
pub(crate) struct Expression {
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Step {
    Number(f64),
    Parameter(usize),
    One(fn(f64) -> f64),
    Two(fn(f64, f64) -> f64),
}

const FUNCTIONS: [(&str, fn(f64) -> f64); 9] = [
    ("sin", libm::sin),
    ("cos", libm::cos),
    ("tan", libm::tan),
    ("tanh", libm::tanh),
    ("exp", libm::exp),
    ("log", libm::log),
    ("sqrt", libm::sqrt),
    ("abs", libm::fabs),
    ("floor", libm::floor),
];

impl Expression {
    pub(crate) fn parse(text: &str, parameters: usize) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the objective is longer than {MAX_BYTES} bytes"));
        }
        let mut parser = Parser { rest: text, steps: Vec::new(), parameters, depth: 0 };
        parser.sum()?;
        let rest = parser.rest.trim_start();
        if !rest.is_empty() {
            return Err(format!("the objective has {rest:?} where an operator or its end should be"));
        }
        Ok(Self { steps: parser.steps })
    }

    pub(crate) fn value(&self, point: &[f64]) -> f64 {
        let mut stack: Vec<f64> = Vec::with_capacity(16);
        for step in &self.steps {
            // The parser emits each operand before what takes it.
            let mut operand = || stack.pop().expect("an operator comes behind its operands");
            let value = match step {
                Step::Number(number) => *number,
                Step::Parameter(index) => point[*index],
                Step::One(function) => function(operand()),
                Step::Two(function) => {
                    let (right, left) = (operand(), operand());
                    function(left, right)
                }
            };
            stack.push(value);
        }
        stack.pop().expect("an expression leaves one value")
    }
}

struct Parser<'a> {
    rest: &'a str,
    steps: Vec<Step>,
    parameters: usize,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, symbol: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(symbol);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self) -> Result<(), String> {
        self.product()?;
        loop {
            if self.take('+') {
                self.product()?;
                self.steps.push(Step::Two(|a, b| a + b));
            } else if self.take('-') {
                self.product()?;
                self.steps.push(Step::Two(|a, b| a - b));
            } else {
                return Ok(());
            }
        }
    }

    fn product(&mut self) -> Result<(), String> {
        self.signed()?;
        loop {
            if self.take('*') {
                self.signed()?;
                self.steps.push(Step::Two(|a, b| a * b));
            } else if self.take('/') {
                self.signed()?;
                self.steps.push(Step::Two(|a, b| a / b));
            } else {
                return Ok(());
            }
        }
    }

    /// A sign binds less than a power: -x^2 is -(x^2).
    fn signed(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the objective is nested deeper than {MAX_DEPTH}"));
        }
        if self.take('-') {
            self.signed()?;
            self.steps.push(Step::One(|a| -a));
        } else {
            self.atom()?;
            if self.take('^') {
                self.signed()?;
                self.steps.push(Step::Two(libm::pow));
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn atom(&mut self) -> Result<(), String> {
        if self.take('(') {
            self.sum()?;
            return self.close();
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(match rest.chars().next() {
                None => "the objective ends where a value should stand".to_owned(),
                Some(c) => format!("the objective has {c:?} where a value should stand"),
            });
        }
        self.rest = rest;
        if word.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let number = word.parse().map_err(|_| format!("the objective has {word:?}, which is no number"))?;
            self.steps.push(Step::Number(number));
        } else if let Some((_, function)) = FUNCTIONS.iter().find(|(name, _)| *name == word) {
            self.open(word)?;
            self.sum()?;
            self.close()?;
            self.steps.push(Step::One(*function));
        } else if let Some(function) = two_place(word) {
            self.open(word)?;
            self.sum()?;
            if !self.take(',') {
                return Err(format!("{word} in the objective takes two values with a comma between"));
            }
            self.sum()?;
            self.close()?;
            self.steps.push(Step::Two(function));
        } else if word == "pi" {
            self.steps.push(Step::Number(std::f64::consts::PI));
        } else {
            self.parameter(word)?;
        }
        Ok(())
    }

    fn parameter(&mut self, word: &str) -> Result<(), String> {
        let index: usize = word.strip_prefix('x').and_then(|digits| digits.parse().ok()).ok_or_else(|| {
            let functions = FUNCTIONS.map(|(name, _)| name).join(", ");
            format!("there is no {word:?}: the objective may use x0, x1 and so on, pi, {functions}, min and max")
        })?;
        if index >= self.parameters {
            return Err(format!("there is no {word}: the bounds give x0 to x{}", self.parameters - 1));
        }
        self.steps.push(Step::Parameter(index));
        Ok(())
    }

    fn open(&mut self, word: &str) -> Result<(), String> {
        if self.take('(') { Ok(()) } else { Err(format!("{word} in the objective lacks its parenthesis")) }
    }

    fn close(&mut self) -> Result<(), String> {
        if self.take(')') { Ok(()) } else { Err("the objective lacks a closing parenthesis".to_owned()) }
    }
}

fn two_place(word: &str) -> Option<fn(f64, f64) -> f64> {
    match word {
        "min" => Some(libm::fmin),
        "max" => Some(libm::fmax),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_the_values_that_arithmetic_gives_them() {
        for (text, value) in [
            ("1 + 2 * 3 - 4 / 2", 5.0),
            ("-x0^2", -9.0),
            ("2^3^2", 512.0),
            ("2 ^ -1", 0.5),
            ("--1", 1.0),
            ("10 - 2 - 3", 5.0),
            ("(x0 + x1) * .5", 3.5),
            ("max(min(x0, x1), 1) + abs(0 - 2) + sqrt(16) + floor(1.5)", 10.0),
            ("cos(0) + sin(pi / 2) + exp(0) + log(1) + tanh(0)", 3.0),
        ] {
            let expression = Expression::parse(text, 2).unwrap();
            assert!((expression.value(&[3.0, 4.0]) - value).abs() < 1e-12, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("", "the objective ends where a value should stand"),
            ("1 + * 2", "the objective has '*' where a value should stand"),
            ("(1", "lacks a closing parenthesis"),
            ("1 2", "has \"2\" where an operator or its end should be"),
            ("1.2.3", "\"1.2.3\", which is no number"),
            ("sin 1", "sin in the objective lacks its parenthesis"),
            ("min(1)", "min in the objective takes two values"),
            ("y", "there is no \"y\""),
            ("x2", "there is no x2: the bounds give x0 to x1"),
            (&"(".repeat(9_000), "nested deeper than 100"),
            (&"-".repeat(9_000), "nested deeper than 100"),
            (&"1+".repeat(9_000), "longer than 10000 bytes"),
        ] {
            let refusal = Expression::parse(text, 2).err().unwrap();
            assert!(refusal.contains(words), "{text:.20}: {refusal}");
        }
    }
}
