//! Counts the words of each record.

use std::collections::BTreeMap;

use caii_guest::{Options, Record};
use serde_json::json;

/// Counts the words, characters and most frequent words of each record of `item`, one line of JSON each.
///
/// # Errors
/// The arguments or a record cannot be read.
pub fn run(item: &[u8], args: &[String]) -> Result<Vec<u8>, String> {
    let options = Options::parse(args, &["field", "top"])?;
    if let Some(word) = options.words().first() {
        return Err(format!("this program takes no words in front of its options, such as {word:?}"));
    }
    let top = options.number("top", 3, 0..=1000)?;
    let records = Record::parse_all(item, options.text("field").unwrap_or("text"))?;
    let lines: Vec<String> = records.iter().map(|record| count(record.text(), top)).collect();
    Ok(lines.join("\n").into_bytes())
}

fn count(text: &str, top: usize) -> String {
    let mut words = 0u64;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()) {
        words += 1;
        *seen.entry(word.to_lowercase()).or_default() += 1;
    }
    let distinct = seen.len();
    let mut ranked: Vec<(String, u64)> = seen.into_iter().collect();
    // Stable, so that equally frequent words stay in alphabetical order.
    ranked.sort_by(|a, b| b.1.cmp(&a.1));
    ranked.truncate(top);
    json!({ "words": words, "distinct": distinct, "characters": text.chars().count(), "top": ranked }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(item: &str, args: &[&str]) -> Result<String, String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        run(item.as_bytes(), &args).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn words_of_plain_text_and_of_objects_are_counted() {
        assert_eq!(
            lines("To be, or not to be: that's it", &["--top", "2"]).unwrap(),
            r#"{"words":8,"distinct":6,"characters":30,"top":[["be",2],["to",2]]}"#
        );
        assert_eq!(
            lines("{\"body\": \"Ünder ünder\"}\n\n", &["--field", "body"]).unwrap(),
            concat!(
                r#"{"words":2,"distinct":1,"characters":11,"top":[["ünder",2]]}"#,
                "\n",
                r#"{"words":0,"distinct":0,"characters":0,"top":[]}"#
            )
        );
    }

    #[test]
    fn unknown_arguments_are_refused() {
        assert!(lines("a", &["fast"]).unwrap_err().contains("\"fast\""));
        assert!(lines("a", &["--bottom", "2"]).unwrap_err().contains("--bottom"));
    }
}
