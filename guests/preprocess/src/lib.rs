//! Text preprocessing: normalises, cuts into chunks, drops duplicates.

mod chunk;
mod dedup;
mod normalise;

use caii_guest::{Options, Record};

/// Applies the mode that the first argument names to the records of `item`; the result has a line of JSON each.
///
/// # Errors
/// The arguments or a record cannot be read.
pub fn run(item: &[u8], args: &[String]) -> Result<Vec<u8>, String> {
    const MODES: &str = "the first argument is the mode: normalise, chunk or dedup";
    let (mode, rest) = args.split_first().ok_or(MODES)?;
    let known: &[&str] = match mode.as_str() {
        "normalise" => &["field", "form", "whitespace", "case"],
        "chunk" => &["field", "by", "size", "overlap"],
        "dedup" => &["field", "method", "threshold", "shingle", "duplicates"],
        _ => return Err(format!("there is no mode {mode:?}; {MODES}")),
    };
    let options = Options::parse(rest, known)?;
    if let Some(word) = options.words().first() {
        return Err(format!("there is one mode only, but {word:?} follows it"));
    }
    let records = Record::parse_all(item, options.text("field").unwrap_or("text"))?;
    let lines = match mode.as_str() {
        "normalise" => normalise::run(records, &options)?,
        "chunk" => chunk::run(records, &options)?,
        _ => dedup::run(records, &options)?,
    };
    Ok(lines.join("\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `args`, split at spaces, on `item`.
    fn check(args: &str, item: &str, expected: &str) {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let outcome = run(item.as_bytes(), &args).map_or_else(|error| error, |out| String::from_utf8(out).unwrap());
        assert_eq!(outcome, expected, "{args:?}");
    }

    #[test]
    fn normalise_composes_and_collapses_white_space() {
        check(
            "normalise",
            "{\"id\":7,\"text\":\" Cafe\u{301}\\n \u{a0}au\\u0000 lait \"}",
            "{\"id\":7,\"text\":\"Café au lait\"}",
        );
        check("normalise --form nfkc --case lower", "ﬁn DE\u{2126}", "{\"text\":\"fin deω\"}");
        check("normalise --form nfd --whitespace keep", "é  b", "{\"text\":\"e\u{301}  b\"}");
    }

    #[test]
    fn chunks_overlap_and_say_where_they_lie() {
        check(
            "chunk --size 3 --overlap 1",
            "{\"id\":1,\"text\":\"a bb  c d e\"}",
            concat!(
                r#"{"id":1,"chunks":[{"start":0,"end":7,"text":"a bb  c"},"#,
                r#"{"start":6,"end":11,"text":"c d e"}]}"#
            ),
        );
        check(
            "chunk --by characters --size 2",
            "äbc",
            r#"{"chunks":[{"start":0,"end":2,"text":"äb"},{"start":2,"end":3,"text":"c"}]}"#,
        );
        check("chunk", "", r#"{"chunks":[]}"#);
        check("chunk --size 4 --overlap 4", "a", "--overlap is \"4\"; it must be between 0 and 3");
    }

    #[test]
    fn exact_duplicates_are_those_that_differ_in_case_and_white_space_at_most() {
        check("dedup --method exact", "One  two\nthree\none two\n", "{\"text\":\"One  two\"}\n{\"text\":\"three\"}");
    }

    #[test]
    fn near_duplicates_are_dropped_or_marked() {
        let long =
            "the quick brown fox jumps over the lazy dog and then it runs away over the green hills of the north";
        let item = format!("{long}\nsomething else entirely, with words of its own\n{long} today\n");
        let kept = format!("{{\"text\":\"{long}\"}}\n{{\"text\":\"something else entirely, with words of its own\"}}");
        check("dedup", &item, &kept);
        let marked = concat!(
            "{\"text\":\"LONG\",\"duplicate_of\":null}\n",
            "{\"text\":\"something else entirely, with words of its own\",\"duplicate_of\":null}\n",
            "{\"text\":\"LONG today\",\"duplicate_of\":0,\"similarity\":0.95}"
        );
        check("dedup --duplicates mark", &item, &marked.replace("LONG", long));
        let all = item.trim_end().lines().map(|line| format!("{{\"text\":\"{line}\"}}")).collect::<Vec<_>>();
        check("dedup --threshold 0.99", &item, &all.join("\n"));
    }

    #[test]
    fn mistakes_are_named() {
        check("", "a", "the first argument is the mode: normalise, chunk or dedup");
        check(
            "shorten",
            "a",
            "there is no mode \"shorten\"; the first argument is the mode: normalise, chunk or dedup",
        );
        check("chunk --form nfc", "a", "there is no option --form; there are: --field, --by, --size, --overlap");
    }
}
