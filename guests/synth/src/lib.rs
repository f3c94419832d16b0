//! Synthetic records from a template.

mod placeholder;
mod words;

use caii_guest::Random;
use serde::Deserialize;
use serde_json::{Map, Value};

use placeholder::Placeholder;

/// Most records of one item.
const MAX_COUNT: u64 = 100_000;

/// Most placeholders in a template.
const MAX_PLACEHOLDERS: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    template: Value,
    seed: u64,
    #[serde(default = "one")]
    count: u64,
    /// Number of the first record: records 10 to 19 are the same whether they are made alone or with others.
    #[serde(default)]
    start: u64,
}

fn one() -> u64 {
    1
}

/// Makes the records that `item`, a JSON object, describes, one line of JSON each.
///
/// # Errors
/// The item is malformed or a placeholder cannot be understood, or there are arguments.
pub fn run(item: &[u8], args: &[String]) -> Result<Vec<u8>, String> {
    if let Some(arg) = args.first() {
        return Err(format!("this program takes no arguments, such as {arg:?}"));
    }
    let task: Task = serde_json::from_slice(item).map_err(|error| format!("the item is no template: {error}"))?;
    if task.count == 0 || task.count > MAX_COUNT {
        return Err(format!("'count' is {}; it must be between 1 and {MAX_COUNT}", task.count));
    }
    let end = task.start.checked_add(task.count).ok_or("'start' is too large")?;
    let mut placeholders = 0;
    let template = Template::parse(&task.template, &mut placeholders)?;
    let lines: Vec<String> = (task.start..end)
        .map(|index| template.fill(&mut Record { index, random: Random::new(task.seed, index) }).to_string())
        .collect();
    Ok(lines.join("\n").into_bytes())
}

/// What placeholders draw from while one record is made.
struct Record {
    index: u64,
    random: Random,
}

/// A template with its placeholders understood.
enum Template {
    Fixed(Value),
    /// A text that is one placeholder: takes the placeholder's type.
    Whole(Placeholder),
    /// A text with placeholders in it.
    Text(Vec<Piece>),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
}

enum Piece {
    Fixed(String),
    Placeholder(Placeholder),
}

