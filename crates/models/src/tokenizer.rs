//! Checking a tokenizer.json before a device finds out that it does not fit the model.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// It is no tokenizer.json.
    #[error("tokenizer.json cannot be read (is it the `tokenizers` library's format?)")]
    Malformed(#[from] serde_json::Error),
    /// Its kind is not one that the inference guest implements.
    #[error("the tokenizer is of type {0}; the inference guest implements WordPiece and BPE")]
    Kind(String),
    /// It gives ids that the model has no embedding for.
    #[error(
        "the tokenizer knows token {id}, but the model's vocabulary ends at {last}: the two do not belong together"
    )]
    Vocabulary {
        /// The tokenizer's greatest id.
        id: u64,
        /// The model's.
        last: u64,
    },
}

#[derive(Deserialize)]
struct Tokenizer {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    truncation: Option<Truncation>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: serde_json::Value,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u64,
}

#[derive(Deserialize)]
struct Truncation {
    max_length: u64,
}

/// Checks a tokenizer.json, against a vocabulary of `vocab` tokens if that is known, and returns the length that it
/// truncates to.
pub(crate) fn check(json: &[u8], vocab: Option<u32>) -> Result<Option<u64>, TokenizerError> {
    let tokenizer: Tokenizer = serde_json::from_slice(json)?;
    match tokenizer.model.kind.as_deref() {
        Some("WordPiece" | "BPE") => {}
        other => return Err(TokenizerError::Kind(other.unwrap_or("unknown").to_owned())),
    }
    let entries: BTreeMap<String, u64> = serde_json::from_value(tokenizer.model.vocab)?;
    let added = tokenizer.added_tokens.iter().map(|token| token.id);
    if let (Some(vocab), Some(id)) = (vocab, entries.values().copied().chain(added).max()) {
        let last = u64::from(vocab) - 1;
        if id > last {
            return Err(TokenizerError::Vocabulary { id, last });
        }
    }
    Ok(tokenizer.truncation.map(|truncation| truncation.max_length))
}
