//! One behaviour a test, told as a script of inputs and the actions that they cause.

use crate::{Action, Agent, Claims, Config, Context, ExitReason, Forgotten, Input, LinkView, TaskStage};
use caii_model::*;

const DEVICE: DeviceId = DeviceId([7; 8]);
const WORKLOAD: Digest = Digest([1; 32]);
const BOOT: BootId = BootId([1; 16]);
const SESSION: SessionId = SessionId([1; 16]);
const ENERGY: Energy = Energy { used: Millijoules(5_000), method: EnergyMethod::Model };

struct Script {
    agent: Agent,
    now: u64,
    /// Of the last request.
    sequence: u64,
}

impl Script {
    fn new(slots: u32) -> Self {
        Self { agent: Agent::new(Config::new(MeterId(Digest([9; 32])), slots), DEVICE), now: 1_000_000, sequence: 0 }
    }

    /// A started agent in a session, whose first poll (sequence 3) is parked.
    fn connected(slots: u32) -> Self {
        let mut script = Self::new(slots);
        script.act(Input::Started);
        script.act(Input::Refused { sequence: 1, refusal: Refusal::BootChanged(BOOT) });
        script.reply(2, vec![], vec![]);
        script
    }

    /// Takes an input and gives the actions without timers.
    fn act(&mut self, input: Input) -> Vec<Action> {
        let context = Context { now: Timestamp(self.now), entropy: 0 };
        let actions = self.agent.step(context, input);
        assert_eq!(self.agent.violations(), Vec::<String>::new());
        for action in &actions {
            if let Action::Exchange(request) = action {
                self.sequence = request.sequence;
            }
        }
        actions.into_iter().filter(|action| !matches!(action, Action::SetTimer(_))).collect()
    }

    fn reply(&mut self, sequence: u64, leases: Vec<SignedLease>, acks: Vec<LeaseId>) -> Vec<Action> {
        self.act(reply(sequence, leases, acks))
    }

    /// A reply that says so many claims are decided.
    fn decided(
        &mut self,
        sequence: u64,
        leases: Vec<SignedLease>,
        acks: Vec<(LeaseId, Result<(), Refusal>)>,
        claims: u64,
    ) -> Vec<Action> {
        let Input::Replied(reply) = reply(sequence, leases, vec![]) else { unreachable!() };
        self.act(Input::Replied(ExchangeReply { acks, claims, ..reply }))
    }

    /// Lets a task run to its end and its result be stored.
    fn done(&mut self, number: u8) -> Vec<Action> {
        self.act(Input::InputReady(id(number)));
        self.act(Input::TaskFinished(id(number), report(number), ENERGY));
        self.act(Input::ResultStored(id(number)))
    }

    /// Lets time pass, and gives the actions of the tick that follows.
    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.now += ms;
        self.act(Input::Tick)
    }

    fn stages(&self) -> Vec<TaskStage> {
        self.agent.view().tasks.iter().map(|task| task.stage).collect()
    }

    /// Makes the workload ready and lets the lease run.
    fn running(&mut self, lease: SignedLease) {
        self.act(Input::WorkloadReady(WORKLOAD));
        self.act(Input::InputReady(lease.lease.id));
        assert!(self.stages().contains(&TaskStage::Running));
    }
}

fn reply(sequence: u64, leases: Vec<SignedLease>, acks: Vec<LeaseId>) -> Input {
    let acks = acks.into_iter().map(|id| (id, Ok(()))).collect();
    // An hour behind the device's clock.
    let now = Timestamp(0);
    Input::Replied(ExchangeReply {
        session: SESSION,
        sequence,
        now,
        leases,
        acks,
        dropped: vec![],
        governance: 0,
        claims: 0,
        challenge: 0,
    })
}

fn lease(number: u8) -> SignedLease {
    SignedLease {
        lease: Lease {
            id: LeaseId([number; 8]),
            pool: PoolId([5; 8]),
            task: TaskId { job: JobId(1), index: TaskIndex(u32::from(number)) },
            device: DEVICE,
            workload: WORKLOAD,
            input: TaskInput { digest: Digest([2; 32]), offset: 0, len: 10, records: 1 },
            blob: Digest([3; 32]),
            issued: Timestamp(0),
            expires: Timestamp(600_000),
        },
        signature: [number; 64],
    }
}

