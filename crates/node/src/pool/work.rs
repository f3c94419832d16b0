//! The pool's own threads: they check and split inputs, and write outputs.

use super::actor::{AskError, Handle, Work, WorkQueue, describe};
use super::assemble::assemble;
use super::checks::{self, Referee};
use super::records::Format;
use super::split::{BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, Rules, cut, extract, records_per_task, whole};
use caii_coordinator::{Assembled, AuditView, Input};
use caii_model::{
    Bytes, Digest, Ending, FileMeta, InputError, ItemOutcome, JobId, JobKind, Manifest, Prepared, Scope, TaskId,
    TaskInput,
};
use caii_store::{BlobError, BlobWriter, Blobs};
use caii_wire::limits::TASK_RESULT_MAX;
use std::io::{self, BufReader, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many pieces of work are done at a time.
pub(crate) const THREADS: usize = 2;
/// Largest output or error file of a job.
const OUTPUT_MAX: Bytes = Bytes(1 << 40);
const BUFFER: usize = 256 << 10;
/// Pause after a failure of the disk.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a piece of work has to be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    #[error("cannot ask the coordinator")]
    Ask(#[from] AskError),
    #[error("cannot use the blob store")]
    Blob(#[from] BlobError),
    #[error("cannot read or write a blob")]
    Io(#[from] io::Error),
}

/// What one of the threads has.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) handle: Handle,
    pub(crate) blobs: Arc<dyn Blobs>,
    /// The pool's own executor, if it has one.
    pub(crate) referee: Option<Referee>,
    pub(crate) records_per_job_max: u64,
    pub(crate) tasks_per_job_max: u32,
    pub(crate) stopping: Arc<AtomicBool>,
}

impl Worker {
    /// Works until the queue is closed.
    pub(crate) fn run(&self, queue: &WorkQueue) {
        while let Some(work) = queue.next() {
            let told = self.persist(work).is_none_or(|input| self.handle.tell_blocking(input));
            if !told || self.stopping.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Tries until it is done: what fails here is the disk, never the job. Nothing: the pool stops, and the next
    /// process begins anew.
    fn persist(&self, work: Work) -> Option<Input> {
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            let outcome = match work {
                Work::Prepare(job) => self.prepare(job).map(|result| Input::JobPrepared(job, result)),
                Work::Assemble(job) => self.assemble(job).map(|result| Input::JobAssembled(job, result)),
                Work::Gather(task) => self.gather(task),
                Work::Compare(task) => self.compare(task),
                Work::Referee(task) => self.referee(task),
            };
            match outcome {
                Ok(input) => return Some(input),
                Err(error) => {
                    tracing::error!(?work, reason = %describe(&error), "will be tried again");
                    // Woken early when the pool stops.
                    std::thread::park_timeout(PAUSE);
                }
            }
        }
    }

    fn prepare(&self, job: JobId) -> Result<Result<Prepared, Vec<InputError>>, WorkError> {
        let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
            let spec = coordinator.job_spec(job)?.clone();
            let file = spec.input.and_then(|file| coordinator.file(None, file)).cloned();
            let scope = coordinator.workload(&spec.workload)?.scope;
            let models = coordinator.models().filter(|model| model.workload == spec.workload);
            let models: Vec<String> = models.map(|model| model.name.clone()).collect();
            Some((spec, file, scope, models, coordinator.slots_present()))
        };
        let error = |code: &str, message: &str| Ok(Err(vec![whole(code, message.to_owned())]));
        let Some((spec, file, scope, models, slots)) = self.handle.read_blocking(read)? else {
            return error("job_unknown", "The job is no longer open.");
        };
        let (Some(format), Some(file)) = (Format::of(&spec.kind), file) else {
            return error("input_missing", "The job has no input file.");
        };
        let batch = matches!(spec.kind, JobKind::Batch { .. });
        let to_split = ToSplit { batch, format, records_per_task: spec.records_per_task, file, scope, models, slots };
        let splitter = Splitter {
            blobs: &*self.blobs,
            records_per_job_max: self.records_per_job_max,
            tasks_per_job_max: self.tasks_per_job_max,
        };
        splitter.split(&to_split)
    }

    /// An audit that is under way. Nothing: it came to an end meanwhile.
    fn audit(&self, task: TaskId) -> Result<Option<(AuditView, Manifest)>, WorkError> {
        let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
            let view = coordinator.audit(task)?;
            let manifest = coordinator.workload(&view.workload)?.clone();
            Some((view, manifest))
        };
        Ok(self.handle.read_blocking(read)?)
    }

    fn gather(&self, task: TaskId) -> Result<Input, WorkError> {
        let gathered = match self.audit(task)? {
            Some((view, _)) => checks::gather(&*self.blobs, &view)?,
            // Nobody waits for it.
            None => (Vec::new(), 0),
        };
        let (bytes, records) = gathered;
        let len = u32::try_from(bytes.len()).map_err(|_| BlobError::TooLarge { limit: Bytes(u64::from(u32::MAX)) })?;
        let digest = self.blobs.put_bytes(&bytes)?;
        Ok(Input::AuditGathered(task, digest, TaskInput { digest, offset: 0, len, records }))
    }

    fn compare(&self, task: TaskId) -> Result<Input, WorkError> {
        let differ = match self.audit(task)? {
            Some((view, _)) => checks::compare(&*self.blobs, &view)?,
            None => vec![],
        };
        Ok(Input::AuditCompared(task, differ))
    }

    fn referee(&self, task: TaskId) -> Result<Input, WorkError> {
        let findings = match (self.audit(task)?, &self.referee) {
            (None, _) => Ok(vec![]),
            (_, None) => Err("this pool has no runner of its own".to_owned()),
            (Some((view, manifest)), Some(referee)) => referee.decide(&*self.blobs, &view, &manifest)?,
        };
        if let Err(reason) = &findings {
            tracing::warn!(%task, reason, "an audit stays undecided");
        }
        Ok(Input::AuditRefereed(task, findings))
    }

    fn assemble(&self, job: JobId) -> Result<Assembled, WorkError> {
        let read = move |coordinator: &caii_coordinator::Coordinator, _: &mut dyn caii_store::Store| {
            let assembly = coordinator.assembly(job)?;
            let input = assembly.spec.input.and_then(|file| coordinator.file(None, file)).map(|file| file.digest);
            Some((assembly, input))
        };
        let Some((assembly, input)) = self.handle.read_blocking(read)? else { return Ok(Assembled::default()) };
        let (Some(input), false) = (input, matches!(assembly.ending, Ending::Failed { .. })) else {
            return Ok(Assembled::default());
        };
        let input = BufReader::with_capacity(BUFFER, self.blobs.open(&input, None)?.content);
        let mut output = Sink::new(&*self.blobs, OUTPUT_MAX)?;
        let mut errors = Sink::new(&*self.blobs, OUTPUT_MAX)?;
        let mut fetch = |digest: &Digest| read_result(&*self.blobs, digest).map_err(io::Error::other);
        let counts = assemble(&assembly, input, &mut fetch, &mut output, &mut errors)?;
        Ok(Assembled {
            output: output.finish()?,
            errors: errors.finish()?,
            records_ok: counts.ok,
            records_failed: counts.failed,
        })
    }
}

/// An input to be checked and split, and what that depends on.
pub(crate) struct ToSplit {
    /// Whether it is a batch's.
    pub(crate) batch: bool,
    /// What its lines are.
    pub(crate) format: Format,
    /// Records in a task, if the requester chose.
    pub(crate) records_per_task: Option<u32>,
    /// It.
    pub(crate) file: FileMeta,
    /// What an item is.
    pub(crate) scope: Scope,
    /// The models that its lines may name.
    pub(crate) models: Vec<String>,
    /// Tasks that the connected devices run at a time.
    pub(crate) slots: u32,
}

/// Checks and splits inputs, for jobs and for quotes.
pub(crate) struct Splitter<'a> {
    pub(crate) blobs: &'a dyn Blobs,
    pub(crate) records_per_job_max: u64,
    pub(crate) tasks_per_job_max: u32,
}

