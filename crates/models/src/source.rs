//! Where a model comes from, as a person writes it.

use caii_model::Digest;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a model, or one of its files, comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory, a file, or a zip archive (`.zip`, `.whl`) on this machine.
    Path(PathBuf),
    /// A file or zip archive to download.
    Url {
        /// `http://` or `https://`, without fragment.
        url: String,
        /// What the downloaded bytes must hash to.
        sha256: Digest,
    },
    /// A wheel of a Python package, downloaded by the user's own pip.
    Pypi {
        /// The package's name.
        name: String,
        /// Its exact version.
        version: String,
    },
}

/// A text names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing was given.
    #[error("no source: give a file or directory, a URL with its digest, or pypi:NAME==VERSION")]
    Empty,
    /// A URL without a digest.
    #[error("`{url}` has no digest: give --sha256, or write {url}#sha256=HEX, so that what arrives can be checked")]
    NoDigest {
        /// The URL.
        url: String,
    },
    /// A digest that is none.
    #[error("`{url}`: {text:?} is no SHA-256 digest (64 hex digits)")]
    BadDigest {
        /// The URL.
        url: String,
        /// What stands where the digest should.
        text: String,
    },
    /// Two digests for one URL.
    #[error("`{url}` was given two digests, {one} and {other}")]
    TwoDigests {
        /// The URL.
        url: String,
        /// The one in the URL.
        one: Digest,
        /// The other one.
        other: Digest,
    },
    /// Neither http nor https.
    #[error("cannot fetch `{0}`: only http:// and https:// URLs, local paths and pypi:NAME==VERSION are understood")]
    Scheme(String),
    /// A package without an exact version.
    #[error("`{0}` pins no version: write pypi:NAME==VERSION, so that the same model is fetched every time")]
    NoVersion(String),
    /// A package name that cannot exist.
    #[error("`{0}` is no package name: letters, digits, `.`, `_` and `-`")]
    PackageName(String),
    /// A version that cannot exist.
    #[error("`{0}` is no exact version")]
    PackageVersion(String),
}

/// The longest source that is accepted, in bytes.
const LEN_MAX: usize = 4096;

impl Source {
    /// Reads a source; `sha256` is the digest of a URL that carries none itself.
    ///
    /// # Errors
    /// [`SourceError`] says what is wrong and how a source is written.
    pub fn parse(text: &str, sha256: Option<Digest>) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        if let Some(package) = text.strip_prefix("pypi:") {
            return parse_package(package);
        }
        let Some((scheme, _)) = text.split_once("://") else { return Ok(Source::Path(text.into())) };
        if !matches!(scheme, "http" | "https") || text.len() > LEN_MAX {
            return Err(SourceError::Scheme(text.chars().take(200).collect()));
        }
        let (url, fragment) = text.split_once('#').map_or((text, None), |(url, fragment)| (url, Some(fragment)));
        let url = url.to_owned();
        let inside = match fragment {
            None => None,
            Some(fragment) => {
                let digest = fragment.strip_prefix("sha256=").and_then(|hex| hex.parse::<Digest>().ok());
                Some(digest.ok_or_else(|| SourceError::BadDigest { url: url.clone(), text: fragment.to_owned() })?)
            }
        };
        match (inside, sha256) {
            (Some(one), Some(other)) if one != other => Err(SourceError::TwoDigests { url, one, other }),
            (Some(sha256), _) | (None, Some(sha256)) => Ok(Source::Url { url, sha256 }),
            (None, None) => Err(SourceError::NoDigest { url }),
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    /// `pypi:NAME==VERSION`, `https://HOST/FILE#sha256=HEX`, or a path.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        Self::parse(text, None)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => path.display().fmt(f),
            Source::Url { url, sha256 } => write!(f, "{url}#sha256={}", sha256.hex()),
            Source::Pypi { name, version } => write!(f, "pypi:{name}=={version}"),
        }
    }
}

fn parse_package(text: &str) -> Result<Source, SourceError> {
    let Some((name, version)) = text.split_once("==") else {
        return Err(SourceError::NoVersion(format!("pypi:{text}")));
    };
    let word = |text: &str, more: &str| {
        text.len() <= 200
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    // Nothing that passes can be read as an option or a requirement of its own by pip.
    if !word(name, "._-") {
        return Err(SourceError::PackageName(name.to_owned()));
    }
    if !word(version, ".!+_-") {
        return Err(SourceError::PackageVersion(version.to_owned()));
    }
    Ok(Source::Pypi { name: name.to_owned(), version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn sources_are_read_as_people_write_them() {
        let digest: Digest = HEX.parse().unwrap();
        let url = Source::Url { url: "https://example.org/m.onnx".into(), sha256: digest };
        assert_eq!("./model dir".parse(), Ok(Source::Path("./model dir".into())));
        assert_eq!(format!("https://example.org/m.onnx#sha256={HEX}").parse(), Ok(url.clone()));
        assert_eq!(Source::parse("https://example.org/m.onnx", Some(digest)), Ok(url));
        let package = Source::Pypi { name: "some-model".into(), version: "0.1.0".into() };
        assert_eq!("pypi:some-model==0.1.0".parse(), Ok(package));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| text.parse::<Source>().unwrap_err().to_string();
        assert!(error(" ").contains("no source"));
        assert!(error("https://example.org/m").contains("--sha256"));
        assert!(error("https://example.org/m#sha256=12").contains("64 hex digits"));
        assert!(error("ftp://example.org/m").contains("only http://"));
        assert!(error("pypi:model").contains("pins no version"));
        assert!(error("pypi:--index-url==1").contains("no package name"));
        assert!(error("pypi:a b==1").contains("no package name"));
        assert!(error("pypi:a==1,<2").contains("no exact version"));
        assert!(error("pypi:a==").contains("no exact version"));
        let two = Source::parse(&format!("http://h/m#sha256={HEX}"), Some(Digest([0; 32])));
        assert!(matches!(two, Err(SourceError::TwoDigests { .. })));
    }

    proptest! {
        #[test]
        fn a_source_that_parses_prints_as_it_was_written(text in "(pypi:|https://|)[ -~é]{0,40}") {
            if let Ok(source) = text.parse::<Source>() {
                prop_assert_eq!(source.to_string().parse::<Source>(), Ok(source));
            }
        }
    }
}