fn report(number: u8) -> TaskReport {
    TaskReport {
        root: Digest([number; 32]),
        result: Digest([number; 32]),
        size: Bytes(100),
        items: 1,
        items_failed: 0,
        records_failed: 0,
        fuel: Fuel(5),
        cpu: Millis(1),
        wall: Millis(1),
        jail: JailLayers::ALL,
    }
}

/// The report of a result, whose claim has this number.
fn result(number: u8, claim: u64) -> Report {
    let claim = Some(SignedClaim::unsigned(claim, ENERGY));
    Report { lease: lease(number), outcome: Ok(report(number)), claim }
}

fn failure(kind: AttemptFailureKind) -> AttemptFailure {
    AttemptFailure { kind, detail: "because".into() }
}

fn exchange(actions: &[Action]) -> &ExchangeRequest {
    let requests: Vec<_> =
        actions.iter().filter_map(|a| if let Action::Exchange(r) = a { Some(r) } else { None }).collect();
    assert_eq!(requests.len(), 1, "{actions:?}");
    requests[0]
}

fn id(number: u8) -> LeaseId {
    lease(number).lease.id
}

#[test]
fn learns_the_boot_and_begins_a_session() {
    let mut script = Script::new(2);
    let first = script.act(Input::Started);
    let request = exchange(&first);
    assert_eq!((request.boot, request.session, request.sequence, request.settled_sequence), (None, None, 1, 0));
    let second = script.act(Input::Refused { sequence: 1, refusal: Refusal::BootChanged(BOOT) });
    let request = exchange(&second);
    assert_eq!((request.boot, request.session, request.sequence, request.settled_sequence), (Some(BOOT), None, 2, 1));
    assert_eq!(request.wait, Millis(0), "a beginning asks for an answer at once");
    let third = script.reply(2, vec![], vec![]);
    let request = exchange(&third);
    assert_eq!((request.boot, request.session, request.sequence), (Some(BOOT), Some(SESSION), 3));
    assert_eq!((request.wait, request.slots_free, request.slots), (Millis(5_000), 3, 2));
    assert_eq!(script.agent.view().link, LinkView::Connected { session: SESSION });
}

#[test]
fn a_task_goes_from_lease_to_acknowledgement() {
    let mut script = Script::connected(1);
    let actions = script.reply(3, vec![lease(1)], vec![]);
    assert_eq!(actions[0], Action::FetchInput(lease(1).lease));
    assert_eq!(actions[1], Action::PrepareWorkload(WORKLOAD));
    let poll = exchange(&actions);
    assert_eq!((poll.sequence, poll.settled_sequence, poll.slots_free), (4, 3, 1));
    assert_eq!(poll.holding, [lease(1)]);
    assert_eq!(script.act(Input::InputReady(id(1))), []);
    assert_eq!(script.act(Input::WorkloadReady(WORKLOAD)), [Action::Run(lease(1).lease)]);
    assert_eq!(script.act(Input::TaskFinished(id(1), report(1), ENERGY)), [Action::Upload(lease(1).lease)]);
    // The report overtakes the poll, which is parked, and asks for more work in passing.
    let actions = script.act(Input::ResultStored(id(1)));
    let request = exchange(&actions);
    assert_eq!((request.sequence, request.settled_sequence, request.wait, request.slots_free), (5, 3, Millis(0), 2));
    assert_eq!(request.reports, [result(1, 1)]);
    assert_eq!(request.holding, [lease(1)], "held until acknowledged");
    assert_eq!(request.ready, [WORKLOAD]);
    assert_eq!(script.reply(4, vec![], vec![]), []);
    let actions = script.reply(5, vec![], vec![id(1)]);
    assert_eq!(actions[0], Action::Release(id(1)));
    assert_eq!(exchange(&actions).holding, []);
    assert_eq!(script.agent.view().totals.accepted, 1);
}

