//! Random but valid histories: what a coordinator might have decided.

use super::bookkeeper::Bookkeeper;
use caii_coordinator::{Attempt, Change, JobEnd, Totals};
use caii_model::*;
use caii_verify::{Secret, Standing};

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    /// Mostly small, sometimes at the edges of what a database's signed numbers hold.
    pub(super) fn number(&mut self) -> u64 {
        match self.below(12) {
            0 => u64::MAX,
            1 => i64::MAX as u64,
            2 => i64::MAX as u64 + 1,
            _ => self.below(1_000_000),
        }
    }

    pub(super) fn text(&mut self, max: u64) -> String {
        let letters = ['a', 'Z', '0', ' ', '\'', '"', '%', '\n', '\0', 'é', '語', '🦀'];
        (0..self.below(max + 1)).map(|_| self.pick(&letters)).collect()
    }
}

/// A history in the making: which ids exist, and what may still happen to them.
#[derive(Clone)]
pub(crate) struct Script {
    random: Random,
    now: u64,
    keys: u64,
    tickets: u64,
    files: u64,
    files_kept: Vec<FileId>,
    models: Vec<String>,
    jobs: u64,
    periods: u64,
    open: Vec<OpenJob>,
    over: Vec<JobId>,
    books: Bookkeeper,
}

#[derive(Clone)]
struct OpenJob {
    id: JobId,
    prepared: bool,
    tasks: u32,
    open: Vec<TaskIndex>,
    /// Results of its own tasks that may be checked or voided.
    settled: Vec<TaskIndex>,
    /// Audits that were made, and whether each has its input.
    audits: Vec<(TaskIndex, bool)>,
    audits_made: u32,
    ending: Option<Ending>,
}

