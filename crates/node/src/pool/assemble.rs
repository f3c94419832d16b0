//! Writes a job's output and error lines, in the order of its input, from the results of its tasks; in constant memory
//! but for one task's results at a time.

use super::records::{Format, Record, Records};
use caii_coordinator::{Assembly, Attempt};
use caii_model::{Digest, Ending, ItemError, ItemOutcome, JobId, Scope, TaskIndex, TrapKind};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::RawValue;
use std::io::{self, BufRead, Write};

/// Records that got an output line's worth of result, and those that got an error line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
}

/// Where results come from: nothing for a result that is lost.
pub(crate) type Fetch<'a> = dyn FnMut(&Digest) -> io::Result<Option<Vec<ItemOutcome>>> + 'a;

/// Writes the lines of a job that is ending. `input` is its input file.
pub(crate) fn assemble(
    assembly: &Assembly,
    input: impl BufRead,
    fetch: &mut Fetch<'_>,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<Counts> {
    let (Some(format), Some(prepared)) = (Format::of(&assembly.spec.kind), &assembly.prepared) else {
        return Ok(Counts::default());
    };
    let mut records = Records::new(input, format);
    let mut writer = Writer { job: assembly.id, output, errors, counts: Counts::default() };
    let mut number = 0;
    for (index, task) in (0..).map(TaskIndex).zip(&prepared.tasks) {
        let items = match assembly.scope {
            Scope::Item { records } => records.max(1),
            Scope::Task => task.records,
        };
        let state = TaskState::of(assembly, index, fetch)?;
        let expected = task.records.div_ceil(items) as usize;
        let state = match state {
            TaskState::Done(outcomes) if outcomes.len() != expected => TaskState::Lost,
            state => state,
        };
        for place in 0..task.records {
            number += 1;
            let record = records.next()?.and_then(Result::ok).ok_or_else(|| {
                let message = format!("the input of {} is not what it was when it was split", assembly.id);
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?;
            // A result belongs to the whole item; its line is written at the first record.
            if place % items == 0 {
                let item = Item { number, records: items.min(task.records - place) };
                writer.item(&record, item, &state.of_item((place / items) as usize))?;
            }
        }
    }
    Ok(writer.counts)
}

/// What there is of a task.
enum TaskState<'a> {
    Done(Vec<ItemOutcome>),
    /// Its result was accepted, but its blob is gone or broken.
    Lost,
    GivenUp(&'a [Attempt]),
    /// The job ended before it was done.
    Undone(&'a Ending),
}

enum ItemState<'a> {
    Done(&'a ItemOutcome),
    /// A code and a message.
    Missing(&'static str, String),
}

impl<'a> TaskState<'a> {
    fn of(assembly: &'a Assembly, index: TaskIndex, fetch: &mut Fetch<'_>) -> io::Result<Self> {
        if let Some(settled) = assembly.settled.get(&index) {
            return Ok(fetch(&settled.report.result)?.map_or(Self::Lost, Self::Done));
        }
        Ok(match assembly.given_up.get(&index) {
            Some(attempts) => Self::GivenUp(attempts),
            None => Self::Undone(&assembly.ending),
        })
    }

    fn of_item(&self, place: usize) -> ItemState<'_> {
        match self {
            Self::Done(outcomes) => ItemState::Done(&outcomes[place]),
            Self::Lost => ItemState::Missing(
                "result_lost",
                "The pool's store lost the result; submit this record again.".to_owned(),
            ),
            Self::GivenUp(attempts) => ItemState::Missing("task_given_up", given_up(attempts)),
            Self::Undone(Ending::Expired) => ItemState::Missing(
                "batch_expired",
                "This request could not be executed before the completion window expired.".to_owned(),
            ),
            Self::Undone(_) => ItemState::Missing(
                "batch_cancelled",
                "This request was not executed before the job was cancelled.".to_owned(),
            ),
        }
    }
}

/// Some of the reasons, the latest first.
pub(crate) fn given_up(attempts: &[Attempt]) -> String {
    let reasons: Vec<String> = attempts
        .iter()
        .rev()
        .take(3)
        .map(|attempt| format!("{:?} ({})", attempt.failure.kind, attempt.failure.detail))
        .collect();
    format!("The record's task failed {} time(s) and was given up. {}", attempts.len(), reasons.join("; "))
}

#[derive(Clone, Copy)]
struct Item {
    /// Its first record's place in the input, from 1.
    number: u64,
    records: u32,
}

struct Writer<'a> {
    job: JobId,
    output: &'a mut dyn Write,
    errors: &'a mut dyn Write,
    counts: Counts,
}

impl Writer<'_> {
    fn item(&mut self, record: &Record<'_>, item: Item, state: &ItemState<'_>) -> io::Result<()> {
        let ok = match &record.request {
            Some(request) => self.request(&request.custom_id, item.number, state)?,
            None => self.program(record.line, item, state)?,
        };
        *(if ok { &mut self.counts.ok } else { &mut self.counts.failed }) += u64::from(item.records);
        Ok(())
    }

    /// Writes a program's result. True if it is one.
    fn program(&mut self, line: u64, item: Item, state: &ItemState<'_>) -> io::Result<bool> {
        let (code, message, stderr) = match state {
            ItemState::Done(ItemOutcome { result: Ok(stdout), .. }) => {
                self.output.write_all(stdout)?;
                // A program that says nothing drops its record, as a filter does.
                if stdout.last().is_some_and(|last| *last != b'\n') {
                    self.output.write_all(b"\n")?;
                }
                return Ok(true);
            }
            ItemState::Done(ItemOutcome { result: Err(error), stderr, .. }) => {
                let (code, message) = describe(*error);
                (code, message, String::from_utf8_lossy(stderr))
            }
            ItemState::Missing("batch_expired", _) => {
                ("expired", "The job's deadline passed before this record was done.".to_owned(), "".into())
            }
            ItemState::Missing("batch_cancelled", _) => {
                ("cancelled", "The job was cancelled before this record was done.".to_owned(), "".into())
            }
            ItemState::Missing(code, message) => (*code, message.clone(), "".into()),
        };
        let mut entry = json!({"record": item.number, "line": line});
        if item.records > 1 {
            entry["records"] = item.records.into();
        }
        entry["error"] = json!({"code": code, "message": message});
        entry["stderr"] = stderr.into();
        write_line(self.errors, &entry)?;
        Ok(false)
    }

    /// Writes a request's response. True if it succeeded.
    fn request(&mut self, custom_id: &str, number: u64, state: &ItemState<'_>) -> io::Result<bool> {
        let (status, body) = match state {
            ItemState::Missing(code, message) => {
                let error = json!({"code": code, "message": message});
                self.request_line(custom_id, number, None, Some(error))?;
                return Ok(false);
            }
            ItemState::Done(outcome) => response(outcome),
        };
        self.request_line(custom_id, number, Some((status, &body)), None)?;
        Ok(status == 200)
    }

    fn request_line(
        &mut self,
        custom_id: &str,
        number: u64,
        response: Option<(u16, &RawValue)>,
        error: Option<serde_json::Value>,
    ) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            id: String,
            custom_id: &'a str,
            response: Option<Response<'a>>,
            error: Option<serde_json::Value>,
        }
        #[derive(Serialize)]
        struct Response<'a> {
            status_code: u16,
            request_id: String,
            body: &'a RawValue,
        }
        // Of the job and the record, so that writing the output again after a crash gives the same bytes.
        let id = Digest::of_fields("caii batch request", &[&self.job.0.to_le_bytes(), &number.to_le_bytes()]).hex();
        let ok = matches!(response, Some((200, _)));
        let line = Line {
            id: format!("batch_req_{}", &id[..24]),
            custom_id,
            response: response.map(|(status_code, body)| Response {
                status_code,
                request_id: format!("req_{}", &id[24..48]),
                body,
            }),
            error,
        };
        write_line(if ok { &mut *self.output } else { &mut *self.errors }, &line)
    }
}