#[test]
fn a_report_is_repeated_until_acknowledged() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    script.act(Input::TaskFinished(id(1), report(1), ENERGY));
    script.act(Input::ResultStored(id(1)));
    let mut sequence = script.sequence;
    for _ in 0..20 {
        script.act(Input::TransportFailed { sequence, reason: "cable".into() });
        for stale in 1..sequence {
            script.act(Input::TransportFailed { sequence: stale, reason: "cable".into() });
        }
        let actions = script.after(15_000);
        let request = exchange(&actions);
        assert_eq!(request.reports.len(), 1);
        sequence = request.sequence;
        assert_eq!(request.settled_sequence, sequence - 1);
    }
    assert_eq!(script.reply(sequence, vec![], vec![id(1)])[0], Action::Release(id(1)));
}

#[test]
fn transport_failures_back_off_and_work_goes_on() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    let mut sequence = 4;
    let mut pauses = vec![];
    for _ in 0..10 {
        assert_eq!(script.act(Input::TransportFailed { sequence, reason: "refused".into() }), []);
        let LinkView::Troubled { retry_at: Some(at), .. } = script.agent.view().link else { panic!() };
        pauses.push(at.0 - script.now);
        assert_eq!(script.after(at.0 - script.now - 1), [], "not too early");
        sequence = exchange(&script.after(1)).sequence;
    }
    // With entropy 0 the pause is the lower end of its range: half.
    assert_eq!(pauses, [125, 250, 500, 1_000, 2_000, 4_000, 7_500, 7_500, 7_500, 7_500]);
    script.running(lease(1));
    assert!(script.agent.explain(Timestamp(script.now))[0].contains("10 exchange(s) in a row failed"));
}

#[test]
fn a_restarted_coordinator_is_told_what_is_held() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    let other = BootId([2; 16]);
    let actions = script.act(Input::Refused { sequence: 4, refusal: Refusal::BootChanged(other) });
    let request = exchange(&actions);
    assert_eq!((request.boot, request.session), (Some(other), None));
    assert_eq!(request.holding, [lease(1)]);
    assert_eq!(script.stages(), [TaskStage::Running]);
}

#[test]
fn an_unknown_session_is_begun_anew_and_its_last_requests_are_no_alarm() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    assert_eq!(exchange(&script.after(7_000)).sequence, 5);
    // 4 and 5 are under way.
    let actions = script.act(Input::Refused { sequence: 5, refusal: Refusal::SessionUnknown });
    assert_eq!(exchange(&actions).session, None);
    // The new session ended the old one, of which request 4 was.
    assert_eq!(script.act(Input::Refused { sequence: 4, refusal: Refusal::SessionSuperseded }), []);
}

#[test]
fn a_beginning_names_the_conversation_that_it_replaces() {
    let mut script = Script::new(1);
    script.act(Input::Started);
    script.act(Input::Refused { sequence: 1, refusal: Refusal::BootChanged(BOOT) });
    let held = SessionId([77; 16]);
    let actions = script.act(Input::Refused { sequence: 2, refusal: Refusal::SessionHeld(held) });
    let request = exchange(&actions);
    assert_eq!((request.session, request.replaces), (None, Some(held)));
    let actions = script.reply(3, vec![], vec![]);
    assert_eq!(exchange(&actions).replaces, None);
    // The next beginning starts without it.
    let actions = script.act(Input::Refused { sequence: 4, refusal: Refusal::SessionUnknown });
    assert_eq!((exchange(&actions).session, exchange(&actions).replaces), (None, None));
}

#[test]
fn another_agent_with_this_identity_is_not_fought() {
    let mut script = Script::connected(1);
    let actions = script.act(Input::Refused { sequence: 3, refusal: Refusal::SessionSuperseded });
    assert_eq!(actions, [Action::Exit(ExitReason::Superseded)]);
    assert_eq!(script.after(100_000), []);
}

#[test]
fn a_device_that_is_not_enrolled_ends() {
    let mut script = Script::new(1);
    script.act(Input::Started);
    let refusal = Refusal::DeviceUnknown(DEVICE);
    let actions = script.act(Input::Refused { sequence: 1, refusal: refusal.clone() });
    assert_eq!(actions, [Action::Exit(ExitReason::Refused(refusal))]);
}