impl Script {
    pub(crate) const ACCOUNTS: [&'static str; 2] = ["ann", "bob.b-2_"];

    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(!seed),
            now: 1_700_000_000_000,
            keys: 0,
            tickets: 0,
            files: 0,
            files_kept: Vec::new(),
            models: Vec::new(),
            jobs: 0,
            periods: 0,
            open: Vec::new(),
            over: Vec::new(),
            books: Bookkeeper::default(),
        }
    }

    pub(crate) fn jobs_submitted(&self) -> u64 {
        self.jobs
    }

    /// One commit's changes: at least one.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        (0..1 + self.random.below(8)).map(|_| self.change()).collect()
    }

    fn change(&mut self) -> Change {
        loop {
            let change = match self.random.below(53) {
                0 => Some(self.key_created()),
                1 => (self.keys > 0).then(|| Change::KeyRevoked(KeyId(1 + self.random.below(self.keys)), self.time())),
                2 => Some(self.ticket_issued()),
                3 => (self.tickets > 0)
                    .then(|| Change::TicketRevoked(TicketId(1 + self.random.below(self.tickets)), self.time())),
                4 => (self.tickets > 0).then(|| self.device_enrolled()),
                5 => Some(Change::WorkloadAdded(self.manifest())),
                6 => Some(self.model_added()),
                7 => Some(self.model_removed()),
                8 => Some(self.file_created()),
                9 => Some(self.file_deleted()),
                10 | 11 => Some(self.job_submitted()),
                12 => Some(self.standing_changed()),
                13 => Some(self.device_convicted()),
                14 => Some(self.audit_secret()),
                50 => Some(self.attended()),
                51 | 52 => {
                    let at = self.time();
                    self.books.payout_changed(&mut self.random, at)
                }
                30..50 => {
                    let at = self.time();
                    self.books.logged(&mut self.random, at)
                }
                _ if self.open.is_empty() => None,
                _ => self.job_changed(),
            };
            if let Some(change) = change {
                return change;
            }
        }
    }

    fn time(&mut self) -> Timestamp {
        self.now += self.random.below(5_000);
        Timestamp(self.now)
    }

    fn account(&mut self) -> Account {
        Account::new(self.random.pick(&Self::ACCOUNTS)).unwrap()
    }

    fn key_created(&mut self) -> Change {
        self.keys += 1;
        Change::KeyCreated(Key {
            id: KeyId(self.keys),
            name: self.random.text(20),
            account: self.account(),
            role: self.random.pick(&[Role::Admin, Role::Requester]),
            secret_hash: Digest(self.random.bytes()),
            created: self.time(),
            revoked: None,
        })
    }

    fn ticket_issued(&mut self) -> Change {
        self.tickets += 1;
        Change::TicketIssued(Ticket {
            id: TicketId(self.tickets),
            account: self.account(),
            secret_hash: Digest(self.random.bytes()),
            expires: Timestamp(self.random.number()),
            uses_max: self.random.pick(&[1, 5, u32::MAX]),
            uses: 0,
        })
    }

    fn device_enrolled(&mut self) -> Change {
        // Few devices, so that some enrol again.
        let device = Device {
            id: DeviceId([0, 0, 0, 0, 0, 0, 0, self.random.below(6) as u8]),
            public_key: self.random.bytes(),
            owner: self.account(),
            name: self.random.text(10),
            enrolled: self.time(),
        };
        Change::DeviceEnrolled(device, TicketId(1 + self.random.below(self.tickets)))
    }

    fn manifest(&mut self) -> Manifest {
        let random = &mut self.random;
        Manifest {
            // Few names and nothing else random at times: the same workload is added again.
            name: random.pick(&["m".to_owned(), "n é".to_owned()]),
            program: Digest([1; 32]),
            program_size: Bytes(10),
            runtime: RuntimeClass::Wasm,
            scope: random.pick(&[Scope::Task, Scope::Item { records: 1 }, Scope::Item { records: u32::MAX }]),
            blobs: (0..random.below(3))
                .map(|place| BlobRef { name: format!("b{place}"), digest: Digest(random.bytes()), size: Bytes(3) })
                .collect(),
            args: (0..random.below(2)).map(|_| "--flag".to_owned()).collect(),
            limits: Limits::default(),
            meter: MeterId(Digest([3; 32])),
        }
    }

    fn model_added(&mut self) -> Change {
        let name = format!("org/model:{}", self.random.below(4));
        self.models.push(name.clone());
        Change::ModelAdded(Model {
            name,
            workload: Digest(self.random.bytes()),
            endpoint: Endpoint::Embeddings,
            dimensions: self.random.below(2_000) as u32,
            tokens_max: u32::MAX,
            source: self.random.text(30),
            added: self.time(),
        })
    }

    fn model_removed(&mut self) -> Change {
        match self.models.is_empty() {
            true => Change::ModelRemoved("never added".to_owned()),
            false => Change::ModelRemoved(self.random.pick(&self.models)),
        }
    }

    fn file_created(&mut self) -> Change {
        self.files += 1 + self.random.below(2);
        self.files_kept.push(FileId(self.files));
        Change::FileCreated(FileMeta {
            id: FileId(self.files),
            owner: self.account(),
            filename: self.random.text(40),
            purpose: self.random.pick(&[FilePurpose::Batch, FilePurpose::BatchOutput, FilePurpose::UserData]),
            digest: Digest(self.random.bytes()),
            size: Bytes(self.random.number()),
            created: self.time(),
        })
    }

    fn file_deleted(&mut self) -> Change {
        match self.files_kept.is_empty() {
            true => Change::FileDeleted(FileId(1_000_000), self.time()),
            false => {
                let place = self.random.below(self.files_kept.len() as u64) as usize;
                Change::FileDeleted(self.files_kept.swap_remove(place), self.time())
            }
        }
    }

    fn any_device(&mut self) -> DeviceId {
        DeviceId([0, 0, 0, 0, 0, 0, 0, self.random.below(6) as u8])
    }

    fn standing_changed(&mut self) -> Change {
        let standing = Standing { drawn: self.random.number(), survived: self.random.number() };
        Change::StandingChanged(self.any_device(), Digest([self.random.below(3) as u8; 32]), standing)
    }

    fn device_convicted(&mut self) -> Change {
        Change::DeviceConvicted(Conviction {
            device: self.any_device(),
            workload: Digest(self.random.bytes()),
            audit: TaskId { job: JobId(1), index: TaskIndex(self.random.next() as u32) },
            item: ItemId { task: TaskIndex(3), item: self.random.next() as u32 },
            as_auditor: self.random.below(2) == 0,
            at: self.time(),
        })
    }

    fn audit_secret(&mut self) -> Change {
        self.periods += 1;
        Change::AuditSecret { period: self.periods, secret: Secret(self.random.bytes()), since: self.time() }
    }

    fn attended(&mut self) -> Change {
        let attended = self.random.pick(&[Millis(0), Millis(600_000), Millis(u64::MAX)]);
        Change::Attended(self.any_device(), self.random.next() as u32, attended)
    }

    fn job_submitted(&mut self) -> Change {
        self.jobs += 1;
        let id = JobId(self.jobs);
        self.open.push(OpenJob {
            id,
            prepared: false,
            tasks: 0,
            open: Vec::new(),
            settled: vec![],
            audits: vec![],
            audits_made: 0,
            ending: None,
        });
        let metadata = (0..self.random.below(3)).map(|place| (format!("k{place}"), self.random.text(9))).collect();
        let kind = match self.random.below(4) {
            0 => JobKind::Program { format: self.random.pick(&[InputFormat::JsonLines, InputFormat::Lines]) },
            1 | 2 => JobKind::Batch { endpoint: Endpoint::Embeddings, completion_window: "24h".to_owned(), metadata },
            _ => JobKind::Sync { endpoint: Endpoint::Embeddings },
        };
        let spec = JobSpec {
            owner: self.account(),
            name: self.random.text(20),
            kind,
            // Few, so that some have several jobs.
            workload: Digest([self.random.below(4) as u8; 32]),
            input: self.random.pick(&[None, Some(FileId(1)), Some(FileId(u64::MAX))]),
            records_per_task: self.random.pick(&[None, Some(1), Some(u32::MAX)]),
            verification: self.random.pick(&[
                Verification::Off,
                Verification::Spot,
                Verification::Audit { depth: 409 },
                Verification::Quorum { results: 3 },
            ]),
            max_price: self.random.pick(&[None, Some(MicroCredits(0)), Some(MicroCredits::MAX)]),
            deadline: Timestamp(self.random.number()),
        };
        self.books.submitted(id, spec.owner.clone(), spec.workload);
        Change::JobSubmitted(id, spec, self.time())
    }

    /// Something that can happen to an open job now; nothing if that was not found.
    fn job_changed(&mut self) -> Option<Change> {
        let place = self.random.below(self.open.len() as u64) as usize;
        let at = self.time();
        let random = &mut self.random;
        let job = &mut self.open[place];
        if !job.prepared && random.below(3) > 0 {
            let prepared = prepared(random);
            job.prepared = true;
            job.tasks = prepared.tasks.len() as u32;
            job.open = (0..job.tasks).map(TaskIndex).collect();
            return Some(Change::JobPrepared(job.id, prepared, at));
        }
        match random.below(16) {
            0 => {
                if let Some(returned) = self.books.before_the_end(job.id, at) {
                    return Some(returned);
                }
                let ending = job.ending.clone().unwrap_or_else(|| ending(random));
                let change = Change::JobEnded(job.id, job_end(random, ending, at));
                self.over.push(job.id);
                self.open.swap_remove(place);
                Some(change)
            }
            1 => {
                let ending = ending(random);
                job.ending = Some(ending.clone());
                Some(Change::JobEnding(job.id, ending, at))
            }
            2..=4 if job.tasks > 0 => {
                let index = TaskIndex(random.below(u64::from(job.tasks)) as u32);
                Some(Change::AttemptFailed(TaskId { job: job.id, index }, attempt(random, at)))
            }
            12..16 => checked(random, job, at),
            other if !job.open.is_empty() => {
                let index = job.open.swap_remove(random.below(job.open.len() as u64) as usize);
                let task = TaskId { job: job.id, index };
                Some(match other {
                    5 => Change::TaskGivenUp(task, at),
                    _ => {
                        if index.0 < job.tasks {
                            job.settled.push(index);
                        }
                        Change::TaskSettled(task, settled(random, at))
                    }
                })
            }
            _ => None,
        }
    }

    /// A change that does not fit what the script made so far, whatever else stands in its commit.
    pub(crate) fn contradiction(&mut self, random: &mut Random) -> Option<Change> {
        let at = Timestamp(self.now);
        let (never, over) = (JobId(1_000_000), (!self.over.is_empty()).then(|| random.pick(&self.over)));
        let task = |job| TaskId { job, index: TaskIndex(0) };
        let mut copy = self.clone();
        match random.below(19) {
            15.. => self.books.contradiction(random, at),
            13 => Some(Change::TaskVoided(task(never), VoidReason::Undecided, at)),
            14 => Some(Change::Checked(task(never), CheckEvent::Final(at))),
            0 => Some(Change::KeyRevoked(KeyId(1_000_000), at)),
            1 => Some(Change::TicketRevoked(TicketId(1_000_000), at)),
            2 => Some(copy.device_enrolled_by(TicketId(1_000_000))),
            3 => Some(Change::JobPrepared(never, prepared(random), at)),
            4 => Some(Change::TaskSettled(task(never), settled(random, at))),
            5 => Some(Change::AttemptFailed(task(never), attempt(random, at))),
            6 => Some(Change::TaskGivenUp(task(never), at)),
            7 => Some(Change::JobEnding(never, Ending::Cancelled, at)),
            8 => over.map(|job| Change::JobEnding(job, Ending::Expired, at)),
            9 => over.map(|job| Change::JobEnded(job, job_end(random, Ending::Completed, at))),
            10 => over.map(|job| Change::JobPrepared(job, prepared(random), at)),
            11 if self.jobs > 0 => {
                copy.jobs = random.below(self.jobs);
                Some(copy.job_submitted())
            }
            _ if self.keys > 0 => {
                copy.keys = random.below(self.keys);
                Some(copy.key_created())
            }
            _ => None,
        }
    }

    fn device_enrolled_by(&mut self, ticket: TicketId) -> Change {
        self.tickets = self.tickets.max(1);
        match self.device_enrolled() {
            Change::DeviceEnrolled(device, _) => Change::DeviceEnrolled(device, ticket),
            other => other,
        }
    }
}

