//! Checks a job's input and splits it into tasks, in constant memory whatever the input's size.

use super::records::{Format, Records, clip};
use caii_model::{Bytes, Digest, Ending, InputError, Scope, TaskInput};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::io::{self, BufRead, Write};

/// Most requests of a batch, and most texts in all its requests, as the OpenAI API has it.
pub(crate) const BATCH_REQUESTS_MAX: u64 = 50_000;
/// Largest input file of a batch.
pub(crate) const BATCH_BYTES_MAX: Bytes = Bytes(200_000_000);
/// A task ends before it grows beyond this, so that a device fetches it in one go; unless its program must see all of
/// it, or a single item is larger.
const TASK_BYTES_SOFT: u64 = 8 << 20;
/// No task is larger.
const TASK_BYTES_MAX: u64 = 256 << 20;
/// Records in a task whose program must see all of it, when the requester does not say: the result depends on it, so it
/// must not depend on the devices that happen to be there.
const TASK_SCOPE_RECORDS: u32 = 500;

/// Which input is acceptable.
pub(crate) struct Rules<'a> {
    /// What its lines are.
    pub(crate) format: Format,
    /// Most records.
    pub(crate) records_max: u64,
    /// Says why a batch may not name this model; asked once for each different name.
    pub(crate) check_model: &'a dyn Fn(&str) -> Result<(), InputError>,
}

