//! Texts that every SEPA bank takes: basic Latin letters, digits, and a few signs.

use std::fmt;
use thiserror::Error;

/// A text in the character set of SEPA, of bounded length, that begins with a letter or digit.
///
/// Other letters are refused rather than replaced: whose name it is knows best how their bank writes it. Beginning with
/// a letter or digit keeps out slashes, which banks refuse there, and signs that make a spreadsheet calculate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SepaText(String);

/// Why a text cannot be sent to a bank.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// It is empty.
    #[error("a text is missing")]
    Empty,
    /// It is too long.
    #[error("the text has {found} characters; banks take at most {max}: shorten it")]
    TooLong {
        /// How many characters it has.
        found: usize,
        /// How many it may have.
        max: usize,
    },
    /// A character is not in the set.
    #[error(
        "`{found}` (character {place}) is not among the letters a-z, A-Z, digits, spaces and / - ? : ( ) . , ' + that \
         all banks take: write it as the account's bank does"
    )]
    Character {
        /// Which.
        found: char,
        /// Its place, from 1.
        place: usize,
    },
    /// It begins with a sign or a space.
    #[error("the text begins with `{0}`; it must begin with a letter or a digit")]
    Start(char),
    /// It ends with a space, or has two slashes or spaces together.
    #[error("the text has `//`, two spaces together, or a space at its end; banks refuse or change such texts")]
    Spacing,
}

impl SepaText {
    /// Characters of a person's or organisation's name.
    pub const NAME_MAX: usize = 70;
    /// Characters of what a payment is for.
    pub const REMITTANCE_MAX: usize = 140;

    /// The text, if banks take it.
    ///
    /// # Errors
    /// If they do not.
    pub fn new(text: &str, max: usize) -> Result<Self, TextError> {
        let Some(first) = text.chars().next() else { return Err(TextError::Empty) };
        let found = text.chars().count();
        if found > max {
            return Err(TextError::TooLong { found, max });
        }
        for (place, found) in (1..).zip(text.chars()) {
            if !found.is_ascii_alphanumeric() && !"/-?:().,'+ ".contains(found) {
                return Err(TextError::Character { found, place });
            }
        }
        if !first.is_ascii_alphanumeric() {
            return Err(TextError::Start(first));
        }
        if text.contains("//") || text.contains("  ") || text.ends_with(' ') {
            return Err(TextError::Spacing);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SepaText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_banks_do_not_take_is_refused() {
        let name = |text: &str| SepaText::new(text, SepaText::NAME_MAX).map(|text| text.as_str().to_owned());
        assert_eq!(name("Anna O'Brien-Smith (2), c/o A.B.+C?:"), Ok("Anna O'Brien-Smith (2), c/o A.B.+C?:".into()));
        assert_eq!(name(""), Err(TextError::Empty));
        assert_eq!(name("Jürgen"), Err(TextError::Character { found: 'ü', place: 2 }));
        assert_eq!(name("A & B"), Err(TextError::Character { found: '&', place: 3 }));
        assert_eq!(name("A\nB"), Err(TextError::Character { found: '\n', place: 2 }));
        assert_eq!(name("<A>"), Err(TextError::Character { found: '<', place: 1 }));
        assert_eq!(name("+1"), Err(TextError::Start('+')));
        assert_eq!(name(" A"), Err(TextError::Start(' ')));
        for bad in ["A//B", "A  B", "A "] {
            assert_eq!(name(bad), Err(TextError::Spacing), "{bad}");
        }
        assert!(name(&"a".repeat(70)).is_ok());
        assert_eq!(name(&"a".repeat(71)), Err(TextError::TooLong { found: 71, max: 70 }));
    }
}
