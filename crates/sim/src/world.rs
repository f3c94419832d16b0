//! Virtual time: one queue of events, played until every job has ended or a checker objects.

use crate::checks::Checks;
use crate::coordinator::{Node, Origin};
use crate::devices::Host;
use crate::lies::Lies;
use crate::{Plan, Rng};
use caii_agent::Input as AgentInput;
use caii_coordinator::{Input, Reply};
use caii_model::*;
use std::collections::BTreeMap;

/// How a plan ended.
#[derive(Debug)]
pub struct Outcome {
    /// What does not hold, if a checker objected.
    pub verdict: Result<(), String>,
    /// What happened, a line an event, if the plan wants it.
    pub trace: Vec<String>,
    /// Counts.
    pub stats: Stats,
}

/// What a run consisted of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Events played.
    pub events: u64,
    /// Steps of the coordinator.
    pub steps: u64,
    /// Virtual milliseconds.
    pub time: u64,
    /// Deaths of the coordinator's process.
    pub crashes: u64,
    /// Tasks with a result.
    pub settled: u64,
    /// Tasks that were given up.
    pub given_up: u64,
    /// Attempts that came to nothing.
    pub attempts_failed: u64,
    /// Jobs that ended.
    pub jobs_ended: u64,
    /// Commits of the coordinator that changed something.
    pub commits: u64,
    /// Entries of the log.
    pub entries: u64,
}

/// Plays a plan to its end.
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan.clone());
    world.begin();
    while world.violation.is_none() && !world.finished() {
        let Some(((at, _), event)) = world.queue.pop_first() else {
            world.object("nothing is left to happen and jobs are open".into());
            break;
        };
        world.now = at;
        world.stats.events += 1;
        if at > world.plan.heal_at + world.plan.patience {
            let open = world.open_jobs();
            world.object(format!("{open} did not end although nothing goes wrong any more"));
            break;
        }
        world.play(event);
    }
    world.check_end();
    world.stats.time = world.now;
    (world.stats.commits, world.stats.entries) = world.node.counts();
    let verdict = match world.violation {
        Some(wrong) => Err(wrong),
        None => Ok(()),
    };
    Outcome { verdict, trace: world.trace, stats: world.stats }
}

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// Everything is repaired.
    Heal,
    /// A misfortune of this kind, which draws the time of the next one.
    Fault(crate::faults::Fault),
    /// The coordinator's process starts.
    CoordinatorStarts,
    /// A quarter of a second has passed for this process.
    CoordinatorTick { process: u64 },
    /// The commit under way in this process is done.
    Commit { process: u64, batch: u64 },
    /// The shell of this process has prepared a job.
    Prepared { process: u64, job: JobId },
    /// The shell of this process has written a job's output.
    Assembled { process: u64, job: JobId },
    /// The shell of this process has gathered an audit's items.
    Gathered { process: u64, task: TaskId },
    /// The shell of this process has compared an audit.
    Compared { process: u64, task: TaskId },
    /// The shell of this process has run places of an audit.
    Refereed { process: u64, task: TaskId, places: Vec<u32> },
    /// Something reaches the coordinator.
    Arrives { origin: Origin, input: Box<Input> },
    /// The connection of this device's request is seen to break.
    Breaks { host: usize, incarnation: u64, sequence: u64 },
    /// A device's machine starts its agent, or joins the pool first.
    HostStarts { host: usize },
    /// A device's owner stops the agent, or it dies.
    HostEnds { host: usize, incarnation: u64, politely: bool },
    /// Something happens in a device.
    Device { host: usize, incarnation: u64, input: AgentInput },
    /// A reply reaches a device, or it stops waiting for one.
    Answered { host: usize, incarnation: u64, sequence: u64, answer: Answer },
    /// A device's timer goes off.
    Timer { host: usize, incarnation: u64, set: u64 },
    /// A requester takes its next step with a job of the plan.
    Requester { job: usize },
    /// A requester cancels a job.
    Cancel { job: JobId },
}

/// What becomes of a device's request.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(ExchangeReply),
    Refused(Refusal),
    Failed(&'static str),
}

/// How far a requester is with a job of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Uploads,
    Submits(FileId),
    Done,
}

