//! A loaded model with its tokenizer, and what it answers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::{Input, Request, RequestError, response};

/// Largest `tokenizer.json` and `model.json` in bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Largest number of components and of tokens that a `model.json` may claim.
const MAX_SIZE: usize = 1 << 16;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file is larger than it can sensibly be.
    #[error("{path} has {bytes} bytes; at most {MAX_JSON_BYTES} are read", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// `model.json` is malformed.
    #[error("cannot read model.json: {0}")]
    Config(#[from] serde_json::Error),
    /// `model.json` describes something else than embeddings of a sensible size.
    #[error("model.json asks for {0}")]
    ConfigValue(String),
    /// `tokenizer.json` cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// `model.onnx` cannot be used.
    #[error("cannot load model.onnx: {0}")]
    Model(String),
}

/// What `model.json` says.
#[derive(Debug, Deserialize)]
struct Config {
    name: String,
    kind: String,
    max_tokens: usize,
    dimensions: usize,
}

impl Config {
    fn check(&self) -> Result<(), LoadError> {
        if self.kind != "embeddings" {
            return Err(LoadError::ConfigValue(format!("the kind {:?}; this program does \"embeddings\"", self.kind)));
        }
        for (what, value) in [("max_tokens", self.max_tokens), ("dimensions", self.dimensions)] {
            if value == 0 || value > MAX_SIZE {
                return Err(LoadError::ConfigValue(format!("{what} = {value}; between 1 and {MAX_SIZE} is possible")));
            }
        }
        Ok(())
    }
}

/// What turns token ids into an embedding.
pub trait Engine: Sized {
    /// Loads a model from `model.onnx`.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    fn load(path: &Path) -> Result<Self, String>;

    /// The embedding of one text, given its ids with special tokens.
    ///
    /// # Errors
    /// What went wrong, in words.
    fn embed(&self, ids: &[u32]) -> Result<Vec<f32>, String>;
}

/// A model and its tokenizer in memory, ready to embed texts.
pub struct Embedder<E> {
    config: Config,
    tokenizer: Tokenizer,
    engine: E,
}

impl<E: Engine> Embedder<E> {
    /// Loads `model.json`, `tokenizer.json` and `model.onnx` from `directory`.
    ///
    /// # Errors
    /// A file is missing, malformed or describes a model of another kind.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let config: Config = serde_json::from_slice(&read_small(&directory.join("model.json"))?)?;
        config.check()?;
        let tokenizer = Tokenizer::from_json(&read_small(&directory.join("tokenizer.json"))?)?;
        let engine = E::load(&directory.join("model.onnx")).map_err(LoadError::Model)?;
        Ok(Self { config, tokenizer, engine })
    }

    /// Answers a request body with a response body.
    ///
    /// # Errors
    /// The request is malformed or asks for what the model cannot do.
    pub fn respond(&self, body: &[u8]) -> Result<Vec<u8>, RequestError> {
        let request = Request::parse(body)?;
        if let Some(asked) = request.dimensions
            && asked != self.config.dimensions as u64
        {
            let (fixed, model) = (self.config.dimensions, self.config.name.clone());
            return Err(RequestError::Dimensions { asked, fixed, model });
        }
        // All are checked before any is embedded, so that a bad request costs little.
        let texts: Vec<Vec<u32>> =
            request.inputs.iter().enumerate().map(|(index, input)| self.ids(input, index)).collect::<Result<_, _>>()?;
        let embeddings: Vec<Vec<f32>> =
            texts.iter().enumerate().map(|(index, ids)| self.embed(ids, index)).collect::<Result<_, _>>()?;
        let prompt_tokens = texts.iter().map(Vec::len).sum();
        Ok(response::write(&self.config.name, &embeddings, request.encoding, prompt_tokens))
    }

    /// The ids of one input with special tokens.
    fn ids(&self, input: &Input, index: usize) -> Result<Vec<u32>, RequestError> {
        let bare = match input {
            Input::Text(text) => self.tokenizer.encode_bare(text),
            Input::Tokens(tokens) => {
                let end = self.tokenizer.id_end();
                let known = |id: &u64| {
                    u32::try_from(*id).ok().filter(|id| *id < end).ok_or(RequestError::TokenId {
                        index,
                        id: *id,
                        last: end - 1,
                    })
                };
                tokens.iter().map(known).collect::<Result<_, _>>()?
            }
        };
        let ids = self.tokenizer.with_specials(&bare);
        let limit = self.config.max_tokens;
        if ids.len() > limit {
            return Err(RequestError::TooLong { index, tokens: ids.len(), limit, model: self.config.name.clone() });
        }
        Ok(ids)
    }

    fn embed(&self, ids: &[u32], index: usize) -> Result<Vec<f32>, RequestError> {
        let fail = |reason: String| RequestError::Engine { index, reason };
        let embedding = self.engine.embed(ids).map_err(fail)?;
        let (length, expected) = (embedding.len(), self.config.dimensions);
        if length != expected {
            return Err(fail(format!("its output has {length} components, not the {expected} of model.json")));
        }
        if !embedding.iter().all(|value| value.is_finite()) {
            return Err(fail("its output has components that are not finite".to_owned()));
        }
        Ok(embedding)
    }
}

