//! BERT's tokenizer: text to WordPiece ids, the same ids that Hugging Face's `tokenizers` gives.
//!
//! Read from a `tokenizer.json`. What it may say beyond BERT (other models, normalisers, pre-tokenizers) is refused
//! when it is loaded, because a tokenizer that is nearly right gives embeddings that are quietly wrong. Truncation and
//! padding in that file are ignored: a text is never cut.

use std::collections::HashMap;

use serde::Deserialize;
use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// Most entries that a vocabulary may have.
const MAX_VOCABULARY: usize = 1 << 20;

/// Why a `tokenizer.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not JSON of the expected shape.
    #[error("cannot read the tokenizer: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The file asks for something that this program does not do.
    #[error(
        "the tokenizer uses {what}, which this program does not support; it takes BERT's WordPiece tokenizers \
         (BertNormalizer, BertPreTokenizer, WordPiece, TemplateProcessing or BertProcessing)"
    )]
    Unsupported {
        /// What was asked for, such as `the model BPE`.
        what: String,
    },
    /// A token that something else in the file names is not in the vocabulary.
    #[error("the tokenizer names the token {token:?}, which its vocabulary lacks")]
    MissingToken {
        /// The token.
        token: String,
    },
    /// The vocabulary is empty or too large.
    #[error("the tokenizer's vocabulary has {entries} entries; between 1 and {MAX_VOCABULARY} are possible")]
    VocabularySize {
        /// How many entries it has.
        entries: usize,
    },
}

/// A loaded tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    normalizer: BertNormalizer,
    vocabulary: HashMap<Box<str>, u32>,
    /// One more than the largest id.
    id_end: u32,
    unknown: u32,
    continuation: String,
    max_word_chars: usize,
    /// Tokens found in raw text before it is normalised, longest first.
    added: Vec<AddedToken>,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// The file is malformed or describes another kind of tokenizer.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        // In two passes, so that a file of another kind is refused by what it is and not by a field that it lacks.
        let kinds: Kinds = serde_json::from_slice(json)?;
        if kinds.model.kind.as_deref().is_some_and(|kind| kind != "WordPiece") {
            return Err(unsupported("another model than WordPiece"));
        }
        let file: File = serde_json::from_slice(json)?;
        let normalizer = match file.normalizer {
            Some(Normalizer::Bert(normalizer)) => normalizer,
            Some(Normalizer::Other) | None => return Err(unsupported("another normalizer than BertNormalizer")),
        };
        if !matches!(file.pre_tokenizer, Some(PreTokenizer::Bert)) {
            return Err(unsupported("another pre-tokenizer than BertPreTokenizer"));
        }
        let model = file.model;
        let entries = model.vocab.len();
        if entries == 0 || entries > MAX_VOCABULARY {
            return Err(TokenizerError::VocabularySize { entries });
        }
        for token in &file.added_tokens {
            if token.single_word || token.normalized {
                return Err(unsupported(&format!(
                    "the added token {:?} with single_word or normalized set",
                    token.content
                )));
            }
        }
        let mut added = file.added_tokens;
        // An empty token would match everywhere; Hugging Face drops it too.
        added.retain(|token| !token.content.is_empty());
        added.sort_by(|a, b| b.content.len().cmp(&a.content.len()));

        let find = |token: &str| -> Result<u32, TokenizerError> {
            let listed = added.iter().find(|entry| entry.content == token).map(|entry| entry.id);
            listed
                .or_else(|| model.vocab.get(token).copied())
                .ok_or_else(|| TokenizerError::MissingToken { token: token.to_owned() })
        };
        let unknown = find(&model.unk_token)?;
        let (prefix, suffix) = match file.post_processor {
            Some(PostProcessor::Template(template)) => template.around_text()?,
            Some(PostProcessor::Bert { sep, cls }) => (vec![cls.1], vec![sep.1]),
            Some(PostProcessor::Other) => return Err(unsupported("another post-processor")),
            None => (Vec::new(), Vec::new()),
        };
        let largest = model.vocab.values().copied().chain(added.iter().map(|token| token.id)).max().unwrap_or(0);
        Ok(Self {
            normalizer,
            vocabulary: model.vocab.into_iter().map(|(token, id)| (token.into_boxed_str(), id)).collect(),
            id_end: largest.saturating_add(1),
            unknown,
            continuation: model.continuing_subword_prefix,
            max_word_chars: model.max_input_chars_per_word,
            added,
            prefix,
            suffix,
        })
    }

    /// The ids of `text` without the model's special tokens around them.
    #[must_use]
    pub fn encode_bare(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        while let Some((start, token)) = self.next_added(rest) {
            let end = start + token.content.len();
            let before = if token.lstrip { rest[..start].trim_end() } else { &rest[..start] };
            self.encode_plain(before, &mut ids);
            ids.push(token.id);
            rest = if token.rstrip { rest[end..].trim_start() } else { &rest[end..] };
        }
        self.encode_plain(rest, &mut ids);
        ids
    }

    /// Puts the model's special tokens, `[CLS]` and `[SEP]` for BERT, around the ids of a text.
    #[must_use]
    pub fn with_specials(&self, bare: &[u32]) -> Vec<u32> {
        [&self.prefix, bare, &self.suffix].concat()
    }

    /// One more than the largest id.
    #[must_use]
    pub fn id_end(&self) -> u32 {
        self.id_end
    }

    /// Leftmost added token in `text`, the longest where several start at the same place.
    fn next_added(&self, text: &str) -> Option<(usize, &AddedToken)> {
        // `added` is sorted longest first, and `min_by_key` keeps the first of equals.
        self.added
            .iter()
            .filter_map(|token| text.find(token.content.as_str()).map(|start| (start, token)))
            .min_by_key(|(start, _)| *start)
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) {
        let normalized = self.normalizer.normalize(text);
        for run in normalized.split(char::is_whitespace) {
            let mut rest = run;
            while let Some(first) = rest.chars().next() {
                let end = if is_punctuation(first) {
                    first.len_utf8()
                } else {
                    rest.find(is_punctuation).unwrap_or(rest.len())
                };
                let (word, tail) = rest.split_at(end);
                self.encode_word(word, ids);
                rest = tail;
            }
        }
    }

    /// Greedy longest match from the left; a word that cannot be covered is one unknown token.
    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        if word.chars().count() > self.max_word_chars {
            ids.push(self.unknown);
            return;
        }
        let mark = ids.len();
        let mut start = 0;
        let mut piece = String::with_capacity(self.continuation.len() + word.len());
        while start < word.len() {
            piece.clear();
            if start > 0 {
                piece.push_str(&self.continuation);
            }
            let lead = piece.len();
            piece.push_str(&word[start..]);
            let id = loop {
                if piece.len() == lead {
                    break None;
                }
                if let Some(id) = self.vocabulary.get(piece.as_str()) {
                    break Some(*id);
                }
                piece.pop();
            };
            let Some(id) = id else {
                ids.truncate(mark);
                ids.push(self.unknown);
                return;
            };
            ids.push(id);
            start += piece.len() - lead;
        }
    }
}