#[test]
fn a_stale_sequence_is_jumped_over() {
    let mut script = Script::new(1);
    script.act(Input::Started);
    let actions = script.act(Input::Refused { sequence: 1, refusal: Refusal::SequenceStale { last: 70 } });
    assert_eq!((exchange(&actions).sequence, exchange(&actions).settled_sequence), (71, 70));
}

#[test]
fn refusals_without_end_are_not_answered_in_haste() {
    let mut script = Script::new(1);
    let mut actions = script.act(Input::Started);
    let mut hurried = 0;
    while !actions.is_empty() {
        hurried += 1;
        assert!(hurried < 10);
        let (sequence, refusal) = (exchange(&actions).sequence, Refusal::BootChanged(BootId([hurried; 16])));
        actions = script.act(Input::Refused { sequence, refusal });
    }
    assert_eq!(hurried, 5);
}

#[test]
fn silence_is_broken_before_the_coordinator_thinks_the_device_dead() {
    let mut script = Script::connected(1);
    assert_eq!(script.after(6_999), []);
    assert_eq!(exchange(&script.after(1)).sequence, 4);
}

#[test]
fn a_device_without_room_speaks_when_it_has_something_to_say() {
    let mut script = Script::connected(1);
    assert!(!script.reply(3, vec![lease(1), lease(2)], vec![]).iter().any(|a| matches!(a, Action::Exchange(_))));
    script.running(lease(1));
    assert_eq!(script.after(999), []);
    // It may be told that its work is worth nothing any more, so it does not stay silent for long.
    assert_eq!(exchange(&script.after(1)).wait, Millis(5_000));
}

#[test]
fn more_work_is_asked_for_while_a_large_result_is_stored() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    assert_eq!(script.act(Input::TaskFinished(id(1), report(1), ENERGY)), [Action::Upload(lease(1).lease)]);
    assert_eq!(script.after(49), []);
    let actions = script.after(1);
    assert_eq!((exchange(&actions).slots_free, exchange(&actions).reports.len()), (2, 0));
}

#[test]
fn what_may_still_arrive_is_not_called_settled() {
    let mut script = Script::connected(1);
    script.after(7_000);
    // 3 and 4 are under way; 4 is answered.
    assert_eq!(exchange(&script.reply(4, vec![], vec![])).settled_sequence, 2);
    let actions = script.reply(3, vec![lease(1)], vec![]);
    assert_eq!(actions[0], Action::FetchInput(lease(1).lease), "late, but not given up");
}

#[test]
fn a_reply_that_was_given_up_is_ignored() {
    let mut script = Script::connected(1);
    script.act(Input::TransportFailed { sequence: 3, reason: "timeout".into() });
    assert_eq!(script.reply(3, vec![lease(1)], vec![]), []);
    assert_eq!(script.stages(), []);
}

#[test]
fn a_lease_that_comes_twice_runs_once() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1), lease(1)], vec![]);
    script.running(lease(1));
    let actions = script.reply(4, vec![lease(1)], vec![]);
    assert!(!actions.contains(&Action::FetchInput(lease(1).lease)));
    script.act(Input::TaskFinished(id(1), report(1), ENERGY));
    script.act(Input::ResultStored(id(1)));
    script.reply(6, vec![], vec![id(1)]);
    script.reply(7, vec![lease(1)], vec![]);
    assert_eq!(script.stages(), []);
}

#[test]
fn more_work_than_asked_for_is_given_back() {
    let mut script = Script::connected(1);
    let actions = script.reply(3, vec![lease(1), lease(2), lease(3)], vec![]);
    let request = exchange(&actions);
    assert_eq!(request.slots_free, 0);
    let [Report { lease: given_back, outcome: Err(reason), claim: None }] = &request.reports[..] else {
        panic!("{request:?}")
    };
    assert_eq!((*given_back, reason.kind), (lease(3), AttemptFailureKind::GivenBack));
}

