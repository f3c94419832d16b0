//! Walks a job's input file record by record: once to check and split it, once more to write the output.

use super::lines::{LINE_MAX, Line, Lines};
use caii_model::{Endpoint, InputError, InputFormat, JobKind};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::{self, BufRead};

/// The longest `custom_id`, in characters.
const CUSTOM_ID_MAX: usize = 512;

/// What the lines of an input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A program's records.
    Program(InputFormat),
    /// Requests of the OpenAI batch format.
    Batch(Endpoint),
}

impl Format {
    /// The format of a job's input; nothing for a synchronous request, which has none.
    pub(crate) fn of(kind: &JobKind) -> Option<Self> {
        match kind {
            JobKind::Program { format } => Some(Self::Program(*format)),
            JobKind::Batch { endpoint, .. } => Some(Self::Batch(*endpoint)),
            JobKind::Sync { .. } => None,
        }
    }
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Its line in the input file, from 1.
    pub(crate) line: u64,
    /// What the program reads: a line without its end, or a request's body.
    pub(crate) text: &'a str,
    /// What only a batch's lines have.
    pub(crate) request: Option<Request<'a>>,
}

/// The parts of a batch's line that stay in the pool.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// The client's name for it.
    pub(crate) custom_id: Cow<'a, str>,
    /// The model that it names.
    pub(crate) model: Cow<'a, str>,
    /// Texts in it, as the API counts them.
    pub(crate) inputs: u64,
}

/// The records of an input.
pub(crate) struct Records<R> {
    lines: Lines<R>,
    format: Format,
}

impl<R: BufRead> Records<R> {
    pub(crate) fn new(reader: R, format: Format) -> Self {
        // To a program that reads plain lines an empty one is a record like any other.
        let skip_blank = format != Format::Program(InputFormat::Lines);
        Self { lines: Lines::new(reader, skip_blank), format }
    }

    /// The next record, or what is wrong with its line; nothing at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Result<Record<'_>, InputError>>> {
        let Some((line, content)) = self.lines.next()? else { return Ok(None) };
        let text = match content {
            Line::Text(text) => text,
            Line::TooLong => {
                let message = format!("the line has more than {LINE_MAX} bytes, the most that a record may have");
                return Ok(Some(Err(at_line("line_too_long", line, message, None))));
            }
            Line::NotUtf8 { at } => {
                let message = format!("the line is not UTF-8 from its byte {} on; convert the file to UTF-8", at + 1);
                return Ok(Some(Err(at_line("invalid_utf8", line, message, None))));
            }
        };
        Ok(Some(match self.format {
            Format::Program(InputFormat::Lines) => Ok(Record { line, text, request: None }),
            Format::Program(InputFormat::JsonLines) => match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => Ok(Record { line, text, request: None }),
                Err(reason) => Err(invalid_json(line, &reason)),
            },
            Format::Batch(endpoint) => parse_request(line, text, endpoint),
        }))
    }
}

fn at_line(code: &str, line: u64, message: String, param: Option<&str>) -> InputError {
    InputError { code: code.to_owned(), message, line: Some(line), param: param.map(str::to_owned) }
}

fn invalid_json(line: u64, reason: &serde_json::Error) -> InputError {
    let message = format!("This line is not parseable as valid JSON: {reason}.");
    at_line("invalid_json_line", line, message, None)
}

fn parse_request(line: u64, text: &str, endpoint: Endpoint) -> Result<Record<'_>, InputError> {
    /// Any types, so that a field of the wrong type can be named.
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow)]
        custom_id: Option<&'a RawValue>,
        #[serde(borrow)]
        method: Option<&'a RawValue>,
        #[serde(borrow)]
        url: Option<&'a RawValue>,
        #[serde(borrow)]
        body: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        model: Option<&'a RawValue>,
        #[serde(borrow)]
        input: Option<&'a RawValue>,
    }

    if !text.trim_ascii_start().starts_with('{') {
        // An array would otherwise be taken for the fields in their order.
        return match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Err(at_line(
                "invalid_json_line",
                line,
                "This line is not a JSON object: a request looks like \
                 {\"custom_id\": …, \"method\": \"POST\", \"url\": …, \"body\": {…}}."
                    .to_owned(),
                None,
            )),
            Err(reason) => Err(invalid_json(line, &reason)),
        };
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|reason| invalid_json(line, &reason))?;
    let custom_id = string(line, "custom_id", fields.custom_id)?;
    if custom_id.is_empty() || custom_id.chars().count() > CUSTOM_ID_MAX {
        let message = format!("`custom_id` must have 1 to {CUSTOM_ID_MAX} characters.");
        return Err(at_line("invalid_custom_id", line, message, Some("custom_id")));
    }
    let method = string(line, "method", fields.method)?;
    if method != "POST" {
        let message = format!("The method is `{}`; only `POST` is supported.", clip(&method));
        return Err(at_line("invalid_method", line, message, Some("method")));
    }
    let url = string(line, "url", fields.url)?;
    if url != endpoint.path() {
        let message = format!(
            "The url is `{}`, but the batch's endpoint is `{}`; they must be equal.",
            clip(&url),
            endpoint.path()
        );
        return Err(at_line("mismatched_endpoint", line, message, Some("url")));
    }
    let raw = fields.body.ok_or_else(|| missing(line, "body"))?;
    if !raw.get().starts_with('{') {
        let message = "`body` must be a JSON object: the request's parameters.".to_owned();
        return Err(at_line("invalid_type", line, message, Some("body")));
    }
    let body: Body<'_> = serde_json::from_str(raw.get()).map_err(|reason| invalid_json(line, &reason))?;
    let model = string(line, "body.model", body.model)?;
    let inputs = body.input.map_or(1, |input| count_inputs(input.get()));
    Ok(Record { line, text: raw.get(), request: Some(Request { custom_id, model, inputs }) })
}

fn string<'a>(line: u64, name: &str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, InputError> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let value = value.filter(|value| value.get() != "null").ok_or_else(|| missing(line, name))?;
    match serde_json::from_str::<Text<'_>>(value.get()) {
        Ok(Text(text)) => Ok(text),
        Err(_) => Err(at_line("invalid_type", line, format!("`{name}` must be a string."), Some(name))),
    }
}

fn missing(line: u64, name: &str) -> InputError {
    at_line("missing_required_parameter", line, format!("Missing required parameter: `{name}`."), Some(name))
}

/// Texts in a request: the entries of a list, unless it is the tokens of a single text.
fn count_inputs(input: &str) -> u64 {
    let Some(list) = input.strip_prefix('[') else { return 1 };
    match list.trim_ascii_start().as_bytes().first() {
        Some(b'"' | b'[') => serde_json::from_str::<Vec<IgnoredAny>>(input).map_or(1, |entries| entries.len() as u64),
        _ => 1,
    }
}

/// Enough of what a client wrote to find it again in a message.
pub(crate) fn clip(text: &str) -> &str {
    let end = text.char_indices().nth(100).map_or(text.len(), |(end, _)| end);
    &text[..end]
}
