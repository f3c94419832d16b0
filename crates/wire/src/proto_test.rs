//! The structs that are encoded are those of the `.proto` files.
//!
//! Both texts are brought to one list of lines `Message.field type number`, so that a difference shows as a difference
//! of lines.

use std::collections::BTreeMap;

const CONTRACT: [&str; 2] =
    [include_str!("../proto/caii/v1/agent.proto"), include_str!("../proto/caii/v1/records.proto")];
const STRUCTS: &str = include_str!("proto.rs");

#[test]
fn structs_are_those_of_the_contract() {
    let mut expected: Vec<String> = CONTRACT.iter().flat_map(|text| lines_of_contract(text)).collect();
    let mut found = lines_of_structs(STRUCTS);
    expected.sort();
    found.sort();
    assert!(expected.len() > 100, "the contract was hardly read: {expected:#?}");
    let missing: Vec<_> = expected.iter().filter(|line| !found.contains(line)).collect();
    let surplus: Vec<_> = found.iter().filter(|line| !expected.contains(line)).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "only in the contract: {missing:#?}\nonly in code: {surplus:#?}");
}

/// Numbers within one message or enum are distinct, or one field would overwrite another.
#[test]
fn numbers_are_distinct() {
    let mut seen = BTreeMap::new();
    for line in CONTRACT.iter().flat_map(|text| lines_of_contract(text)) {
        let (owner, number) = (line.split('.').next().unwrap(), line.rsplit(' ').next().unwrap());
        if let Some(earlier) = seen.insert((owner.to_owned(), number.to_owned()), line.clone()) {
            panic!("`{earlier}` and `{line}` have the same number");
        }
    }
}

/// The contract does not change unseen. Whoever changes it on purpose writes the new lines' digest here, having made
/// sure that no number or type that was released has changed (add fields; never renumber).
#[test]
fn the_contract_is_this_one() {
    let mut lines: Vec<String> = CONTRACT.iter().flat_map(|text| lines_of_contract(text)).collect();
    lines.sort();
    let digest = caii_model::Digest::of(lines.join("\n").as_bytes());
    assert_eq!(digest.short(), "46e9a40c9f44");
}

/// Knows as much of proto3 as these files use: one statement a line, no nesting but `oneof`.
fn lines_of_contract(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut owner, mut is_enum, mut in_oneof) = (String::new(), false, false);
    for line in text.lines().map(|line| line.split("//").next().unwrap().trim()) {
        let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
        match words.as_slice() {
            [] | ["syntax" | "package" | "import", ..] => {}
            [kind @ ("message" | "enum"), name, "{"] => (owner, is_enum) = ((*name).to_owned(), *kind == "enum"),
            ["oneof", _, "{"] => in_oneof = true,
            ["}"] => in_oneof = false,
            [name, "=", number] if is_enum => {
                let prefix = upper_snake(&owner);
                let name = name.strip_prefix(&format!("{prefix}_")).unwrap_or_else(|| panic!("{name} lacks {prefix}"));
                lines.push(format!("{owner}.{name} choice {number}"));
            }
            [label @ ("optional" | "repeated"), of, name, "=", number] => {
                lines.push(format!("{owner}.{name} {label} {of} {number}"));
            }
            [of, name, "=", number] => {
                let label = if in_oneof { "oneof " } else { "" };
                lines.push(format!("{owner}.{name} {label}{of} {number}"));
            }
            _ => panic!("not understood: `{line}`"),
        }
    }
    lines
}

/// Reads the attributes and names of the derived structs.
fn lines_of_structs(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut owner, mut is_enum, mut module) = (String::new(), false, false);
    let mut attribute: Option<Attribute> = None;
    for line in text.lines() {
        if line == "}" {
            module = false;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(inner) = line.trim().strip_prefix("#[prost(") {
            attribute = Some(Attribute::of(inner));
            continue;
        }
        match words.as_slice() {
            ["pub(crate)", "struct", name, "{"] => (owner, is_enum) = ((*name).to_owned(), false),
            ["pub(crate)", "enum", name, "{"] if !module => (owner, is_enum) = ((*name).to_owned(), true),
            ["pub(crate)", "mod", name, "{"] => {
                (owner, is_enum, module) = (camel(name), false, true);
            }
            ["pub(crate)", name, of @ ..] if name.ends_with(':') => {
                let name = name.trim_end_matches(':');
                let attribute = attribute.take().expect("every field has an attribute");
                // A oneof's parts are listed at its own enum.
                if let Some(kind) = attribute.kind(&of.concat(), false) {
                    lines.push(format!("{owner}.{name} {kind} {}", attribute.number));
                }
            }
            [variant] if module && variant.ends_with("),") => {
                let (name, of) = variant.trim_end_matches("),").split_once('(').unwrap();
                let attribute = attribute.take().expect("every variant has an attribute");
                let kind = attribute.kind(of, true).expect("a oneof does not hold a oneof");
                let name = upper_snake(name).to_lowercase();
                lines.push(format!("{owner}.{name} oneof {kind} {}", attribute.number));
            }
            [name, "=", number] if is_enum => {
                lines.push(format!("{owner}.{} choice {}", upper_snake(name), number.trim_end_matches(',')));
            }
            _ => {}
        }
    }
    lines
}

struct Attribute {
    kind: String,
    target: Option<String>,
    label: Option<&'static str>,
    number: String,
}

impl Attribute {
    fn of(inner: &str) -> Self {
        let inner = inner.trim_end_matches(")]");
        let quoted = |key: &str| {
            let rest = inner.split_once(&format!("{key} = \""))?.1;
            Some(rest.split('"').next().unwrap().to_owned())
        };
        let kind = inner.split([',', ' ']).next().unwrap().to_owned();
        let has = |word: &str| inner.split(", ").any(|part| part == word);
        let label = [("optional", has("optional")), ("repeated", has("repeated"))];
        Self {
            target: quoted("enumeration"),
            label: label.into_iter().find(|(_, has)| *has).map(|(label, _)| label),
            number: quoted("tag").unwrap_or_default(),
            kind,
        }
    }

    /// As the contract would say it, given the Rust type; nothing for a oneof.
    fn kind(&self, of: &str, in_oneof: bool) -> Option<String> {
        let last = |path: &str| path.rsplit("::").next().unwrap().to_owned();
        let of = of.trim_end_matches(',').trim_end_matches('>');
        let of = of.rsplit('<').next().unwrap();
        let name = match self.kind.as_str() {
            "oneof" => return None,
            "message" => last(of),
            "enumeration" => last(self.target.as_deref().unwrap()),
            scalar => scalar.to_owned(),
        };
        // A message that stands alone is always optional: proto3 does not say so.
        let label = self.label.filter(|label| !(in_oneof || self.kind == "message" && *label == "optional"));
        Some(label.map_or(name.clone(), |label| format!("{label} {name}")))
    }
}

fn upper_snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_uppercase());
    }
    out
}

fn camel(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
