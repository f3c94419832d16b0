//! Unicode normalisation, white space and case.

use caii_guest::{Options, Record};
use unicode_normalization::UnicodeNormalization;

pub(crate) fn run(records: Vec<Record>, options: &Options) -> Result<Vec<String>, String> {
    let form = options.choice("form", &["nfc", "nfkc", "nfd", "nfkd"])?;
    let collapse = options.choice("whitespace", &["collapse", "keep"])? == "collapse";
    let lower = options.choice("case", &["keep", "lower"])? == "lower";
    let change = |text: &str| -> String {
        let mut text: String = match form {
            "nfkc" => text.nfkc().collect(),
            "nfd" => text.nfd().collect(),
            "nfkd" => text.nfkd().collect(),
            _ => text.nfc().collect(),
        };
        // White space that is also a control character is left for the next step.
        text.retain(|c| !c.is_control() || c.is_whitespace());
        if collapse {
            text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        if lower { text.to_lowercase() } else { text }
    };
    Ok(records
        .into_iter()
        .map(|record| {
            let text = change(record.text());
            record.with_text(text).to_line()
        })
        .collect())
}