/// A step in the checking of a job's tasks, if one is possible.
fn checked(random: &mut Random, job: &mut OpenJob, at: Timestamp) -> Option<Change> {
    let task = |index| TaskId { job: job.id, index };
    if !job.prepared {
        return None;
    }
    match random.below(6) {
        0 => {
            let index = TaskIndex(job.tasks + job.audits_made);
            let items = (0..random.below(5)).map(|item| ItemId { task: TaskIndex(0), item: item as u32 }).collect();
            let whole = random.below(3) == 0;
            let subject = if whole { AuditSubject::Task(TaskIndex(0)) } else { AuditSubject::Items(items) };
            job.audits_made += 1;
            job.audits.push((index, whole));
            if whole {
                job.open.push(index);
            }
            let of = DeviceId([0, 0, 0, 0, 0, 0, 0, random.below(6) as u8]);
            Some(Change::Checked(task(index), CheckEvent::Made(Audit { of, subject })))
        }
        1 => {
            let (index, ready) = job.audits.iter_mut().find(|(_, ready)| !ready)?;
            *ready = true;
            job.open.push(*index);
            let input =
                TaskInput { digest: Digest(random.bytes()), offset: random.number(), len: 3, records: u32::MAX };
            Some(Change::Checked(
                TaskId { job: job.id, index: *index },
                CheckEvent::Prepared(Digest(random.bytes()), input),
            ))
        }
        2 => {
            let place = job.audits.iter().position(|(_, ready)| *ready)?;
            let (index, _) = job.audits.swap_remove(place);
            job.open.retain(|open| *open != index);
            let places = |random: &mut Random| (0..random.below(4) as u32).collect();
            let end = AuditEnd { survived: places(random), waived: places(random) };
            Some(Change::Checked(task(index), CheckEvent::Ended(end)))
        }
        _ if job.settled.is_empty() => None,
        3 => {
            let index = job.settled.swap_remove(random.below(job.settled.len() as u64) as usize);
            job.open.push(index);
            Some(Change::TaskVoided(task(index), random.pick(&[VoidReason::Distrusted, VoidReason::Undecided]), at))
        }
        4 => {
            let index = job.settled.swap_remove(random.below(job.settled.len() as u64) as usize);
            Some(Change::Checked(task(index), CheckEvent::Final(at)))
        }
        _ => {
            let index = random.pick(&job.settled);
            let items = (0..random.below(6) as u32).collect();
            Some(Change::Checked(task(index), CheckEvent::Drawn { mark: random.number(), items }))
        }
    }
}