/// Writes the records of `input`, each ended by a line feed, to `output` and returns how many there are; or up to
/// [`Ending::ERRORS_MAX`] errors. The outer error is of reading or writing.
pub(crate) fn extract(
    input: impl BufRead,
    output: &mut dyn Write,
    rules: &Rules<'_>,
) -> io::Result<Result<u64, Vec<InputError>>> {
    let mut records = Records::new(input, rules.format);
    let mut errors = Vec::new();
    let mut count = 0_u64;
    let mut batch = BatchCheck::default();
    while let Some(record) = records.next()? {
        if errors.len() >= Ending::ERRORS_MAX {
            break;
        }
        count += 1;
        if count > rules.records_max {
            errors.push(whole(
                "too_many_requests",
                format!("The input has too many records; at most {} are allowed. Split the file.", rules.records_max),
            ));
            break;
        }
        match record.and_then(|record| batch.check(&record, rules).map(|()| record)) {
            Ok(record) if errors.is_empty() => {
                output.write_all(record.text.as_bytes())?;
                output.write_all(b"\n")?;
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    if count == 0 {
        errors.push(whole(
            "empty_file",
            "The input file is empty. Please ensure that it contains at least one record.".to_owned(),
        ));
    }
    errors.truncate(Ending::ERRORS_MAX);
    Ok(if errors.is_empty() { Ok(count) } else { Err(errors) })
}

pub(crate) fn whole(code: &str, message: String) -> InputError {
    InputError { code: code.to_owned(), message, line: None, param: None }
}

/// What holds between the lines of a batch.
#[derive(Default)]
struct BatchCheck {
    /// Of each `custom_id` a part of its digest: the names themselves can take 100 MB.
    custom_ids: HashSet<[u8; 16]>,
    model: Option<String>,
    inputs: u64,
}

impl BatchCheck {
    fn check(&mut self, record: &super::records::Record<'_>, rules: &Rules<'_>) -> Result<(), InputError> {
        let Some(request) = &record.request else { return Ok(()) };
        let error = |code: &str, message, param: &str| InputError {
            code: code.to_owned(),
            message,
            line: Some(record.line),
            param: Some(param.to_owned()),
        };
        let name = Digest::of(request.custom_id.as_bytes());
        if !self.custom_ids.insert(*name.0.first_chunk().expect("a digest has 32 bytes")) {
            return Err(error(
                "duplicate_custom_id",
                format!(
                    "The custom_id '{}' for this request is a duplicate of another request. The custom_id parameter \
                     must be unique for each request in a batch.",
                    clip(&request.custom_id)
                ),
                "custom_id",
            ));
        }
        match &self.model {
            None => {
                (rules.check_model)(&request.model)
                    .map_err(|reason| InputError { line: Some(record.line), ..reason })?;
                self.model = Some(request.model.clone().into_owned());
            }
            Some(model) if *model == request.model => {}
            Some(model) => {
                return Err(error(
                    "mismatched_model",
                    format!(
                        "The model '{}' differs from '{}' of earlier requests; a batch may use one model only.",
                        clip(&request.model),
                        clip(model)
                    ),
                    "body.model",
                ));
            }
        }
        self.inputs += request.inputs;
        if self.inputs > BATCH_REQUESTS_MAX {
            return Err(error(
                "too_many_inputs",
                format!("The requests have more than {BATCH_REQUESTS_MAX} inputs together. Split the file."),
                "body.input",
            ));
        }
        Ok(())
    }
}

/// How many records a task gets. `asked`: what the requester wants.
pub(crate) fn records_per_task(asked: Option<u32>, scope: Scope, records: u64, slots_present: u32) -> u32 {
    let wanted = match (asked, scope) {
        (Some(asked), _) => asked.max(1),
        (None, Scope::Task) => TASK_SCOPE_RECORDS,
        // Eight tasks for each that can run at a time: enough to even out slow devices and lost ones.
        (None, Scope::Item { .. }) => records.div_ceil(8 * u64::from(slots_present.max(1))).clamp(1, 500) as u32,
    };
    // Items do not cross tasks.
    wanted.checked_next_multiple_of(item_records(scope)).unwrap_or(u32::MAX)
}

fn item_records(scope: Scope) -> u32 {
    match scope {
        Scope::Item { records } => records.max(1),
        Scope::Task => 1,
    }
}

/// Cuts records, each ended by a line feed, into tasks.
pub(crate) fn cut(
    mut records: impl BufRead,
    per_task: u32,
    scope: Scope,
    tasks_max: u32,
) -> io::Result<Result<Vec<TaskInput>, InputError>> {
    let group = item_records(scope);
    let mut tasks = Vec::new();
    let mut record = Vec::new();
    let mut task = OpenTask::default();
    loop {
        record.clear();
        if records.read_until(b'\n', &mut record)? == 0 {
            break;
        }
        let full = task.records == per_task;
        let heavy = scope != Scope::Task
            && task.records > 0
            && task.records.is_multiple_of(group)
            && task.len + record.len() as u64 > TASK_BYTES_SOFT;
        if full || heavy {
            tasks.push(task.end());
        }
        task.hasher.update(&record);
        task.len += record.len() as u64;
        task.records += 1;
        if task.len > TASK_BYTES_MAX {
            let message =
                format!("A task would be larger than {}; use fewer records per task or item.", Bytes(TASK_BYTES_MAX));
            return Ok(Err(whole("task_too_large", message)));
        }
        if tasks.len() >= tasks_max as usize {
            let message = format!("The job would have more than {tasks_max} tasks; use more records per task.");
            return Ok(Err(whole("too_many_tasks", message)));
        }
    }
    if task.records > 0 {
        tasks.push(task.end());
    }
    Ok(Ok(tasks))
}

#[derive(Default)]
struct OpenTask {
    hasher: Sha256,
    offset: u64,
    len: u64,
    records: u32,
}

impl OpenTask {
    /// The task, and makes itself ready for the one after it.
    fn end(&mut self) -> TaskInput {
        let done = std::mem::take(self);
        self.offset = done.offset + done.len;
        TaskInput {
            digest: Digest(done.hasher.finalize().into()),
            offset: done.offset,
            len: u32::try_from(done.len).expect("a task has at most TASK_BYTES_MAX bytes"),
            records: done.records,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::{Endpoint, InputFormat};
    use proptest::prelude::*;

    const BATCH: Format = Format::Batch(Endpoint::Embeddings);
    const JSON: Format = Format::Program(InputFormat::JsonLines);
    const LINES: Format = Format::Program(InputFormat::Lines);

    fn only_minilm(name: &str) -> Result<(), InputError> {
        if name == "minilm" { Ok(()) } else { Err(whole("model_not_found", format!("no model {name}"))) }
    }

    fn run(format: Format, input: &[u8]) -> Result<String, Vec<InputError>> {
        let mut output = Vec::new();
        let rules = Rules { format, records_max: 4, check_model: &only_minilm };
        let count = extract(input, &mut output, &rules).unwrap()?;
        let output = String::from_utf8(output).unwrap();
        assert_eq!(output.lines().count() as u64, count);
        assert!(output.ends_with('\n'));
        Ok(output)
    }

    /// Expects these errors, as `line code param`.
    #[track_caller]
    fn check_errors(format: Format, input: impl AsRef<[u8]>, expected: &[&str]) {
        let errors = run(format, input.as_ref()).expect_err("the input was accepted");
        let found: Vec<String> = errors
            .iter()
            .map(|error| {
                let line = error.line.map_or("-".to_owned(), |line| line.to_string());
                format!("{line} {} {}", error.code, error.param.as_deref().unwrap_or("-"))
            })
            .collect();
        assert_eq!(found, expected);
    }

    fn request(custom_id: &str) -> String {
        format!(
            r#"{{"custom_id":"{custom_id}","method":"POST","url":"/v1/embeddings","body":{{"model":"minilm","input":"x"}}}}"#
        )
    }

    #[test]
    fn a_batch_gives_its_bodies_in_order() {
        let input = format!("\u{feff}{}\r\n\r\n  {}  \n\n", request("a"), request("b"));
        assert_eq!(run(BATCH, input.as_bytes()).unwrap(), "{\"model\":\"minilm\",\"input\":\"x\"}\n".repeat(2));
    }

    #[test]
    fn numbers_and_escapes_of_a_body_stay_as_written() {
        let body = r#"{"model": "min\u0069lm", "input":"\u00e9", "x": 1.000000000000000000001}"#;
        let line = format!(r#"{{"body": {body} ,"url":"\/v1\/embeddings","method":"POST","custom_id":"\n"}}"#);
        assert_eq!(run(BATCH, line.as_bytes()).unwrap(), format!("{body}\n"));
    }

    #[test]
    fn program_inputs() {
        assert_eq!(run(JSON, b"\xef\xbb\xbf{\"a\": 1}\r\n\n[2]\n\"x\"").unwrap(), "{\"a\": 1}\n[2]\n\"x\"\n");
        assert_eq!(run(LINES, b"a b\r\n\n c").unwrap(), "a b\n\n c\n");
    }

    #[test]
    fn nothing_to_do() {
        for format in [BATCH, JSON, LINES] {
            check_errors(format, "", &["- empty_file -"]);
        }
        check_errors(BATCH, "\u{feff}", &["- empty_file -"]);
    }

    #[test]
    fn bad_lines() {
        check_errors(BATCH, "\n \r\n", &["- empty_file -"]);
        check_errors(JSON, "{\"a\":1}\n{oops}\n1 2\n", &["2 invalid_json_line -", "3 invalid_json_line -"]);
        check_errors(LINES, b"ok\n\xff\xfe\n", &["2 invalid_utf8 -"]);
        check_errors(BATCH, b"\xff", &["1 invalid_utf8 -"]);
        check_errors(JSON, format!("1\n\"{}\"\n2\n", "x".repeat(2 << 20)), &["2 line_too_long -"]);
        check_errors(LINES, "1\n2\n3\n4\n5\n", &["- too_many_requests -"]);
    }

    #[test]
    fn bad_requests() {
        let good = request("a");
        for (from, to, expected) in [
            ("\"custom_id\"", "\"custom\"", "1 missing_required_parameter custom_id"),
            ("\"a\"", "7", "1 invalid_type custom_id"),
            ("\"a\"", "\"\"", "1 invalid_custom_id custom_id"),
            ("\"a\"", &format!("\"{}\"", "é".repeat(513)), "1 invalid_custom_id custom_id"),
            ("\"POST\"", "\"GET\"", "1 invalid_method method"),
            ("\"method\"", "\"m\"", "1 missing_required_parameter method"),
            ("/v1/embeddings", "/v1/chat/completions", "1 mismatched_endpoint url"),
            ("\"url\"", "\"uri\"", "1 missing_required_parameter url"),
            ("\"body\"", "\"b\"", "1 missing_required_parameter body"),
            ("{\"model\":\"minilm\",\"input\":\"x\"}", "[]", "1 invalid_type body"),
            ("{\"model\":\"minilm\",\"input\":\"x\"}", "null", "1 missing_required_parameter body"),
            ("\"model\":\"minilm\",", "", "1 missing_required_parameter body.model"),
            ("\"minilm\"", "null", "1 missing_required_parameter body.model"),
            ("\"minilm\"", "[1]", "1 invalid_type body.model"),
            ("\"minilm\"", "\"gpt\"", "1 model_not_found -"),
        ] {
            check_errors(BATCH, good.replacen(from, to, 1), &[expected]);
        }
        check_errors(BATCH, "[\"a\",\"POST\",\"/v1/embeddings\",{}]", &["1 invalid_json_line -"]);
        check_errors(BATCH, &good[..good.len() - 1], &["1 invalid_json_line -"]);
    }

    #[test]
    fn requests_that_do_not_go_together() {
        let (a, b) = (request("a"), request("b"));
        check_errors(BATCH, format!("{a}\n{b}\n{a}"), &["3 duplicate_custom_id custom_id"]);
        let other = b.replace("minilm", "gpt");
        check_errors(BATCH, format!("{a}\n{other}"), &["2 mismatched_model body.model"]);
        let many = |id| request(id).replace("\"x\"", &format!("[{}\"x\"]", "\"x\",".repeat(29_999)));
        check_errors(BATCH, format!("{}\n{}", many("a"), many("b")), &["2 too_many_inputs body.input"]);
        let tokens = |id| request(id).replace("\"x\"", &format!("[{}1]", "1,".repeat(29_999)));
        assert!(run(BATCH, format!("{}\n{}", tokens("a"), tokens("b")).as_bytes()).is_ok());
    }

    #[test]
    fn at_most_a_hundred_errors_are_listed() {
        let rules = Rules { format: JSON, records_max: 1000, check_model: &only_minilm };
        let errors = extract("{\n".repeat(300).as_bytes(), &mut io::sink(), &rules).unwrap().unwrap_err();
        assert_eq!((errors.len(), errors[99].line), (100, Some(100)));
    }

    #[test]
    fn task_sizes() {
        let one = Scope::Item { records: 1 };
        assert_eq!(records_per_task(Some(500), one, 7, 1), 500);
        assert_eq!(records_per_task(None, one, 2000, 3), 84);
        assert_eq!(records_per_task(None, one, 3, 0), 1);
        assert_eq!(records_per_task(None, one, 50_000, 1), 500);
        assert_eq!(records_per_task(None, Scope::Item { records: 64 }, 2000, 3), 128);
        assert_eq!(records_per_task(None, Scope::Task, 2000, 3), 500);
        assert_eq!(records_per_task(Some(u32::MAX), Scope::Item { records: 2 }, 2000, 3), u32::MAX);
    }

    #[test]
    fn heavy_records_make_smaller_tasks() {
        let records = format!("{}\n", "x".repeat(1 << 20)).repeat(20);
        let sizes = |scope| -> Vec<u32> {
            cut(records.as_bytes(), 500, scope, 100).unwrap().unwrap().iter().map(|task| task.records).collect()
        };
        assert_eq!(sizes(Scope::Item { records: 1 }), [7, 7, 6]);
        assert_eq!(sizes(Scope::Item { records: 5 }), [10, 10]);
        assert_eq!(sizes(Scope::Task), [20]);
        let too_many = cut(records.as_bytes(), 1, Scope::Task, 19).unwrap().unwrap_err();
        assert_eq!(too_many.code, "too_many_tasks");
        let huge = format!("{}\n", "x".repeat(1 << 20)).repeat(257);
        assert_eq!(cut(huge.as_bytes(), 500, Scope::Task, 100).unwrap().unwrap_err().code, "task_too_large");
    }

    proptest! {
        #[test]
        fn tasks_cover_the_records(
            records in proptest::collection::vec("[a-z]{0,8}", 1..50), per_task in 1_u32..9, group in 1_u32..4
        ) {
            let scope = Scope::Item { records: group };
            let per_task = records_per_task(Some(per_task), scope, records.len() as u64, 1);
            let blob: String = records.iter().map(|record| format!("{record}\n")).collect();
            let tasks = cut(blob.as_bytes(), per_task, scope, 1000).unwrap().unwrap();
            let mut at = 0;
            for (place, task) in tasks.iter().enumerate() {
                prop_assert_eq!(task.offset, at);
                let bytes = &blob.as_bytes()[at as usize..][..task.len as usize];
                prop_assert_eq!(task.digest, Digest::of(bytes));
                prop_assert_eq!(task.records as usize, bytes.iter().filter(|byte| **byte == b'\n').count());
                prop_assert!(task.records % group == 0 || place == tasks.len() - 1);
                at += u64::from(task.len);
            }
            prop_assert_eq!(at as usize, blob.len());
        }
    }
}
