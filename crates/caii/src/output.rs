//! Printing results for people or for programs, from the same views.

use crate::error::{CliError, chain};
use clap::ValueEnum;
use serde::Serialize;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one JSON value.
    Json,
}

/// Prints a value: as JSON, or as `text` makes it.
pub(crate) fn print<T: Serialize>(format: Format, value: &T, text: impl FnOnce(&T) -> String) {
    match format {
        Format::Text => println!("{}", text(value).trim_end()),
        Format::Json => println!("{}", json(value)),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("views have string keys and no failing fields")
}

/// Prints why a command failed.
pub(crate) fn error(format: Format, error: &CliError) {
    match format {
        Format::Text => eprintln!("caii: {}", chain(error)),
        Format::Json => {
            let view = serde_json::json!({ "error": { "code": error.code(), "message": chain(error) } });
            eprintln!("{}", json(&view));
        }
    }
}

/// Columns, each as wide as its widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "none".into();
    }
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([header[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    [line(header.to_vec())].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

/// How long ago, for people.
pub(crate) fn ago(then_ms: u64) -> String {
    format!("{} ago", caii_model::Millis(now_ms().saturating_sub(then_ms)))
}

/// The wall clock in Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_tables_and_numbers() {
        let rows = [vec!["job_1".into(), "a".into()], vec!["job_10".into(), "bcd".into()]];
        assert_eq!(table(&["id", "name"], &rows), "id      name\njob_1   a\njob_10  bcd");
        assert_eq!(table(&["id"], &[]), "none");
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
