//! The shell's part in checking results: it gathers the items of audits, compares what was reported of them, and runs
//! items on this machine when nobody else can decide.

use super::work::read_result;
use crate::items;
use caii_coordinator::{AuditView, Finding};
use caii_model::{Bytes, Digest, ItemOutcome, Manifest, TaskIndex, TaskInput};
use caii_sandbox::{DeviceSecret, Priority, Runner, RunnerSpec};
use caii_store::{BlobError, Blobs};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Largest input of one task.
const INPUT_MAX: u64 = 256 << 20;
/// Bytes that one run of the referee may put out.
const OUTPUT_MAX: Bytes = Bytes::mebi(192);

/// The pool's own executor, whom its operator trusts.
#[derive(Debug, Clone)]
pub(crate) struct Referee {
    /// The executable and arguments that become a runner.
    pub(crate) runner: (PathBuf, Vec<OsString>),
    /// Where it keeps compiled programs and what it needs as files.
    pub(crate) dir: PathBuf,
    pub(crate) secret: [u8; 32],
}

/// The items of an audit, as one input with each item's lines in order.
pub(crate) fn gather(blobs: &dyn Blobs, view: &AuditView) -> Result<(Vec<u8>, u32), BlobError> {
    let mut inputs = Inputs { blobs, blob: view.blob, read: BTreeMap::new() };
    let mut gathered = Vec::new();
    for item in &view.items {
        let input = inputs.of(item.id.task, item.input)?;
        let lines = items::lines_of(input, view.scope, item.id.item);
        gathered.extend(lines.ok_or(BlobError::Corrupt { digest: view.blob })?);
    }
    let records = gathered.iter().filter(|byte| **byte == b'\n').count();
    Ok((gathered, u32::try_from(records).map_err(|_| BlobError::TooLarge { limit: Bytes(INPUT_MAX) })?))
}

/// Tasks' inputs, each read once.
struct Inputs<'a> {
    blobs: &'a dyn Blobs,
    blob: Digest,
    read: BTreeMap<TaskIndex, Vec<u8>>,
}

impl Inputs<'_> {
    fn of(&mut self, task: TaskIndex, input: TaskInput) -> Result<&[u8], BlobError> {
        if !self.read.contains_key(&task) {
            let bytes = self.blobs.read_range(&self.blob, input.offset..input.offset + u64::from(input.len))?;
            if Digest::of(&bytes) != input.digest {
                return Err(BlobError::Corrupt { digest: self.blob });
            }
            self.read.insert(task, bytes);
        }
        Ok(&self.read[&task])
    }
}

/// What was reported of an audit's items: by the audited device, and by the auditor.
struct Reports {
    claims: BTreeMap<Digest, Option<Vec<ItemOutcome>>>,
    audit: Option<Vec<ItemOutcome>>,
}

impl Reports {
    fn read(blobs: &dyn Blobs, view: &AuditView) -> Result<Self, BlobError> {
        let mut claims = BTreeMap::new();
        for claim in view.items.iter().filter_map(|item| item.claim) {
            if let std::collections::btree_map::Entry::Vacant(place) = claims.entry(claim) {
                place.insert(read_result(blobs, &claim)?);
            }
        }
        let audit = match &view.result {
            Some(result) => read_result(blobs, result)?,
            None => None,
        };
        Ok(Self { claims, audit })
    }

    fn claim(&self, view: &AuditView, place: u32) -> Option<&ItemOutcome> {
        let item = view.items.get(place as usize)?;
        self.claims.get(&item.claim?)?.as_ref()?.get(item.id.item as usize)
    }

    fn audited(&self, place: u32) -> Option<&ItemOutcome> {
        self.audit.as_ref()?.get(place as usize)
    }

    /// The places at which the two are not the same, or one is missing.
    fn differing(&self, view: &AuditView) -> Vec<u32> {
        let same =
            |place: &u32| matches!((self.claim(view, *place), self.audited(*place)), (Some(a), Some(b)) if agree(a, b));
        (0..view.items.len() as u32).filter(|place| !same(place)).collect()
    }
}

/// Whether two outcomes of an item are the same in what counts: the result and the units.
fn agree(one: &ItemOutcome, other: &ItemOutcome) -> bool {
    one.result == other.result && one.fuel == other.fuel
}

/// The places of an audit at which the auditor does not agree with the device.
pub(crate) fn compare(blobs: &dyn Blobs, view: &AuditView) -> Result<Vec<u32>, BlobError> {
    Ok(Reports::read(blobs, view)?.differing(view))
}

