//! Cuts each text into overlapping pieces.

use caii_guest::{Options, Record};
use serde_json::json;

/// Largest size of a chunk, in words or characters.
const MAX_SIZE: usize = 1 << 20;

pub(crate) fn run(records: Vec<Record>, options: &Options) -> Result<Vec<String>, String> {
    let by_words = options.choice("by", &["words", "characters"])? == "words";
    let size = options.number("size", 200, 1..=MAX_SIZE)?;
    let overlap = options.number("overlap", 0, 0..=size - 1)?;
    let field = options.text("field").unwrap_or("text");
    let lines = records.into_iter().map(|mut record| {
        let units = if by_words { words(record.text()) } else { characters(record.text()) };
        let chunks = chunks(record.text(), &units, size, overlap);
        // The chunks stand in for the text, which they repeat.
        record.fields.shift_remove(field);
        record.fields.insert("chunks".to_owned(), chunks.into());
        record.to_line()
    });
    Ok(lines.collect())
}

/// A word or a character: where it begins and ends in bytes and in characters.
#[derive(Clone, Copy)]
struct Unit {
    bytes: (usize, usize),
    characters: (usize, usize),
}

fn characters(text: &str) -> Vec<Unit> {
    let unit = |(index, (at, c)): (usize, (usize, char))| Unit {
        bytes: (at, at + c.len_utf8()),
        characters: (index, index + 1),
    };
    text.char_indices().enumerate().map(unit).collect()
}

fn words(text: &str) -> Vec<Unit> {
    let mut words: Vec<Unit> = Vec::new();
    let mut inside = false;
    for (index, (at, c)) in text.char_indices().enumerate() {
        if c.is_whitespace() {
            inside = false;
            continue;
        }
        if !inside {
            words.push(Unit { bytes: (at, at), characters: (index, index) });
            inside = true;
        }
        if let Some(word) = words.last_mut() {
            word.bytes.1 = at + c.len_utf8();
            word.characters.1 = index + 1;
        }
    }
    words
}

/// Pieces of `size` units, each beginning `size - overlap` units behind the one before; the last one is shorter, and
/// there is none that lies wholly in the overlap.
fn chunks(text: &str, units: &[Unit], size: usize, overlap: usize) -> Vec<serde_json::Value> {
    let mut chunks = Vec::new();
    let mut start = 0;
    while start < units.len() {
        let end = units.len().min(start + size);
        let (first, last) = (units[start], units[end - 1]);
        chunks.push(json!({
            "start": first.characters.0,
            "end": last.characters.1,
            "text": &text[first.bytes.0..last.bytes.1],
        }));
        if end == units.len() {
            break;
        }
        start += size - overlap;
    }
    chunks
}
