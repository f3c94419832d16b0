//! What a simulated pool consists of and what goes wrong there.

use crate::Liar;
use crate::Rng;
use caii_model::{AttemptFailureKind, Verification};

/// A simulated pool and its misfortunes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides everything that the plan leaves open.
    pub seed: u64,
    /// Devices. The first one should be honest, so that the work can end.
    pub devices: Vec<Character>,
    /// Owners of the devices, who have them in turns.
    pub owners: u8,
    /// Devices that have a copy of another one's identity: the place of the original among `devices`.
    pub clones: Vec<usize>,
    /// What requesters submit.
    pub jobs: Vec<JobPlan>,
    /// What goes wrong, and how often.
    pub rates: Rates,
    /// When everything is repaired, in milliseconds from the start.
    pub heal_at: u64,
    /// How long after that the last job may take to end, in milliseconds.
    pub patience: u64,
    /// The coordinator's process dies at this commit of those that change something, counted from 1: before it is durable, or with `true` after that.
    pub dies_at_commit: Option<(u64, bool)>,
    /// A defect to play, to see the checkers find it.
    pub mutation: Option<Mutation>,
    /// Whether the trace is kept.
    pub traced: bool,
}

/// How a device behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Character {
    /// Fast and correct.
    Honest,
    /// Correct, twenty times as slow.
    Slow,
    /// Each of its attempts fails so.
    Fails(AttemptFailureKind),
    /// One attempt in five fails so.
    Flaky(AttemptFailureKind),
    /// Correct, but shows leases that it forged or stole besides.
    Forger,
    /// Leaves for ever after a while.
    Leaves,
    /// Falsifies results.
    Lies(Liar),
}

/// A job that a requester submits.
#[derive(Debug, Clone)]
pub struct JobPlan {
    /// When, in milliseconds from the start.
    pub at: u64,
    /// Whose: 0, 1, …
    pub account: u8,
    /// Tasks; none: the input cannot be prepared.
    pub tasks: u32,
    /// Tasks that kill every runner that runs them.
    pub poisoned: Vec<u32>,
    /// Whether no device can start its program.
    pub unstartable: bool,
    /// How its results are checked.
    pub verification: Verification,
    /// Whether somebody waits for its single task.
    pub sync: bool,
    /// When it is cancelled, in milliseconds after its submission.
    pub cancel_after: Option<u64>,
    /// Its deadline, in milliseconds after its submission.
    pub deadline_after: u64,
}

/// How often things go wrong: times in milliseconds between two of a kind on average (0: never), parts of a thousand
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Requests and replies lost, of a thousand.
    pub loss: u32,
    /// Requests that arrive twice, the second time up to a minute later, of a thousand.
    pub duplication: u32,
    /// Messages that take up to 8 s, of a thousand.
    pub delay: u32,
    /// Milliseconds between partitions of one device.
    pub partition: u64,
    /// Milliseconds between deaths of the coordinator's process; half of them in the middle of a commit.
    pub coordinator_crash: u64,
    /// Milliseconds between commits that take up to 30 s.
    pub stall: u64,
    /// Milliseconds between deaths of an agent.
    pub agent_crash: u64,
    /// Milliseconds between owners stopping an agent for a while.
    pub agent_stop: u64,
    /// Milliseconds between suspensions of a device, up to a minute.
    pub suspend: u64,
    /// Milliseconds between jumps of the coordinator's clock, up to an hour either way.
    pub clock_jump: u64,
    /// Uploads, downloads and preparations that fail, of a thousand.
    pub shell_failure: u32,
}

/// A defect of somebody's that the checkers must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The shell answers before the changes are durable.
    SpeaksBeforeCommit,
    /// The store says that it has committed and has not.
    LosesCommits,
    /// A restarted coordinator does not know the last result and takes it again.
    AcceptsResultsTwice,
    /// The coordinator never notices that a device is gone.
    ForgetsLostDevices,
    /// The coordinator takes every lease for its own.
    AcceptsForgedLeases,
    /// The shell writes one task's records twice.
    WritesRecordsTwice,
    /// The shell blames the program for what the network did.
    BlamesTheInnocent,
}

