//! A record of text: a JSON object with a text field, or a plain line.

use serde_json::{Map, Value};

/// A record and its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// All fields in their order; a plain line is `{"text": line}` under the field's name.
    pub fields: Map<String, Value>,
    field: String,
}

impl Record {
    /// Reads one record without its line end. A line that begins with `{` is a JSON object and must have the text field
    /// `field`; every other line is text itself.
    ///
    /// # Errors
    /// The line is not UTF-8, a malformed object, or an object without that field.
    pub fn parse(line: &[u8], field: &str) -> Result<Self, String> {
        let line = str::from_utf8(line).map_err(|error| format!("the record is not UTF-8: {error}"))?;
        let fields = if line.trim_start().starts_with('{') {
            let fields: Map<String, Value> =
                serde_json::from_str(line).map_err(|error| format!("the record is not a JSON object: {error}"))?;
            match fields.get(field) {
                Some(Value::String(_)) => fields,
                Some(_) => return Err(format!("the record's field {field:?} is no text")),
                None => return Err(format!("the record has no field {field:?}; --field names another one")),
            }
        } else {
            Map::from_iter([(field.to_owned(), Value::from(line))])
        };
        Ok(Self { fields, field: field.to_owned() })
    }

    /// Reads every record of an item, each without its line end. An item is one record, or several, each ended by a
    /// line feed; a carriage return before it belongs to the line end.
    ///
    /// # Errors
    /// The first record that cannot be read, with its number (from 0) when there are several.
    pub fn parse_all(item: &[u8], field: &str) -> Result<Vec<Self>, String> {
        let body = item.strip_suffix(b"\n").unwrap_or(item);
        let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
        let several = lines.len() > 1;
        let parse = |(index, line): (usize, &[u8])| {
            Self::parse(line.strip_suffix(b"\r").unwrap_or(line), field)
                .map_err(|reason| if several { format!("record {index}: {reason}") } else { reason })
        };
        lines.into_iter().enumerate().map(parse).collect()
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.fields.get(&self.field).and_then(Value::as_str).expect("parse checks that it is there and is text")
    }

    /// The record with another text.
    #[must_use]
    pub fn with_text(mut self, text: String) -> Self {
        self.fields.insert(self.field.clone(), Value::from(text));
        self
    }

    /// The record as one line of JSON without line end.
    #[must_use]
    pub fn to_line(&self) -> String {
        Value::Object(self.fields.clone()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_plain_lines_are_records() {
        let item = b"{\"id\": 1, \"text\": \"one\"}\r\nplain line\n";
        let records = Record::parse_all(item, "text").unwrap();
        assert_eq!(records.iter().map(Record::text).collect::<Vec<_>>(), ["one", "plain line"]);
        assert_eq!(records[0].clone().with_text("two".to_owned()).to_line(), r#"{"id":1,"text":"two"}"#);
        assert_eq!(records[1].to_line(), r#"{"text":"plain line"}"#);
        assert_eq!(Record::parse_all(b"", "text").unwrap()[0].text(), "");
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_number() {
        for (item, words) in [
            (&b"{\"text\": 1}"[..], "the record's field \"text\" is no text"),
            (b"{\"body\": \"a\"}", "the record has no field \"text\""),
            (b"a\n{\"text\"\n", "record 1: the record is not a JSON object"),
            (b"\xff", "the record is not UTF-8"),
        ] {
            assert!(Record::parse_all(item, "text").unwrap_err().starts_with(words), "{words}");
        }
    }
}