impl Splitter<'_> {
    /// The records in a blob of their own, and the tasks; or what is wrong with the input.
    pub(crate) fn split(&self, to_split: &ToSplit) -> Result<Result<Prepared, Vec<InputError>>, WorkError> {
        match self.try_split(to_split) {
            Err(WorkError::Blob(BlobError::NotFound { .. } | BlobError::Corrupt { .. })) => {
                let message = "The pool's store has lost the input file; upload it again.";
                Ok(Err(vec![whole("input_lost", message.to_owned())]))
            }
            other => other,
        }
    }

    fn try_split(&self, to_split: &ToSplit) -> Result<Result<Prepared, Vec<InputError>>, WorkError> {
        let ToSplit { batch, format, records_per_task: asked, file, scope, models, slots } = to_split;
        if *batch && file.size > BATCH_BYTES_MAX {
            let message = format!("The input file has {}; a batch may have at most {BATCH_BYTES_MAX}.", file.size);
            return Ok(Err(vec![whole("file_too_large", message)]));
        }
        let check_model = |name: &str| {
            let message = || {
                let name = super::records::clip(name);
                format!("The model '{name}' does not exist in this pool; GET /v1/models lists those that do.")
            };
            let param = Some("body.model".to_owned());
            match models.iter().any(|model| model == name) {
                true => Ok(()),
                false => Err(InputError { param, ..whole("model_not_found", message()) }),
            }
        };
        let records_max = if *batch { BATCH_REQUESTS_MAX } else { self.records_per_job_max };
        let rules = Rules { format: *format, records_max, check_model: &check_model };
        let input = BufReader::with_capacity(BUFFER, self.blobs.open(&file.digest, None)?.content);
        // Each record is a part of the input; only the last one's line feed may be new.
        let mut output = Sink::new(self.blobs, Bytes(file.size.0 + 1))?;
        let records = match extract(input, &mut output, &rules)? {
            Ok(records) => records,
            Err(errors) => return Ok(Err(errors)),
        };
        let Some((blob, size)) = output.finish()? else { return Ok(Err(vec![])) };
        let per_task = records_per_task(*asked, *scope, records, *slots);
        let cuttable = BufReader::with_capacity(BUFFER, self.blobs.open(&blob, None)?.content);
        Ok(match cut(cuttable, per_task, *scope, self.tasks_per_job_max)? {
            Ok(tasks) => Ok(Prepared { blob, size, records, tasks }),
            Err(error) => Err(vec![error]),
        })
    }
}

