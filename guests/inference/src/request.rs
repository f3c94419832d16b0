//! The request body of OpenAI's embeddings endpoint, checked.

use serde::Deserialize;
use serde_json::Value;

/// Most texts in one request, as OpenAI has it.
pub const MAX_INPUTS: usize = 2048;

/// Why a request is refused. The words reach the requester.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The body is not JSON, or a field has the wrong type or is unknown.
    #[error("the request body is not an embeddings request: {0}")]
    Malformed(String),
    /// There is nothing to embed.
    #[error("'input' is missing: give a string, a list of strings, a list of token ids or a list of such lists")]
    MissingInput,
    /// `input` is neither text nor token ids.
    #[error(
        "'input' has the wrong type{place}: give a string, a list of strings, a list of token ids (integers from 0) \
         or a list of such lists"
    )]
    InputType {
        /// Where, such as ` at index 3`, or empty.
        place: String,
    },
    /// `input` or one of its entries is empty.
    #[error("'input' is empty{place}: every text needs at least one character, every list at least one entry")]
    EmptyInput {
        /// Where, such as ` at index 3`, or empty.
        place: String,
    },
    /// More texts than one request may carry.
    #[error("'input' has {count} entries; a request may have at most {MAX_INPUTS}")]
    TooManyInputs {
        /// How many entries it has.
        count: usize,
    },
    /// A text is longer than the model can see.
    #[error("the input at index {index} has {tokens} tokens, more than the {limit} that the model {model} takes")]
    TooLong {
        /// The entry's index.
        index: usize,
        /// Its tokens, special tokens included.
        tokens: usize,
        /// The model's limit.
        limit: usize,
        /// The model.
        model: String,
    },
    /// A token id that the model does not have.
    #[error("the input at index {index} has the token id {id}; the model's ids end at {last}")]
    TokenId {
        /// The entry's index.
        index: usize,
        /// The id.
        id: u64,
        /// The largest id that the model has.
        last: u32,
    },
    /// Shorter embeddings were asked for.
    #[error("'dimensions' is {asked}, but embeddings of the model {model} always have {fixed}; leave it out")]
    Dimensions {
        /// What was asked for.
        asked: u64,
        /// What the model gives.
        fixed: usize,
        /// The model.
        model: String,
    },
    /// The engine failed or gave something that is no embedding: not the requester's fault.
    #[error("the model failed on the input at index {index}: {reason}")]
    Engine {
        /// The entry's index.
        index: usize,
        /// What the engine says.
        reason: String,
    },
}

/// How embeddings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A JSON list of numbers.
    #[default]
    Float,
    /// Little-endian `f32`s in base64.
    Base64,
}

/// One entry of `input`.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A text, to be tokenized.
    Text(String),
    /// The ids of a text without special tokens; not yet checked against the vocabulary.
    Tokens(Vec<u64>),
}

/// A request whose form is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to embed, in order: between 1 and [`MAX_INPUTS`] entries.
    pub inputs: Vec<Input>,
    /// How to write the embeddings.
    pub encoding: Encoding,
    /// The length that was asked for, if any.
    pub dimensions: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    // Names the model for whoever routes the request; here there is one model only.
    #[serde(rename = "model")]
    _model: Option<String>,
    input: Option<Value>,
    encoding_format: Option<Encoding>,
    dimensions: Option<u64>,
    // For the requester's own accounting.
    #[serde(rename = "user")]
    _user: Option<String>,
}

impl Request {
    /// Reads and checks a request body.
    ///
    /// # Errors
    /// The body is malformed, or its input is missing, empty, of the wrong type or has too many entries.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let body: Body = serde_json::from_slice(body).map_err(|error| RequestError::Malformed(error.to_string()))?;
        let inputs = inputs(body.input.ok_or(RequestError::MissingInput)?)?;
        Ok(Self { inputs, encoding: body.encoding_format.unwrap_or_default(), dimensions: body.dimensions })
    }
}