#[test]
fn anothers_lease_is_ignored() {
    let mut script = Script::connected(1);
    let mut foreign = lease(1);
    foreign.lease.device = DeviceId([8; 8]);
    script.reply(3, vec![foreign], vec![]);
    assert_eq!(script.stages(), []);
}

#[test]
fn a_prefetched_task_runs_as_soon_as_a_slot_is_free() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1), lease(2)], vec![]);
    script.running(lease(1));
    assert_eq!(script.act(Input::InputReady(id(2))), []);
    assert_eq!(script.stages(), [TaskStage::Running, TaskStage::AwaitsSlot]);
    let actions = script.act(Input::TaskFinished(id(1), report(1), ENERGY));
    assert!(actions.contains(&Action::Run(lease(2).lease)));
}

#[test]
fn a_task_whose_workload_is_not_ready_does_not_hold_up_others() {
    let mut script = Script::connected(1);
    let mut other = lease(2);
    other.lease.workload = Digest([77; 32]);
    script.reply(3, vec![lease(1)], vec![]);
    script.act(Input::WorkloadReady(WORKLOAD));
    script.reply(4, vec![other], vec![]);
    script.act(Input::InputReady(id(2)));
    assert_eq!(script.stages(), [TaskStage::Fetching, TaskStage::AwaitsWorkload]);
    assert!(script.act(Input::InputReady(id(1))).contains(&Action::Run(lease(1).lease)));
}

#[test]
fn one_workload_is_prepared_at_a_time() {
    let mut script = Script::connected(2);
    let mut other = lease(2);
    other.lease.workload = Digest([77; 32]);
    let actions = script.reply(3, vec![lease(1), other], vec![]);
    let prepared: Vec<_> = actions.iter().filter(|a| matches!(a, Action::PrepareWorkload(_))).collect();
    assert_eq!(prepared, [&Action::PrepareWorkload(WORKLOAD)]);
    let actions = script.act(Input::WorkloadReady(WORKLOAD));
    assert!(actions.contains(&Action::PrepareWorkload(other.lease.workload)));
}

#[test]
fn a_workload_that_cannot_be_prepared_fails_its_leases_and_is_not_tried_at_once_again() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1), lease(2)], vec![]);
    script.act(Input::InputReady(id(1)));
    let actions = script.act(Input::WorkloadFailed(WORKLOAD, failure(AttemptFailureKind::PreparationFailed)));
    assert_eq!(actions[..2], [Action::Release(id(1)), Action::Abandon(id(2))]);
    assert_eq!(exchange(&actions).reports.len(), 2);
    assert_eq!(exchange(&actions).slots_free, 2, "other workloads may be fine");
    let actions = script.reply(4, vec![lease(3)], vec![id(1), id(2)]);
    assert!(!actions.iter().any(|a| matches!(a, Action::FetchInput(_) | Action::PrepareWorkload(_))), "{actions:?}");
    let reason = exchange(&actions).reports[0].outcome.clone().unwrap_err();
    assert_eq!(reason.kind, AttemptFailureKind::PreparationFailed);
    script.reply(5, vec![], vec![id(3)]);
    script.now += 60_000;
    let actions = script.reply(6, vec![lease(4)], vec![]);
    assert!(actions.contains(&Action::PrepareWorkload(WORKLOAD)));
}

#[test]
fn a_revoked_workload_stops_where_it_is_and_is_not_taken_again() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1), lease(2)], vec![]);
    script.running(lease(1));
    let actions = script.act(Input::WorkloadRevoked(WORKLOAD, failure(AttemptFailureKind::Uncertified)));
    assert_eq!(actions[..2], [Action::Abandon(id(1)), Action::Abandon(id(2))]);
    let reports = &exchange(&actions).reports;
    assert!(reports.iter().all(|report| report.outcome == Err(failure(AttemptFailureKind::Uncertified))));
    assert_eq!(reports.len(), 2);
    let actions = script.reply(4, vec![lease(3)], vec![id(1), id(2)]);
    assert!(!actions.iter().any(|a| matches!(a, Action::FetchInput(_) | Action::PrepareWorkload(_))), "{actions:?}");
    // What was under way when it happened ends unheard.
    assert_eq!(script.act(Input::WorkloadReady(WORKLOAD)), []);
    assert_eq!(script.act(Input::TaskFinished(id(1), report(1), ENERGY)), []);
}

