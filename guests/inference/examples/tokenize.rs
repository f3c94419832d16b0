//! Tokenizes a JSON string per line of stdin by the `tokenizer.json` named by the first argument; prints the ids with
//! special tokens as a JSON list per line. The tests compare it with the reference implementation.

use std::error::Error;
use std::io::{self, BufRead, Write};

use caii_guest_inference::Tokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: tokenize tokenizer.json < texts.jsonl")?;
    let tokenizer = Tokenizer::from_json(&std::fs::read(path)?)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        let ids = tokenizer.with_specials(&tokenizer.encode_bare(&text));
        writeln!(out, "{}", serde_json::to_string(&ids)?)?;
    }
    Ok(out.flush()?)
}