fn inputs(value: Value) -> Result<Vec<Input>, RequestError> {
    let whole = String::new;
    match value {
        Value::String(text) => Ok(vec![text_input(text, whole())?]),
        Value::Array(entries) => match entries.first() {
            None => Err(RequestError::EmptyInput { place: whole() }),
            Some(Value::Number(_)) => Ok(vec![tokens_input(&entries, whole())?]),
            Some(_) if entries.len() > MAX_INPUTS => Err(RequestError::TooManyInputs { count: entries.len() }),
            Some(_) => entries.into_iter().enumerate().map(|(index, entry)| input(entry, index)).collect(),
        },
        _ => Err(RequestError::InputType { place: whole() }),
    }
}

fn input(entry: Value, index: usize) -> Result<Input, RequestError> {
    let place = format!(" at index {index}");
    match entry {
        Value::String(text) => text_input(text, place),
        Value::Array(tokens) => tokens_input(&tokens, place),
        _ => Err(RequestError::InputType { place }),
    }
}

fn text_input(text: String, place: String) -> Result<Input, RequestError> {
    if text.is_empty() { Err(RequestError::EmptyInput { place }) } else { Ok(Input::Text(text)) }
}

fn tokens_input(tokens: &[Value], place: String) -> Result<Input, RequestError> {
    if tokens.is_empty() {
        return Err(RequestError::EmptyInput { place });
    }
    let ids: Option<Vec<u64>> = tokens.iter().map(Value::as_u64).collect();
    ids.map(Input::Tokens).ok_or(RequestError::InputType { place })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Request, RequestError> {
        Request::parse(body.as_bytes())
    }

    fn text(text: &str) -> Input {
        Input::Text(text.to_owned())
    }

    #[test]
    fn all_four_forms_of_input_are_read() {
        for (body, expected) in [
            (r#"{"model": "m", "input": "a"}"#, vec![text("a")]),
            (r#"{"input": ["a", "b"]}"#, vec![text("a"), text("b")]),
            (r#"{"input": [5, 6]}"#, vec![Input::Tokens(vec![5, 6])]),
            (r#"{"input": [[5], [6, 7]]}"#, vec![Input::Tokens(vec![5]), Input::Tokens(vec![6, 7])]),
        ] {
            assert_eq!(parse(body).unwrap().inputs, expected, "{body}");
        }
    }

    #[test]
    fn options_are_read_and_default_to_floats() {
        let request = parse(r#"{"input": "a", "encoding_format": "base64", "dimensions": 384, "user": "u"}"#).unwrap();
        assert_eq!((request.encoding, request.dimensions), (Encoding::Base64, Some(384)));
        assert_eq!(parse(r#"{"input": "a"}"#).unwrap().encoding, Encoding::Float);
    }

    #[test]
    fn what_is_no_request_is_refused_in_words() {
        let many = format!(r#"{{"input": [{}"a"]}}"#, r#""a","#.repeat(MAX_INPUTS));
        for (body, words) in [
            ("", "not an embeddings request: EOF"),
            ("[]", "not an embeddings request"),
            (r#"{"input": "a", "stream": true}"#, "unknown field `stream`"),
            (r#"{"input": "a", "encoding_format": "hex"}"#, "unknown variant `hex`"),
            (r#"{"input": "a", "dimensions": -1}"#, "not an embeddings request"),
            (r#"{"model": "m"}"#, "'input' is missing"),
            (r#"{"input": null}"#, "'input' is missing"),
            (r#"{"input": 7}"#, "'input' has the wrong type: "),
            (r#"{"input": [-1]}"#, "'input' has the wrong type: "),
            (r#"{"input": [1.5]}"#, "'input' has the wrong type: "),
            (r#"{"input": [1, "a"]}"#, "'input' has the wrong type: "),
            (r#"{"input": ["a", 1]}"#, "'input' has the wrong type at index 1"),
            (r#"{"input": ["a", {"b": 1}]}"#, "'input' has the wrong type at index 1"),
            (r#"{"input": ""}"#, "'input' is empty: "),
            (r#"{"input": []}"#, "'input' is empty: "),
            (r#"{"input": ["a", ""]}"#, "'input' is empty at index 1"),
            (r#"{"input": [[1], []]}"#, "'input' is empty at index 1"),
            (many.as_str(), "'input' has 2049 entries; a request may have at most 2048"),
        ] {
            let refusal = parse(body).unwrap_err().to_string();
            assert!(refusal.contains(words), "{body:.60}: {refusal}");
        }
    }
}