impl Plan {
    /// Three honest devices and one job of twelve tasks; nothing goes wrong.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            devices: vec![Character::Honest; 3],
            owners: 3,
            clones: vec![],
            jobs: vec![JobPlan::new(0, 12)],
            rates: Rates::default(),
            heal_at: 0,
            patience: 600_000,
            dies_at_commit: None,
            mutation: None,
            traced: false,
        }
    }

    /// The plan that this seed draws.
    pub fn from_seed(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0x5eed);
        let kinds = [
            AttemptFailureKind::RunnerDied,
            AttemptFailureKind::ItemTooSlow,
            AttemptFailureKind::PreparationFailed,
            AttemptFailureKind::BlobUnavailable,
            AttemptFailureKind::DiskFull,
            AttemptFailureKind::MalformedResult,
        ];
        let mut devices = vec![Character::Honest];
        for _ in 0..rng.between(0, 5) {
            devices.push(match rng.between(0, 9) {
                0..4 => Character::Honest,
                4 => Character::Slow,
                5 => Character::Fails(*rng.pick(&kinds)),
                6..8 => Character::Flaky(*rng.pick(&kinds)),
                8 => Character::Forger,
                _ => Character::Leaves,
            });
        }
        let clones = if rng.chance(150) { vec![rng.between(0, devices.len() as u64 - 1) as usize] } else { vec![] };
        let jobs = (0..rng.between(1, 6)).map(|_| JobPlan::draw(rng)).collect();
        // Of a stream of its own, so that what other parts of a plan are does not depend on it.
        let checks = &mut Rng::new(seed ^ 0xc4ec);
        let mut jobs: Vec<JobPlan> = jobs;
        for job in jobs.iter_mut().filter(|job| !job.sync) {
            job.verification = match checks.between(0, 9) {
                0..3 => Verification::Off,
                3..5 => Verification::Spot,
                5..8 => Verification::Audit { depth: checks.between(1, 30) as u32 },
                _ => Verification::Quorum { results: checks.between(2, 3) as u8 },
            };
        }
        for device in devices.iter_mut().skip(1).filter(|device| **device == Character::Honest) {
            if checks.chance(300) {
                let per_mille = *checks.pick(&[20, 100, 500, 1_000]);
                *device = Character::Lies(Liar { per_mille, colludes: checks.chance(500) });
            }
        }
        let owners = checks.between(1, 4) as u8;
        let rates = if rng.chance(100) { Rates::default() } else { Rates::draw(rng) };
        Self {
            devices,
            owners,
            clones,
            jobs,
            rates,
            heal_at: rng.between(60_000, 240_000),
            patience: 7_200_000,
            ..Self::calm(seed)
        }
    }
}

impl JobPlan {
    /// A job that is submitted then, with so many tasks, and with which nothing is wrong.
    pub fn new(at: u64, tasks: u32) -> Self {
        Self {
            at,
            account: 0,
            tasks,
            poisoned: vec![],
            unstartable: false,
            verification: Verification::Off,
            sync: false,
            cancel_after: None,
            deadline_after: 48 * 3_600_000,
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        let sync = rng.chance(150);
        let tasks = if sync { 1 } else { rng.between(1, 15) as u32 };
        let poisoned = (0..tasks).filter(|_| rng.chance(40)).collect();
        Self {
            account: rng.between(0, 2) as u8,
            tasks: if !sync && rng.chance(40) { 0 } else { tasks },
            poisoned,
            unstartable: rng.chance(60),
            sync,
            cancel_after: rng.chance(120).then(|| rng.between(0, 60_000)),
            deadline_after: if rng.chance(100) { rng.between(5_000, 120_000) } else { 48 * 3_600_000 },
            ..Self::new(rng.between(0, 60_000), tasks)
        }
    }
}

impl Rates {
    /// Each kind of fault is absent in a third of all draws, so that seeds differ in kind.
    fn draw(rng: &mut Rng) -> Self {
        let per_mille = |rng: &mut Rng, most: u64| if rng.chance(333) { 0 } else { rng.between(1, most) as u32 };
        let every = |rng: &mut Rng, least: u64| if rng.chance(333) { 0 } else { rng.between(least, 20 * least) };
        Self {
            loss: per_mille(rng, 200),
            duplication: per_mille(rng, 150),
            delay: per_mille(rng, 200),
            partition: every(rng, 10_000),
            coordinator_crash: every(rng, 5_000),
            stall: every(rng, 20_000),
            agent_crash: every(rng, 5_000),
            agent_stop: every(rng, 20_000),
            suspend: every(rng, 10_000),
            clock_jump: every(rng, 20_000),
            shell_failure: per_mille(rng, 100),
        }
    }
}