/// The time at which simulated clocks that are right start, in milliseconds.
pub(crate) const EPOCH: u64 = 1_700_000_000_000;
pub(crate) const TICK: u64 = 250;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    pub(crate) node: Node,
    pub(crate) hosts: Vec<Host>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) healed: bool,
    pub(crate) checks: Checks,
    pub(crate) lies: Lies,
    pub(crate) stats: Stats,
    violation: Option<String>,
    trace: Vec<String>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let hosts = Host::all(&plan, &mut rng);
        Self {
            node: Node::new(plan.mutation),
            hosts,
            stages: vec![Stage::Uploads; plan.jobs.len()],
            healed: false,
            checks: Checks::default(),
            lies: Lies::default(),
            stats: Stats::default(),
            violation: None,
            trace: Vec::new(),
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            rng,
            plan,
        }
    }

    fn begin(&mut self) {
        self.found_pool();
        self.at(self.plan.heal_at, Event::Heal);
        self.schedule_faults();
        for host in 0..self.hosts.len() {
            let delay = self.rng.between(0, 20_000);
            self.at(delay, Event::HostStarts { host });
        }
        for job in 0..self.plan.jobs.len() {
            self.at(self.plan.jobs[job].at, Event::Requester { job });
        }
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Heal => self.heal(),
            Event::Fault(fault) => self.misfortune(fault),
            Event::CoordinatorStarts => self.start_coordinator(),
            Event::CoordinatorTick { process } => self.coordinator_tick(process),
            Event::Commit { process, batch } => self.commit(process, batch),
            Event::Prepared { process, job } => self.prepared(process, job),
            Event::Assembled { process, job } => self.assembled(process, job),
            Event::Gathered { process, task } => self.gathered(process, task),
            Event::Compared { process, task } => self.compared(process, task),
            Event::Refereed { process, task, places } => self.refereed(process, task, places),
            Event::Arrives { origin, input } => self.arrives(origin, *input),
            Event::Breaks { host, incarnation, sequence } => self.breaks(host, incarnation, sequence),
            Event::HostStarts { host } => self.start_host(host),
            Event::HostEnds { host, incarnation, politely } => self.end_host(host, incarnation, politely),
            Event::Device { host, incarnation, input } => self.device(host, incarnation, input),
            Event::Answered { host, incarnation, sequence, answer } => {
                self.answered(host, incarnation, sequence, answer);
            }
            Event::Timer { host, incarnation, set } => self.timer(host, incarnation, set),
            Event::Requester { job } => self.requester(job),
            Event::Cancel { job } => self.arrives(Origin::Nobody, Input::JobCancel { owner: None, job }),
        }
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.events += 1;
        self.queue.insert((time.max(self.now), self.events), event);
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.plan.traced {
            let line = format!("{:>9} {}", self.now, line());
            self.trace.push(line);
        }
    }

    /// Notes that something does not hold. The first one counts.
    pub(crate) fn object(&mut self, wrong: String) {
        self.note(|| format!("VIOLATION {wrong}"));
        self.violation.get_or_insert(wrong);
    }

    pub(crate) fn ensure(&mut self, checked: Result<(), String>) {
        if let Err(wrong) = checked {
            self.object(wrong);
        }
    }

    fn finished(&self) -> bool {
        self.healed && self.checks.all_ended() && self.stages.iter().all(|stage| *stage == Stage::Done)
    }

    fn open_jobs(&self) -> String {
        let open: Vec<String> = self.checks.open_jobs().map(|job| job.to_string()).collect();
        let unsubmitted = self.stages.iter().filter(|stage| **stage != Stage::Done).count();
        match (open.is_empty(), unsubmitted) {
            (true, 0) => String::new(),
            (_, 0) => open.join(", "),
            (_, count) => format!("{} and {count} jobs that nobody could submit", open.join(", ")),
        }
    }

    /// The next step of a requester, who repeats what was not answered within three seconds.
    fn requester(&mut self, job: usize) {
        let plan = &self.plan.jobs[job];
        let owner = Account::new(&format!("account-{}", plan.account)).expect("a valid name");
        let deadline = Timestamp(self.node.clock(self.now).0 + plan.deadline_after);
        let spec = |kind, input| JobSpec {
            owner: owner.clone(),
            name: format!("{job}"),
            kind,
            workload: crate::coordinator::manifest(plan.unstartable).digest(),
            input,
            records_per_task: None,
            verification: plan.verification,
            max_price: None,
            deadline,
        };
        let input = match self.stages[job] {
            Stage::Uploads if plan.sync => {
                let kind = JobKind::Sync { endpoint: Endpoint::Embeddings };
                Input::JobSubmitPrepared(spec(kind, None), crate::coordinator::prepared(job, plan.tasks))
            }
            Stage::Uploads => Input::FileCreate {
                owner,
                filename: format!("{job}.jsonl"),
                purpose: FilePurpose::UserData,
                digest: Digest([job as u8; 32]),
                size: Bytes(100),
            },
            Stage::Submits(file) => Input::JobSubmit(spec(JobKind::Program { format: InputFormat::Lines }, Some(file))),
            Stage::Done => return,
        };
        self.after(3_000, Event::Requester { job });
        if !self.lost() {
            self.arrives(Origin::Requester { job, stage: self.stages[job] }, input);
        }
    }

    pub(crate) fn requester_hears(&mut self, job: usize, asked: Stage, answer: Result<Reply, Refusal>) {
        if self.lost() || self.stages[job] != asked {
            return;
        }
        match answer {
            Ok(Reply::File(file)) => {
                self.stages[job] = Stage::Submits(file.id);
                self.after(0, Event::Requester { job });
            }
            Ok(Reply::Job(id)) => {
                self.stages[job] = Stage::Done;
                if let Some(delay) = self.plan.jobs[job].cancel_after {
                    self.after(delay, Event::Cancel { job: id });
                }
            }
            // A stall or a jump of the clock overtook it; the next attempt names another.
            Err(Refusal::FieldInvalid { field: "deadline", .. }) => {}
            other => self.object(format!("a requester was told {other:?}")),
        }
    }
}
