//! The arguments of a guest: words first, then `--name value` pairs.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Arguments taken apart and checked against the names that the program knows.
#[derive(Debug, PartialEq)]
pub struct Options {
    words: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Options {
    /// Takes `args` apart; `known` are the names that may follow `--`.
    ///
    /// # Errors
    /// An unknown or repeated name, a name without its value, or a word behind an option.
    pub fn parse(args: &[String], known: &[&str]) -> Result<Self, String> {
        let (mut words, mut values) = (Vec::new(), BTreeMap::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix("--") else {
                if !values.is_empty() {
                    return Err(format!("{arg:?} stands behind an option; words come first"));
                }
                words.push(arg.clone());
                continue;
            };
            if !known.contains(&name) {
                return Err(format!("there is no option --{name}; there are: --{}", known.join(", --")));
            }
            let value = args.next().ok_or_else(|| format!("--{name} lacks its value"))?;
            if values.insert(name.to_owned(), value.clone()).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Self { words, values })
    }

    /// The words in front of the options.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The value of an option, if it was given.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of an option as one of `choices`; the first of them when it was not given.
    ///
    /// # Errors
    /// The value is none of them.
    pub fn choice<'a>(&self, name: &str, choices: &[&'a str]) -> Result<&'a str, String> {
        let Some(value) = self.text(name) else { return Ok(choices[0]) };
        choices
            .iter()
            .copied()
            .find(|choice| *choice == value)
            .ok_or_else(|| format!("--{name} is {value:?}; it can be {}", choices.join(", ")))
    }

    /// The value of an option as a number within `range`; `default` when it was not given.
    ///
    /// # Errors
    /// The value is no number or lies outside.
    pub fn number<T>(&self, name: &str, default: T, range: RangeInclusive<T>) -> Result<T, String>
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let Some(value) = self.text(name) else { return Ok(default) };
        value
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("--{name} is {value:?}; it must be between {} and {}", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Options, String> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args, &["size", "by"])
    }

    #[test]
    fn words_and_values_are_read() {
        let options = parse("chunk --size 7 --by words").unwrap();
        assert_eq!(options.words(), ["chunk"]);
        assert_eq!(options.number("size", 1, 1..=10), Ok(7));
        assert_eq!(options.choice("by", &["characters", "words"]), Ok("words"));
        assert_eq!(parse("").unwrap().number("size", 1, 1..=10), Ok(1));
        assert_eq!(parse("").unwrap().choice("by", &["characters", "words"]), Ok("characters"));
    }

    #[test]
    fn mistakes_are_named() {
        for (args, words) in [
            ("--sise 7", "there is no option --sise; there are: --size, --by"),
            ("--size", "--size lacks its value"),
            ("--size 1 --size 2", "--size is given twice"),
            ("--size 1 chunk", "\"chunk\" stands behind an option"),
        ] {
            assert!(parse(args).unwrap_err().starts_with(words), "{args}");
        }
        assert_eq!(
            parse("--size 11").unwrap().number("size", 1, 1..=10),
            Err("--size is \"11\"; it must be between 1 and 10".to_owned())
        );
        assert_eq!(
            parse("--by line").unwrap().choice("by", &["characters", "words"]),
            Err("--by is \"line\"; it can be characters, words".to_owned())
        );
    }
}