fn read_small(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_JSON_BYTES {
        return Err(LoadError::TooLarge { path: path.to_owned(), bytes });
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the number of ids, the sum of the ids and the first id.
    struct Counting;

    impl Engine for Counting {
        fn load(path: &Path) -> Result<Self, String> {
            if path.ends_with("model.onnx") { Ok(Self) } else { Err(format!("{} is no model", path.display())) }
        }

        fn embed(&self, ids: &[u32]) -> Result<Vec<f32>, String> {
            // The id 7 stands for a model that fails, 8 for one that gives no number.
            match ids[1] {
                7 => Err("as asked".to_owned()),
                8 => Ok(vec![f32::NAN; 3]),
                _ => Ok(vec![ids.len() as f32, ids.iter().sum::<u32>() as f32, ids[0] as f32]),
            }
        }
    }

    fn embedder() -> Embedder<Counting> {
        let config =
            Config { name: "counting".to_owned(), kind: "embeddings".to_owned(), max_tokens: 5, dimensions: 3 };
        let tokenizer = Tokenizer::from_json(&crate::tokenizer::tests::tokenizer_json(|_| ())).unwrap();
        Embedder { config, tokenizer, engine: Counting }
    }

    /// The response body, or the refusal.
    fn answer(body: &str) -> String {
        let answer = embedder().respond(body.as_bytes());
        answer.map_or_else(|refusal| refusal.to_string(), |body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn texts_and_their_ids_are_answered_alike_and_in_order() {
        let expected = concat!(
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[3.0,14.0,1.0]},"#,
            r#"{"object":"embedding","index":1,"embedding":[4.0,25.0,1.0]}],"#,
            r#""model":"counting","usage":{"prompt_tokens":7,"total_tokens":7}}"#
        );
        assert_eq!(answer(r#"{"model": "m", "input": ["a", "a a"], "dimensions": 3}"#), expected);
        assert_eq!(answer(r#"{"model": "m", "input": [[11], [11, 11]]}"#), expected);
    }

    #[test]
    fn what_the_model_cannot_do_is_refused_in_words() {
        for (body, words) in [
            (r#"{"input": ["a", "a a a a"]}"#, "the input at index 1 has 6 tokens, more than the 5 that the model"),
            (r#"{"input": [3, 14]}"#, "the input at index 0 has the token id 14; the model's ids end at 13"),
            (r#"{"input": [4294967296]}"#, "the token id 4294967296"),
            (r#"{"input": "a", "dimensions": 2}"#, "'dimensions' is 2, but embeddings of the model counting always"),
            (r#"{"input": ["a", "cafe"]}"#, "the model failed on the input at index 1: as asked"),
            (r#"{"input": "!"}"#, "components that are not finite"),
        ] {
            let refusal = answer(body);
            assert!(refusal.contains(words), "{body}: {refusal}");
        }
    }
}
