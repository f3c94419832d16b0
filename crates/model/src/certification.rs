//! What a certification is about: what a workload may be used for, on which data, where, and on which runtime.

use std::fmt;
use std::str::FromStr;

/// A word that is not among those that are known. Unknown means refused, never ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordUnknown {
    /// What was to be read.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// What is known.
    pub known: String,
}

impl fmt::Display for WordUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, known } = self;
        write!(f, "`{found}` is no {what}; expected {known}")
    }
}

impl std::error::Error for WordUnknown {}

/// A closed set of words: one table for writing, reading and listing.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = WordUnknown;

            fn from_str(text: &str) -> Result<Self, WordUnknown> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| WordUnknown {
                    what: $what,
                    found: text.chars().take(64).collect(),
                    known: Self::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

words! {
    /// What a workload may be used for. Closed: what is not here cannot be certified.
    UseCategory, "use category",
    /// Texts or images to vectors.
    Embedding = "embedding",
    /// Labels for records.
    Classification = "classification",
    /// Facts out of documents.
    Extraction = "extraction",
    /// Shorter texts out of longer ones.
    Summarisation = "summarisation",
    /// One language to another.
    Translation = "translation",
    /// New text, images or sound.
    Generation = "generation",
    /// How well models or programs do.
    Evaluation = "evaluation",
    /// Filtering, counting, converting, removing duplicates.
    DataProcessing = "data-processing",
    /// Computation for science and engineering.
    Simulation = "simulation",
}

words! {
    /// How sensitive the data may be that a workload is given.
    DataTier, "data tier",
    /// Public or synthetic.
    Public = "t0",
    /// Internal and not personal; visible to the device that works on it.
    Internal = "t1",
    /// Secret-shared or homomorphically encrypted.
    Encrypted = "t2",
    /// On attested hardware that a certified operator hosts.
    Attested = "t3",
}

impl DataTier {
    /// What the data is like, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Public => "public or synthetic data",
            Self::Internal => "internal, non-personal data",
            Self::Encrypted => "encrypted or secret-shared data",
            Self::Attested => "data for attested hardware",
        }
    }
}

impl crate::RuntimeClass {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
        }
    }
}

/// Where a device stands, as charters name regions: `eu`, `us`, `in`, or [`Region::ANY`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region(String);

impl Region {
    /// The name of every place that has no mandate of its own.
    pub const ANY: &str = "any";
    /// Characters of a region's name.
    pub const LEN_MAX: usize = 32;

    /// Every place that has no mandate of its own.
    pub fn any() -> Self {
        Self(Self::ANY.to_owned())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = WordUnknown;

    fn from_str(text: &str) -> Result<Self, WordUnknown> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > Self::LEN_MAX || !text.bytes().all(plain) {
            return Err(WordUnknown {
                what: "region",
                found: text.chars().take(64).collect(),
                known: "1 to 32 lower-case letters, digits and `-`, as `eu` or `any`".to_owned(),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

/// The version of the engine that runs programs: `48.0.8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuntimeVersion(pub [u32; 3]);

impl fmt::Display for RuntimeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for RuntimeVersion {
    type Err = WordUnknown;

    fn from_str(text: &str) -> Result<Self, WordUnknown> {
        let part = |part: &str| {
            let plain = part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            part.parse::<u32>().ok().filter(|_| plain)
        };
        let parts: Option<Vec<u32>> = text.split('.').map(part).collect();
        parts.and_then(|parts| parts.try_into().ok()).map(Self).ok_or_else(|| WordUnknown {
            what: "version",
            found: text.chars().take(64).collect(),
            known: "three numbers, as `48.0.8`".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written_and_nothing_else() {
        for word in UseCategory::ALL {
            assert_eq!(word.to_string().parse(), Ok(*word));
        }
        for word in DataTier::ALL {
            assert_eq!(word.to_string().parse(), Ok(*word));
        }
        assert!("Embedding".parse::<UseCategory>().is_err());
        let error = "t9".parse::<DataTier>().unwrap_err().to_string();
        assert_eq!(error, "`t9` is no data tier; expected t0, t1, t2, t3");
    }

    #[test]
    fn regions_and_versions() {
        assert_eq!("eu-west".parse::<Region>().unwrap().as_str(), "eu-west");
        assert_eq!("any".parse(), Ok(Region::any()));
        for bad in ["", "EU", "e u", "é", &"x".repeat(33)] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
        assert_eq!("48.0.8".parse(), Ok(RuntimeVersion([48, 0, 8])));
        assert!(RuntimeVersion([48, 0, 10]) > RuntimeVersion([48, 0, 8]));
        for bad in ["", "48", "48.0", "48.0.8.1", "48.0.x", "48.00.8", "+1.0.0", "48.0.-1", "4294967296.0.0"] {
            assert!(bad.parse::<RuntimeVersion>().is_err(), "{bad}");
        }
    }
}