fn prepared(random: &mut Random) -> Prepared {
    let (mut offset, mut records) = (0, 0);
    let tasks: Vec<TaskInput> = (0..1 + random.below(20))
        .map(|_| {
            let (len, count) = (1 + random.below(5_000) as u32, 1 + random.below(50) as u32);
            let task = TaskInput { digest: Digest(random.bytes()), offset, len, records: count };
            offset += u64::from(len);
            records += u64::from(count);
            task
        })
        .collect();
    Prepared { blob: Digest(random.bytes()), size: Bytes(offset), records, tasks }
}

fn settled(random: &mut Random, at: Timestamp) -> Settled {
    let report = TaskReport {
        root: Digest(random.bytes()),
        result: Digest(random.bytes()),
        size: Bytes(random.number()),
        items: random.next() as u32,
        items_failed: random.below(3) as u32,
        records_failed: random.below(3) as u32,
        fuel: Fuel(random.number()),
        cpu: Millis(random.number()),
        wall: Millis(random.number()),
        jail: JailLayers(random.next() as u32),
    };
    Settled { device: DeviceId(random.bytes()), report, at }
}

fn attempt(random: &mut Random, at: Timestamp) -> Attempt {
    let kinds = [
        AttemptFailureKind::DeviceLost,
        AttemptFailureKind::DeviceForgot,
        AttemptFailureKind::GivenBack,
        AttemptFailureKind::LeaseExpired,
        AttemptFailureKind::RunnerDied,
        AttemptFailureKind::ItemTooSlow,
        AttemptFailureKind::PreparationFailed,
        AttemptFailureKind::Uncertified,
        AttemptFailureKind::BlobUnavailable,
        AttemptFailureKind::DiskFull,
        AttemptFailureKind::MalformedResult,
    ];
    let failure = AttemptFailure { kind: random.pick(&kinds), detail: random.text(100) };
    Attempt { lease: LeaseId(random.bytes()), device: DeviceId(random.bytes()), failure, at }
}

fn ending(random: &mut Random) -> Ending {
    let errors = (0..1 + random.below(3))
        .map(|_| InputError {
            code: "invalid_json_line".to_owned(),
            message: random.text(30),
            line: random.pick(&[None, Some(1), Some(u64::MAX)]),
            param: random.pick(&[None, Some("body.input".to_owned())]),
        })
        .collect();
    random.pick(&[Ending::Completed, Ending::Cancelled, Ending::Expired, Ending::Failed { errors }])
}

fn job_end(random: &mut Random, ending: Ending, at: Timestamp) -> JobEnd {
    let totals = Totals {
        records: random.number(),
        records_ok: random.number(),
        records_failed: random.number(),
        tasks: random.next() as u32,
        tasks_settled: random.next() as u32,
        tasks_given_up: random.next() as u32,
        attempts_failed: random.next() as u32,
        devices: random.next() as u32,
        fuel: Fuel(random.number()),
        cpu: Millis(random.number()),
    };
    let file = |random: &mut Random| random.pick(&[None, Some(FileId(3)), Some(FileId(4))]);
    JobEnd { ending, at, output: file(random), errors: file(random), totals }
}