impl Referee {
    /// Runs what is in dispute, or all of an audit that nobody has done, and says who is right. The inner error: it cannot
    /// be run here.
    pub(crate) fn decide(
        &self,
        blobs: &dyn Blobs,
        view: &AuditView,
        manifest: &Manifest,
    ) -> Result<Result<Vec<Finding>, String>, BlobError> {
        let reports = Reports::read(blobs, view)?;
        let places = match view.result {
            Some(_) => reports.differing(view),
            None => (0..view.items.len() as u32).collect(),
        };
        let places: Vec<u32> = places.into_iter().filter(|place| view.items[*place as usize].claim.is_some()).collect();
        let mut inputs = Inputs { blobs, blob: view.blob, read: BTreeMap::new() };
        let mut lines = Vec::with_capacity(places.len());
        for place in &places {
            let item = &view.items[*place as usize];
            let input = inputs.of(item.id.task, item.input)?;
            let found =
                items::lines_of(input, view.scope, item.id.item).ok_or(BlobError::Corrupt { digest: view.blob })?;
            let records = found.iter().filter(|byte| **byte == b'\n').count() as u32;
            match items::split(&found, view.scope, records) {
                Ok(mut split) if split.len() == 1 => lines.push(std::mem::take(&mut *split[0].bytes)),
                _ => return Err(BlobError::Corrupt { digest: view.blob }),
            }
        }
        let truth = match self.run(blobs, manifest, lines) {
            Ok(truth) => truth,
            Err(reason) => return Ok(Err(reason)),
        };
        let finding = |(place, truth): (&u32, &ItemOutcome)| Finding {
            place: *place,
            claim_right: reports.claim(view, *place).is_some_and(|claim| agree(claim, truth)),
            auditor_right: view.result.map(|_| reports.audited(*place).is_some_and(|audit| agree(audit, truth))),
        };
        Ok(Ok(places.iter().zip(&truth).map(finding).collect()))
    }

    fn run(&self, blobs: &dyn Blobs, manifest: &Manifest, items: Vec<Vec<u8>>) -> Result<Vec<ItemOutcome>, String> {
        let failed = |what: &str, error: &dyn std::error::Error| {
            format!("the pool's own runner cannot {what}: {}", super::actor::describe(error))
        };
        let file = |digest: &Digest, size: Bytes| self.file(blobs, digest, size);
        let program = file(&manifest.program, manifest.program_size)?;
        let blobs: Result<Vec<(String, PathBuf)>, String> =
            manifest.blobs.iter().map(|blob| Ok((blob.name.clone(), file(&blob.digest, blob.size)?))).collect();
        let (command, args) = self.runner.clone();
        let images = self.dir.join("images");
        fs::create_dir_all(&images).map_err(|error| failed("keep compiled programs", &error))?;
        let secret = DeviceSecret::new(self.secret);
        let spec = RunnerSpec {
            output_per_task: OUTPUT_MAX,
            priority: Priority::Normal,
            ..RunnerSpec::new(command, args, manifest.clone(), program, blobs?, images, secret)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed("be started", &error))?;
        runtime.block_on(async {
            let (mut runner, _) = Runner::start(spec).await.map_err(|error| failed("start the program", &error))?;
            let run = runner.run(items).await.map_err(|error| failed("run an item", &error))?;
            Ok(run.outcomes)
        })
    }

    /// A blob as a file: its own where it has one.
    fn file(&self, blobs: &dyn Blobs, digest: &Digest, size: Bytes) -> Result<PathBuf, String> {
        if let Some(path) = blobs.local_path(digest) {
            return Ok(path);
        }
        let path = self.dir.join(digest.hex());
        let copied = || -> io::Result<()> {
            if fs::metadata(&path).is_ok_and(|found| found.len() == size.0) {
                return Ok(());
            }
            fs::create_dir_all(&self.dir)?;
            let mut opened = blobs.open(digest, None).map_err(io::Error::other)?;
            let mut file = tempfile_in(&self.dir)?;
            io::copy(&mut opened.content.by_ref().take(size.0), file.as_file_mut())?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        copied().map_err(|error| format!("the pool cannot lay out {digest} for its own runner: {error}"))?;
        Ok(path)
    }
}

fn tempfile_in(dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::NamedTempFile::new_in(dir)
}