/// A task's stored outcomes; nothing if they are lost.
pub(crate) fn read_result(blobs: &dyn Blobs, digest: &Digest) -> Result<Option<Vec<ItemOutcome>>, BlobError> {
    let bytes = match blobs.read(digest, Bytes(TASK_RESULT_MAX as u64)) {
        Ok(bytes) => bytes,
        Err(error @ (BlobError::NotFound { .. } | BlobError::Corrupt { .. } | BlobError::TooLarge { .. })) => {
            tracing::error!(%error, "an accepted result is lost");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match caii_wire::decode_task_result(&bytes) {
        Ok(outcomes) => Ok(Some(outcomes)),
        Err(error) => {
            tracing::error!(%error, %digest, "an accepted result cannot be read");
            Ok(None)
        }
    }
}

/// A blob that is written as a file is.
struct Sink {
    buffer: BufWriter<Pieces>,
}

struct Pieces {
    writer: Box<dyn BlobWriter>,
    any: bool,
}

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.writer.write(piece).map_err(io::Error::other)?;
        self.any |= !piece.is_empty();
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn new(blobs: &dyn Blobs, limit: Bytes) -> Result<Self, BlobError> {
        let pieces = Pieces { writer: blobs.writer(limit)?, any: false };
        Ok(Self { buffer: BufWriter::with_capacity(BUFFER, pieces) })
    }

    /// Makes it durable; nothing if nothing was written.
    fn finish(self) -> Result<Option<(Digest, Bytes)>, WorkError> {
        let pieces = self.buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(if pieces.any { Some(pieces.writer.commit(None)?) } else { None })
    }
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.buffer.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.flush()
    }
}