#[test]
fn a_full_disk_stops_the_taking_of_work_for_a_while() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    let actions = script.act(Input::WorkloadFailed(WORKLOAD, failure(AttemptFailureKind::DiskFull)));
    let request = exchange(&actions);
    assert_eq!((request.reports.len(), request.slots_free), (1, 0));
    assert_eq!(script.reply(5, vec![], vec![id(1)]), []);
    assert!(script.agent.explain(Timestamp(script.now)).iter().any(|line| line.starts_with("Takes no work for")));
    let actions = script.after(1_000);
    assert_eq!(exchange(&actions).slots_free, 2);
}

#[test]
fn a_failed_run_is_reported_with_its_reason_cut_to_size() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    let long = AttemptFailure { kind: AttemptFailureKind::RunnerDied, detail: "ä".repeat(5_000) };
    let actions = script.act(Input::TaskFailed(id(1), long));
    assert_eq!(actions[0], Action::Release(id(1)));
    let reason = exchange(&actions).reports[0].outcome.clone().unwrap_err();
    assert_eq!((reason.kind, reason.detail.chars().count()), (AttemptFailureKind::RunnerDied, 1_000));
    // A second end of the same run changes nothing.
    assert_eq!(script.act(Input::TaskFinished(id(1), report(1), ENERGY)), []);
}

#[test]
fn a_dropped_lease_is_stopped_and_not_reported() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    let dropped = vec![id(1)];
    let reply = ExchangeReply {
        session: SESSION,
        sequence: 4,
        now: Timestamp(0),
        leases: vec![],
        acks: vec![],
        dropped,
        governance: 0,
        claims: 0,
        challenge: 0,
    };
    let actions = script.act(Input::Replied(reply));
    assert_eq!(actions[0], Action::Abandon(id(1)));
    assert_eq!((exchange(&actions).holding.len(), exchange(&actions).reports.len()), (0, 0));
    assert_eq!(script.act(Input::TaskFinished(id(1), report(1), ENERGY)), []);
}

#[test]
fn a_lease_that_ends_unfinished_is_given_up_by_this_devices_clock() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    script.after(599_999);
    assert_eq!(script.stages(), [TaskStage::Running]);
    let actions = script.after(1);
    assert_eq!(actions[0], Action::Abandon(id(1)));
    assert_eq!(script.stages(), [TaskStage::Failed]);
}

#[test]
fn a_result_is_stored_again_until_it_is() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    script.act(Input::TaskFinished(id(1), report(1), ENERGY));
    for _ in 0..5 {
        assert_eq!(script.act(Input::ResultStoreFailed(id(1))), []);
        assert!(script.after(15_000).contains(&Action::Upload(lease(1).lease)));
    }
    script.act(Input::ResultStored(id(1)));
    assert_eq!(script.stages(), [TaskStage::Finished]);
}

#[test]
fn a_coordinator_that_does_not_acknowledge_is_not_pestered() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    script.act(Input::TaskFinished(id(1), report(1), ENERGY));
    script.act(Input::ResultStored(id(1)));
    assert_eq!(script.reply(4, vec![], vec![]), []);
    assert_eq!(script.reply(5, vec![], vec![]), []);
    assert!(matches!(script.agent.view().link, LinkView::Troubled { failures: 1, .. }));
    assert_eq!(exchange(&script.after(250)).reports.len(), 1);
}

#[test]
fn unacknowledged_results_stop_the_taking_of_work() {
    let mut script = Script::connected(1);
    script.agent.config.results_bytes_max = Bytes(100);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    script.act(Input::TaskFinished(id(1), report(1), ENERGY));
    assert_eq!(script.agent.view().slots_free, 0);
    script.act(Input::ResultStored(id(1)));
    let sequence = script.sequence;
    let actions = script.reply(sequence, vec![], vec![id(1)]);
    assert_eq!(exchange(&actions).slots_free, 2);
}