impl Template {
    fn parse(value: &Value, placeholders: &mut usize) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::parse_text(text, placeholders)?,
            Value::Array(entries) => {
                Self::List(entries.iter().map(|entry| Self::parse(entry, placeholders)).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, field)| Ok((name.clone(), Self::parse(field, placeholders)?)))
                    .collect::<Result<_, String>>()?,
            ),
            fixed => Self::Fixed(fixed.clone()),
        })
    }

    fn parse_text(text: &str, placeholders: &mut usize) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, opened)) = rest.split_once("{{") {
            let (inside, after) = opened
                .split_once("}}")
                .ok_or_else(|| format!("the template has \"{{{{\" without \"}}}}\" in {text:?}"))?;
            if !before.is_empty() {
                pieces.push(Piece::Fixed(before.to_owned()));
            }
            *placeholders += 1;
            if *placeholders > MAX_PLACEHOLDERS {
                return Err(format!("the template has more than {MAX_PLACEHOLDERS} placeholders"));
            }
            pieces.push(Piece::Placeholder(Placeholder::parse(inside)?));
            rest = after;
        }
        if pieces.is_empty() {
            return Ok(Self::Fixed(Value::from(text)));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Fixed(rest.to_owned()));
        }
        Ok(match <[Piece; 1]>::try_from(pieces) {
            Ok([Piece::Placeholder(placeholder)]) => Self::Whole(placeholder),
            Ok([piece]) => Self::Text(vec![piece]),
            Err(pieces) => Self::Text(pieces),
        })
    }

    fn fill(&self, record: &mut Record) -> Value {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Whole(placeholder) => placeholder.draw(record),
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Fixed(fixed) => text.push_str(fixed),
                        Piece::Placeholder(placeholder) => match placeholder.draw(record) {
                            Value::String(drawn) => text.push_str(&drawn),
                            other => text.push_str(&other.to_string()),
                        },
                    }
                }
                Value::from(text)
            }
            Self::List(entries) => entries.iter().map(|entry| entry.fill(record)).collect(),
            Self::Object(fields) => Value::Object(
                fields.iter().map(|(name, field)| (name.clone(), field.fill(record))).collect::<Map<_, _>>(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(item: &Value) -> Result<Vec<Value>, String> {
        let out = String::from_utf8(run(item.to_string().as_bytes(), &[])?).unwrap();
        Ok(out.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[test]
    fn a_template_is_filled_with_values_of_its_placeholders_types() {
        let template = json!({
            "id": "{{index}}", "key": "{{uuid}}", "who": "{{name}} <{{email}}>", "age": "{{int 18 80}}",
            "score": "{{normal 10 2 1}}", "share": "{{float 0 1 3}}", "plan": "{{choice free:8|paid}}",
            "since": "{{date 2024-02-28 2024-03-01}}", "tags": ["fixed", "{{bool}}"], "note": "{{words 3}}", "n": 1,
        });
        let records = lines(&json!({ "template": template, "seed": 1, "count": 300 })).unwrap();
        assert_eq!(records.len(), 300);
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record["id"], index);
            assert!((18..=80).contains(&record["age"].as_i64().unwrap()), "{record}");
            assert!((0.0..=1.0).contains(&record["share"].as_f64().unwrap()), "{record}");
            assert!(["free", "paid"].contains(&record["plan"].as_str().unwrap()), "{record}");
            let since = record["since"].as_str().unwrap();
            assert!(["2024-02-28", "2024-02-29", "2024-03-01"].contains(&since), "{record}");
            let key = record["key"].as_str().unwrap();
            assert!(key.len() == 36 && key.as_bytes()[14] == b'4' && b"89ab".contains(&key.as_bytes()[19]), "{record}");
            assert!(record["who"].as_str().unwrap().ends_with(".example>"), "{record}");
            assert!(record["tags"][1].is_boolean() && record["tags"][0] == "fixed" && record["n"] == 1, "{record}");
            assert_eq!(record["note"].as_str().unwrap().split(' ').count(), 3, "{record}");
        }
        let free = records.iter().filter(|record| record["plan"] == "free").count();
        assert!((240..295).contains(&free), "8 in 9 are free: {free}");
        let mean = records.iter().map(|record| record["score"].as_f64().unwrap()).sum::<f64>() / 300.0;
        assert!((mean - 10.0).abs() < 0.5, "{mean}");
    }

    #[test]
    fn records_do_not_depend_on_how_they_are_cut_into_items() {
        let template = json!("{{uuid}}");
        let all = lines(&json!({ "template": template, "seed": 9, "count": 6 })).unwrap();
        let tail = lines(&json!({ "template": template, "seed": 9, "start": 4, "count": 2 })).unwrap();
        assert_eq!(all[4..], tail);
        assert_ne!(all[4], all[5]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (template, words) in [
            ("{{", "has \"{{\" without \"}}\""),
            ("{{colour}}", "there is no placeholder \"colour\""),
            ("{{int 5}}", "{{int 5}}: it is written {{int LOW HIGH}}"),
            ("{{int 5 1}}", "LOW must not exceed HIGH"),
            ("{{float 0 1 99}}", "DIGITS"),
            ("{{choice }}", "{{choice }}"),
            ("{{choice a:0}}", "WEIGHT"),
            ("{{date 2023-02-29 2024-01-01}}", "\"2023-02-29\" is no date"),
        ] {
            let refusal = lines(&json!({ "template": template, "seed": 1 })).unwrap_err();
            assert!(refusal.contains(words), "{template}: {refusal}");
        }
        let many = lines(&json!({ "template": 1, "seed": 1, "count": 100_001 })).unwrap_err();
        assert!(many.contains("'count' is 100001"), "{many}");
    }
}
