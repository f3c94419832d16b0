//! Random events, most of them told again later: every row once, sums of zero, nothing below zero, nobody overcharged.

use crate::world::{Books, NOW, account, device, member, settlement, tariff, task};
use caii_ledger::{CreditLimit, Entry, GrantKey, LedgerAccount, Outcome, PayoutRun, Refusal, events};
use caii_model::{
    Account, DeviceId, Fuel, JobId, MicroCredits, Settlement, TaskId, Timestamp, VerificationPolicy, quote,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const PREPAID: CreditLimit = CreditLimit::Below(MicroCredits::ZERO);
const MEMBERS: [&str; 3] = ["alice", "bob", "carol"];
/// Each member owns two.
const DEVICES: u8 = 6;
const FUEL_MAX: u64 = 10_000_000_000;

#[derive(Debug, Clone)]
enum Event {
    Grant { to: usize, amount: i64 },
    Submit { by: usize, tasks: u32 },
    Accept { job: prop::sample::Index, task: u32, device: u8, fuel: u64, audit_fuel: u64, probation: bool },
    Catch { device: u8 },
    Trust { device: u8 },
    Present { device: u8, day: u32, amount: i64 },
    AskPayout { by: usize, share: i64 },
    Payout { to: usize, dust: i64, paid: bool },
    End { job: prop::sample::Index },
    Replay { entry: prop::sample::Index },
    ReplayChanged { entry: prop::sample::Index },
}

fn event() -> impl Strategy<Value = Event> {
    let (member, device) = (0..MEMBERS.len(), 0..DEVICES);
    let any_index = any::<prop::sample::Index>;
    prop_oneof![
        1 => (member.clone(), 0..500_000i64).prop_map(|(to, amount)| Event::Grant { to, amount }),
        2 => (member.clone(), 1..6u32).prop_map(|(by, tasks)| Event::Submit { by, tasks }),
        8 => (any_index(), 0..6u32, device.clone(), 0..=FUEL_MAX, 0..FUEL_MAX / 4, any::<bool>()).prop_map(
            |(job, task, device, fuel, audit_fuel, probation)| {
                Event::Accept { job, task, device, fuel, audit_fuel, probation }
            }
        ),
        1 => device.clone().prop_map(|device| Event::Catch { device }),
        1 => device.clone().prop_map(|device| Event::Trust { device }),
        1 => (device, 0..3u32, 0..30_000i64).prop_map(|(device, day, amount)| Event::Present { device, day, amount }),
        1 => (member.clone(), 1..=4i64).prop_map(|(by, share)| Event::AskPayout { by, share }),
        1 => (member, 0..100i64, any::<bool>()).prop_map(|(to, dust, paid)| Event::Payout { to, dust, paid }),
        1 => any_index().prop_map(|job| Event::End { job }),
        6 => any_index().prop_map(|entry| Event::Replay { entry }),
        2 => any_index().prop_map(|entry| Event::ReplayChanged { entry }),
    ]
}

struct Job {
    owner: Account,
    quoted: i64,
    /// Tasks not yet done.
    open: Vec<TaskId>,
    ended: bool,
    /// Prices charged less those that came back.
    charged: i64,
}

struct Done {
    task: TaskId,
    settlement: Settlement,
    void: bool,
    /// Whether what was held back of it is still held.
    held: bool,
}

/// What a coordinator would know beside the ledger.
#[derive(Default)]
struct World {
    books: Books,
    jobs: BTreeMap<u64, Job>,
    /// By device; it claims in this order.
    done: BTreeMap<DeviceId, Vec<Done>>,
    payouts_asked: BTreeMap<usize, u64>,
    runs: u64,
    grants: u64,
    replays_refused: usize,
}

fn owner_of(number: u8) -> Account {
    account(MEMBERS[usize::from(number) % MEMBERS.len()])
}

impl World {
    /// What is new is applied, or refused because somebody has too little.
    fn offer(&mut self, entry: Option<Entry>) -> bool {
        let Some(entry) = entry else { return true };
        match self.books.offer(&entry, PREPAID) {
            Ok(Outcome::Applied) => true,
            Ok(Outcome::Exists) => panic!("a new event took an old one's place: {entry:?}"),
            Err(Refusal::Insufficient { account: LedgerAccount::Member(_), .. }) => false,
            Err(refusal) => panic!("{refusal}: {entry:?}"),
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Grant { to, amount } => {
                self.grants += 1;
                let mut key = [0; 16];
                key[..8].copy_from_slice(&self.grants.to_le_bytes());
                let (to, amount) = (account(MEMBERS[to]), MicroCredits(amount));
                let entry = if self.grants.is_multiple_of(2) {
                    events::granted(GrantKey(key), &to, amount, NOW)
                } else {
                    events::payment_recorded(GrantKey(key), &to, amount, NOW)
                };
                assert!(self.offer(entry));
            }
            Event::Submit { by, tasks } => {
                let id = self.jobs.len() as u64 + 1;
                let quoted = quote(&tariff(), (0..tasks).map(|_| Fuel(FUEL_MAX)), VerificationPolicy::Audit).unwrap();
                let owner = account(MEMBERS[by]);
                // Who has too little is refused the job.
                if self.offer(events::job_reserved(JobId(id), &owner, quoted, NOW)) {
                    let open = (0..tasks).map(|index| task(id, index)).collect();
                    self.jobs.insert(id, Job { owner, quoted: quoted.0, open, ended: false, charged: 0 });
                }
            }
            Event::Accept { job, task, device: number, fuel, audit_fuel, probation } => {
                let Some(id) = self.running(job) else { return };
                let job = self.jobs.get_mut(&id).unwrap();
                let Some(place) = job.open.iter().position(|open| open.index.0 == task) else { return };
                let task = job.open[place];
                let device = device(number);
                if self.done.get(&device).is_some_and(|done| done.iter().any(|done| done.task == task)) {
                    // A device that was caught on this task does not get it again.
                    return;
                }
                job.open.remove(place);
                let settlement = settlement(fuel, audit_fuel, probation);
                job.charged += settlement.price.total.0;
                let owner = owner_of(number);
                let entry = events::task_accepted(task, device, &owner, &settlement, NOW).unwrap();
                assert!(self.offer(entry));
                self.done.entry(device).or_default().push(Done { task, settlement, void: false, held: true });
            }
            Event::Catch { device: number } => self.catch(number),
            Event::Trust { device: number } => {
                let device = device(number);
                let done = self.done.entry(device).or_default();
                let held = done.iter().filter(|done| done.held).map(|done| done.settlement.reward.held);
                let held = MicroCredits::checked_sum(held).unwrap();
                done.iter_mut().for_each(|done| done.held = false);
                let through = done.len() as u64;
                if held > MicroCredits::ZERO {
                    assert!(self.offer(events::holdback_released(device, through, &owner_of(number), held, NOW)));
                }
            }
            Event::Present { device: number, day, amount } => {
                let entry =
                    events::availability_paid(device(number), day, &owner_of(number), MicroCredits(amount), NOW);
                // The same day is told again, perhaps with another amount: paid once.
                if let Some(entry) = entry {
                    match self.books.offer(&entry, PREPAID) {
                        Ok(_) | Err(Refusal::IdTaken { .. }) => {}
                        Err(refusal) => panic!("{refusal}"),
                    }
                }
            }
            Event::AskPayout { by, share } => {
                let amount = self.books.balance(&member(MEMBERS[by])) / share;
                let number = self.payouts_asked.entry(by).or_default();
                *number += 1;
                let entry = events::payout_requested(&account(MEMBERS[by]), *number, MicroCredits(amount), NOW);
                assert!(self.offer(entry));
            }
            Event::Payout { to, dust, paid } => {
                let to = account(MEMBERS[to]);
                let payable = self.books.balance(&LedgerAccount::Payable(to.clone()));
                let amount = MicroCredits((payable - dust).max(0));
                self.runs += 1;
                let run = PayoutRun(self.runs);
                let entry = if paid {
                    events::payout_done(run, &to, amount, NOW)
                } else {
                    events::payout_failed(run, &to, amount, NOW)
                };
                assert!(self.offer(entry));
            }
            Event::End { job } => {
                if let Some(id) = self.running(job) {
                    self.end(id);
                }
            }
            Event::Replay { entry } => {
                if self.books.entries.is_empty() {
                    return;
                }
                let entry = entry.get(&self.books.entries).clone();
                let later = Entry { at: Timestamp(entry.at.0 + 60_000), ..entry };
                let (before, rows) = (self.books.ledger.clone(), self.books.rows.len());
                assert_eq!(self.books.offer(&later, PREPAID), Ok(Outcome::Exists), "{later:?}");
                assert_eq!((&self.books.ledger, self.books.rows.len()), (&before, rows));
            }
            Event::ReplayChanged { entry } => {
                if self.books.entries.is_empty() {
                    return;
                }
                let mut entry = entry.get(&self.books.entries).clone();
                entry.postings[0].amount.0 += 1;
                let before = self.books.ledger.clone();
                assert_eq!(self.books.offer(&entry, PREPAID), Err(Refusal::IdTaken { id: entry.id() }));
                assert_eq!(self.books.ledger, before);
                self.replays_refused += 1;
            }
        }
    }

    fn running(&self, index: prop::sample::Index) -> Option<u64> {
        let running: Vec<u64> = self.jobs.iter().filter(|(_, job)| !job.ended).map(|(id, _)| *id).collect();
        (!running.is_empty()).then(|| *index.get(&running))
    }

    /// All that the device ever did is void; its tasks are done again where the job still runs.
    fn catch(&mut self, number: u8) {
        let device = device(number);
        let Some(done) = self.done.get_mut(&device) else { return };
        let held = done.iter().filter(|done| done.held).map(|done| done.settlement.reward.held);
        let held = MicroCredits::checked_sum(held).unwrap();
        let void: Vec<(TaskId, Settlement)> =
            done.iter().filter(|done| !done.void).map(|done| (done.task, done.settlement)).collect();
        let paid = void.iter().map(|(_, settled)| settled.reward.total.0 - settled.reward.held.0).sum();
        let through = done.len() as u64;
        done.iter_mut().for_each(|done| (done.void, done.held) = (true, false));
        if void.is_empty() {
            return;
        }
        for (task, settled) in void {
            let job = self.jobs.get_mut(&task.job.0).unwrap();
            let entry = events::task_voided(task, device, &job.owner, !job.ended, &settled.price, NOW);
            if !job.ended {
                job.open.push(task);
            }
            job.charged -= settled.price.total.0;
            assert!(self.offer(entry));
        }
        let owner = owner_of(number);
        let balance = self.books.ledger.balance(&LedgerAccount::Member(owner.clone()));
        let forfeiture = events::Forfeiture { device, through, owner, held, paid_for_void: MicroCredits(paid) };
        assert!(self.offer(events::device_forfeited(&forfeiture, balance, NOW)));
    }

    fn end(&mut self, id: u64) {
        let job = self.jobs.get_mut(&id).unwrap();
        job.ended = true;
        assert!((0..=job.quoted).contains(&job.charged), "{} of {}", job.charged, job.quoted);
        let rest = MicroCredits(job.quoted - job.charged);
        let entry = events::job_returned(JobId(id), &job.owner.clone(), rest, NOW);
        assert!(self.offer(entry));
        self.books.ledger.close(JobId(id)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_paid_once(events in prop::collection::vec(event(), 1..150)) {
        let mut world = World::default();
        for name in 0..MEMBERS.len() {
            world.step(Event::Grant { to: name, amount: 400_000 });
        }
        for event in events {
            world.step(event);
            prop_assert!(MEMBERS.iter().all(|name| world.books.balance(&member(name)) >= 0));
        }
        // Everything ends; all that was reserved is paid or returned.
        let running: Vec<u64> = world.jobs.iter().filter(|(_, job)| !job.ended).map(|(id, _)| *id).collect();
        running.into_iter().for_each(|id| world.end(id));
        prop_assert_eq!(world.books.ledger.trial_balance().escrow, 0);
        // And every row once more, in any order, as if all messages of a year came again.
        for entry in world.books.entries.clone().iter().rev() {
            prop_assert_eq!(world.books.offer(entry, PREPAID), Ok(Outcome::Exists));
        }
    }
}

/// The checks can fail: without the store's unique key a reservation that comes after its job has ended is applied again,
/// and the balances are no longer those of the rows.
#[test]
#[should_panic(expected = "assertion `left == right` failed")]
fn a_shell_that_does_not_ask_its_store_is_caught() {
    let mut world = World::default();
    world.step(Event::Grant { to: 0, amount: 400_000 });
    world.step(Event::Submit { by: 0, tasks: 1 });
    let reserve = world.books.entries.last().unwrap().clone();
    world.end(1);
    assert!(!world.books.ledger.remembers(&reserve.purpose));
    world.books.ledger.apply(&reserve, PREPAID).unwrap();
    world.books.check();
}
