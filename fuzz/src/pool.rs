//! What requesters upload.

use crate::lines::{Line, Lines};
use crate::memory::at_most;
use crate::records::{Format, Records};
use caii_model::{Endpoint, InputError, InputFormat};
use serde_json::value::RawValue;
use std::io::{BufRead, BufReader};

/// How many bytes of a text a reader sees at once: small enough that every border falls everywhere.
const CAPACITIES: [usize; 3] = [1, 3, 64 << 10];

fn heap(bytes: &[u8]) -> usize {
    (128 << 10) + 256 * bytes.len()
}

/// Lines, against the plainest way to cut a text that is wholly in memory. The longest line is beyond what a fuzzer
/// tries; unit tests have it.
pub fn lines(bytes: &[u8]) {
    for skip_blank in [false, true] {
        let expected = cut(bytes, skip_blank);
        for capacity in CAPACITIES {
            let found = at_most(heap(bytes), || read_lines(BufReader::with_capacity(capacity, bytes), skip_blank));
            assert_eq!(found, expected, "with a buffer of {capacity}");
        }
    }
}

/// A line's number, and its text or where it stops being UTF-8.
type Cut = (u64, Result<String, usize>);

fn read_lines(reader: impl BufRead, skip_blank: bool) -> Vec<Cut> {
    let mut lines = Lines::new(reader, skip_blank);
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next().expect("memory can be read") {
        found.push(match line {
            Line::Text(text) => (number, Ok(text.to_owned())),
            Line::NotUtf8 { at } => (number, Err(at)),
            Line::TooLong => panic!("line {number} is called too long"),
        });
    }
    found
}

fn cut(bytes: &[u8], skip_blank: bool) -> Vec<Cut> {
    let mut pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // What follows the last line feed is a line only if there is something.
    pieces.pop_if(|last| last.is_empty());
    let lines = (1..).zip(pieces).map(|(number, piece)| {
        let piece = piece.strip_suffix(b"\r").unwrap_or(piece);
        let piece = if number == 1 { piece.strip_prefix(b"\xef\xbb\xbf").unwrap_or(piece) } else { piece };
        (number, piece)
    });
    lines
        .filter(|(_, piece)| !(skip_blank && piece.iter().all(u8::is_ascii_whitespace)))
        .map(|(number, piece)| match String::from_utf8(piece.to_vec()) {
            Ok(text) => (number, Ok(text)),
            Err(error) => (number, Err(error.utf8_error().valid_up_to())),
        })
        .collect()
}

/// Records of every format. What is accepted is JSON where it must be; a request survives being written down again.
pub fn records(bytes: &[u8]) {
    for format in [
        Format::Program(InputFormat::Lines),
        Format::Program(InputFormat::JsonLines),
        Format::Batch(Endpoint::Embeddings),
    ] {
        let first = at_most(heap(bytes), || read_records(BufReader::with_capacity(64 << 10, bytes), format));
        assert_eq!(read_records(BufReader::with_capacity(3, bytes), format), first);
        let mut before = 0;
        for record in &first {
            match record {
                Ok(record) => {
                    assert!(record.line > before, "line {} after {before}", record.line);
                    before = record.line;
                    check_record(record, format);
                }
                Err(error) => {
                    let line = error.line.expect("an error of a line names it");
                    assert!(line > before, "line {line} after {before}");
                    before = line;
                    assert!(!error.message.is_empty() && error.message.len() < 2_000, "{}", error.message);
                }
            }
        }
    }
}

/// A record that outlives its reader.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    line: u64,
    text: String,
    request: Option<(String, String, u64)>,
}

fn read_records(reader: impl BufRead, format: Format) -> Vec<Result<Kept, InputError>> {
    let mut records = Records::new(reader, format);
    let mut found = Vec::new();
    while let Some(record) = records.next().expect("memory can be read") {
        found.push(record.map(|record| Kept {
            line: record.line,
            text: record.text.to_owned(),
            request: record.request.map(|r| (r.custom_id.into_owned(), r.model.into_owned(), r.inputs)),
        }));
    }
    found
}

fn check_record(record: &Kept, format: Format) {
    if format == Format::Program(InputFormat::Lines) {
        return;
    }
    let raw: &RawValue = serde_json::from_str(&record.text).expect("an accepted record is JSON");
    let Some((custom_id, ..)) = &record.request else { return };
    assert!(!custom_id.is_empty() && raw.get().starts_with('{'));
    let line = format!(
        "{{\"body\":{},\"custom_id\":{},\"method\":\"POST\",\"url\":\"/v1/embeddings\"}}",
        record.text,
        serde_json::to_string(custom_id).expect("a string is JSON"),
    );
    let again = read_records(line.as_bytes(), format);
    let [Ok(again)] = &again[..] else { panic!("{again:?}") };
    assert_eq!((&again.text, &again.request), (&record.text, &record.request));
}