#[test]
fn a_graceful_stop_finishes_what_runs_and_gives_back_the_rest() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1), lease(2)], vec![]);
    script.running(lease(1));
    let actions = script.act(Input::StopRequested);
    assert_eq!(actions[0], Action::Abandon(id(2)));
    let request = exchange(&actions);
    assert_eq!((request.slots_free, request.reports.len()), (0, 1));
    script.reply(4, vec![], vec![id(2)]);
    script.act(Input::TaskFinished(id(1), report(1), ENERGY));
    script.act(Input::ResultStored(id(1)));
    let sequence = script.sequence;
    let actions = script.reply(sequence, vec![], vec![id(1)]);
    assert_eq!(actions, [Action::Release(id(1)), Action::Exit(ExitReason::Stopped { unreported: 0 })]);
}

#[test]
fn a_graceful_stop_ends_in_bounded_time() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    script.act(Input::StopRequested);
    let actions = script.after(5_000);
    assert_eq!(actions[0], Action::Abandon(id(1)));
    assert_eq!(exchange(&actions).reports.len(), 1);
    assert_eq!(script.after(2_000), [Action::Exit(ExitReason::Stopped { unreported: 1 })]);
}

#[test]
fn a_second_request_to_stop_ends_at_once_and_an_idle_agent_at_the_first() {
    let mut script = Script::connected(1);
    script.reply(3, vec![lease(1)], vec![]);
    script.running(lease(1));
    script.act(Input::StopRequested);
    assert_eq!(script.act(Input::StopRequested), [Action::Exit(ExitReason::Stopped { unreported: 1 })]);
    let mut script = Script::connected(1);
    assert_eq!(script.act(Input::StopRequested), [Action::Exit(ExitReason::Stopped { unreported: 0 })]);
}

/// What a request has of claims: whose, and their numbers.
fn claims(actions: &[Action]) -> Vec<(LeaseId, u64)> {
    let reports = &exchange(actions).reports;
    reports.iter().filter_map(|report| Some((report.lease.lease.id, report.claim?.sequence))).collect()
}

#[test]
fn claims_go_on_from_those_decided_in_the_order_in_which_results_were_stored() {
    let mut script = Script::connected(2);
    script.decided(3, vec![lease(1), lease(2)], vec![], 7);
    script.act(Input::WorkloadReady(WORKLOAD));
    let actions = script.done(2);
    assert_eq!(exchange(&actions).reports, [result(2, 8)]);
    let sequence = script.sequence;
    assert_eq!(script.done(1), [], "the next request has it");
    // Whether the pool has heard the first one is not known, so it is said again as it was.
    script.act(Input::TransportFailed { sequence, reason: "cable".into() });
    let actions = script.after(15_000);
    assert_eq!(exchange(&actions).reports, [result(2, 8), result(1, 9)]);
    let sequence = script.sequence;
    let actions = script.decided(sequence, vec![lease(3)], vec![(id(2), Ok(())), (id(1), Ok(()))], 9);
    assert_eq!(claims(&actions), []);
    assert_eq!(claims(&script.done(3)), [(id(3), 10)]);
    assert_eq!(script.agent.claims(), Claims { decided: 9, forgotten: None });
}

#[test]
fn failures_have_no_number() {
    let mut script = Script::connected(2);
    script.decided(3, vec![lease(1), lease(2), lease(3)], vec![], 7);
    script.act(Input::WorkloadReady(WORKLOAD));
    let sequence = exchange(&script.done(1)).sequence;
    script.act(Input::InputReady(id(2)));
    script.act(Input::TaskFailed(id(2), failure(AttemptFailureKind::RunnerDied)));
    script.done(3);
    script.act(Input::TransportFailed { sequence, reason: "cable".into() });
    let actions = script.after(15_000);
    assert_eq!(exchange(&actions).reports.len(), 3);
    assert_eq!(claims(&actions), [(id(1), 8), (id(3), 9)]);
}