fn write_line(to: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}

/// The HTTP answer that an item's outcome is: its status and its body, which has no line breaks.
pub(crate) fn response(outcome: &ItemOutcome) -> (u16, Box<RawValue>) {
    let failure = |status, kind: &str, message: &str, code: Option<&str>| {
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        (status, serde_json::value::to_raw_value(&body).expect("a JSON value can be written"))
    };
    match &outcome.result {
        Ok(stdout) => one_line_json(stdout).map_or_else(
            || failure(500, "server_error", "The model's answer is not JSON.", Some("invalid_answer")),
            |body| (200, body),
        ),
        Err(ItemError::Exit(status)) => {
            let reason = String::from_utf8_lossy(&outcome.stderr);
            let reason = match reason.trim() {
                "" => format!("The model refused the request without a reason (exit code {status})."),
                reason => reason.to_owned(),
            };
            failure(400, "invalid_request_error", &reason, None)
        }
        Err(error) => {
            let (code, message) = describe(*error);
            failure(500, "server_error", &message, Some(code))
        }
    }
}

/// The text if it is JSON, its line breaks made spaces: within JSON, they stand between tokens only.
fn one_line_json(text: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice::<IgnoredAny>(text).ok()?;
    let text = std::str::from_utf8(text).ok()?.trim().replace(['\n', '\r'], " ");
    RawValue::from_string(text).ok()
}

/// A stable code and a sentence.
pub(crate) fn describe(error: ItemError) -> (&'static str, String) {
    let trap = |what: &str| ("program_trapped", format!("The program trapped: {what}."));
    match error {
        ItemError::Exit(code) => ("program_failed", format!("The program ended with exit code {code}.")),
        ItemError::Trap(TrapKind::Unreachable) => trap("it aborted (instruction `unreachable`, usually a panic)"),
        ItemError::Trap(TrapKind::OutOfBounds) => trap("it accessed memory or a table out of bounds"),
        ItemError::Trap(TrapKind::StackOverflow) => trap("its call stack overflowed"),
        ItemError::Trap(TrapKind::BadCall) => trap("it called a missing function or one of another type"),
        ItemError::Trap(TrapKind::Arithmetic) => trap("it divided by zero or converted an invalid number"),
        ItemError::Trap(TrapKind::Other) => trap("an operation was not possible"),
        ItemError::FuelExhausted => {
            ("fuel_exhausted", "The program used more fuel than its manifest allows for one item.".to_owned())
        }
        ItemError::OutputTooLarge => {
            ("output_too_large", "The program wrote more than its manifest allows for one item.".to_owned())
        }
    }
}