fn unsupported(what: &str) -> TokenizerError {
    TokenizerError::Unsupported { what: what.to_owned() }
}

/// Hugging Face's `is_bert_punc`, on the same (old) Unicode tables.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.is_punctuation()
}

#[derive(Debug, Deserialize)]
struct BertNormalizer {
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

impl BertNormalizer {
    fn normalize(&self, text: &str) -> String {
        let mut cleaned = String::with_capacity(text.len());
        for c in text.chars() {
            if self.clean_text && (c == '\0' || c == '\u{fffd}' || is_control(c)) {
                continue;
            }
            if self.clean_text && c.is_whitespace() {
                cleaned.push(' ');
            } else if self.handle_chinese_chars && is_cjk(c) {
                cleaned.extend([' ', c, ' ']);
            } else {
                cleaned.push(c);
            }
        }
        if self.strip_accents.unwrap_or(self.lowercase) {
            cleaned = cleaned.nfd().filter(|c| !c.is_mark_nonspacing()).collect();
        }
        if self.lowercase {
            // Character by character, as the reference does: `str::to_lowercase` has a rule for a final sigma.
            cleaned = cleaned.chars().flat_map(char::to_lowercase).collect();
        }
        cleaned
    }
}

/// Tabs and line ends are white space here, although Unicode has them among the control characters.
fn is_control(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r') && c.is_other()
}

/// The blocks of ideographs that BERT splits into single characters.
fn is_cjk(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
    post_processor: Option<PostProcessor>,
    model: WordPiece,
}

#[derive(Debug, Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Normalizer {
    #[serde(rename = "BertNormalizer")]
    Bert(BertNormalizer),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PreTokenizer {
    #[serde(rename = "BertPreTokenizer")]
    Bert,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PostProcessor {
    #[serde(rename = "TemplateProcessing")]
    Template(Template),
    #[serde(rename = "BertProcessing")]
    Bert { sep: (String, u32), cls: (String, u32) },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Template {
    single: Vec<TemplatePiece>,
    special_tokens: HashMap<String, TemplateToken>,
}

impl Template {
    /// The ids before and after the text.
    fn around_text(&self) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
        let (mut prefix, mut suffix, mut texts) = (Vec::new(), Vec::new(), 0);
        for piece in &self.single {
            match piece {
                TemplatePiece::Sequence {} => texts += 1,
                TemplatePiece::SpecialToken { id } => {
                    let token = self
                        .special_tokens
                        .get(id)
                        .ok_or_else(|| TokenizerError::MissingToken { token: id.clone() })?;
                    let side = if texts == 0 { &mut prefix } else { &mut suffix };
                    side.extend_from_slice(&token.ids);
                }
            }
        }
        if texts == 1 { Ok((prefix, suffix)) } else { Err(unsupported("a template that repeats or omits the text")) }
    }
}

#[derive(Deserialize)]
enum TemplatePiece {
    Sequence {},
    SpecialToken { id: String },
}

#[derive(Deserialize)]
struct TemplateToken {
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Kinds {
    model: ModelKind,
}

/// Files of the oldest version do not name the kind.
#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct WordPiece {
    vocab: HashMap<String, u32>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
}

#[cfg(test)]
pub(crate) mod tests;