#[test]
fn a_claim_out_of_turn_is_kept_and_numbered_again() {
    let mut script = Script::connected(2);
    script.decided(3, vec![lease(1), lease(2)], vec![], 7);
    script.act(Input::WorkloadReady(WORKLOAD));
    let sequence = exchange(&script.done(1)).sequence;
    script.done(2);
    script.act(Input::TransportFailed { sequence, reason: "cable".into() });
    assert_eq!(claims(&script.after(15_000)), [(id(1), 8), (id(2), 9)]);
    // The first was refused without a decision on its claim.
    let acks = vec![(id(1), Err(Refusal::LeaseForged)), (id(2), Err(Refusal::ClaimSequence { expected: 8 }))];
    let sequence = script.sequence;
    let actions = script.decided(sequence, vec![], acks, 7);
    assert_eq!(actions[0], Action::Release(id(1)));
    assert_eq!(claims(&actions), [(id(2), 8)]);
    assert_eq!(script.agent.view().totals.refused, 1);
}

#[test]
fn a_coordinator_that_likes_no_number_is_not_pestered() {
    let mut script = Script::connected(1);
    script.decided(3, vec![lease(1)], vec![], 7);
    script.act(Input::WorkloadReady(WORKLOAD));
    script.done(1);
    let mut hurried = 0;
    loop {
        hurried += 1;
        let (acks, sequence) = (vec![(id(1), Err(Refusal::ClaimSequence { expected: 99 }))], script.sequence);
        if script.decided(sequence, vec![], acks, 7).is_empty() {
            break;
        }
    }
    assert_eq!(hurried, 5);
    let LinkView::Troubled { reason, .. } = script.agent.view().link else { panic!() };
    assert!(reason.contains("which is 99"), "{reason}");
    assert_eq!(claims(&script.after(250)), [(id(1), 8)]);
}

#[test]
fn a_claim_that_was_said_is_said_on_although_its_lease_is_dropped() {
    let mut script = Script::connected(1);
    script.decided(3, vec![lease(1)], vec![], 7);
    script.act(Input::WorkloadReady(WORKLOAD));
    assert_eq!(claims(&script.done(1)), [(id(1), 8)]);
    let sequence = script.sequence;
    // A poll before it, whose reply tells that the job has ended, crosses it.
    let reply = reply(sequence - 1, vec![], vec![]);
    let Input::Replied(reply) = reply else { panic!() };
    script.act(Input::Replied(ExchangeReply { dropped: vec![id(1)], claims: 7, ..reply }));
    assert_eq!(script.stages(), [TaskStage::Finished]);
    script.act(Input::TransportFailed { sequence, reason: "cable".into() });
    assert_eq!(claims(&script.after(15_000)), [(id(1), 8)]);
    let (sequence, verdict) = (script.sequence, Err(Refusal::JobEnded(JobId(1))));
    assert_eq!(script.decided(sequence, vec![], vec![(id(1), verdict)], 8)[0], Action::Release(id(1)));
}

#[test]
fn an_overtaken_reply_does_not_take_decisions_back() {
    let mut script = Script::connected(1);
    script.after(7_000);
    // 3 and 4 are under way.
    script.decided(4, vec![lease(1)], vec![], 9);
    script.decided(3, vec![], vec![], 7);
    script.act(Input::WorkloadReady(WORKLOAD));
    assert_eq!(claims(&script.done(1)), [(id(1), 10)]);
    assert_eq!(script.agent.claims(), Claims { decided: 9, forgotten: None });
}

#[test]
fn a_pool_that_forgets_receipts_is_told_of_and_worked_for() {
    let mut script = Script::connected(1);
    let earlier = Claims { decided: 12, forgotten: None };
    script.agent = script.agent.clone().knowing(earlier);
    script.decided(3, vec![lease(1)], vec![], 7);
    assert_eq!(script.agent.claims(), Claims { decided: 12, forgotten: Some(Forgotten { first: 8, last: 12 }) });
    let explained = script.agent.explain(Timestamp(script.now)).join("\n");
    assert!(explained.contains("forgotten receipts of this device: it had decided its claims 8 to 12"), "{explained}");
    script.act(Input::WorkloadReady(WORKLOAD));
    assert_eq!(claims(&script.done(1)), [(id(1), 8)]);
}
