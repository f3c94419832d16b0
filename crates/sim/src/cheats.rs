//! Audits against cheats: many devices, one long job, and cheats of every kind that choose what hurts most. The rules are
//! those of `caii-verify`, the same that the coordinator follows; what is simulated here is who lies, who audits whom, and
//! what comes of it.
//!
//! Everybody works at the same speed, one task a round. An audit comes back [`LAG`] rounds after it was drawn, from a
//! device of another owner that is drawn at random. Nobody can tell an audit from other work. A mismatch is decided by an
//! executor that the pool trusts. Who is convicted loses everything that is not final, which others do again, and comes
//! back at once under a new name.

use crate::Rng;
use caii_verify::{Depth, Record, Standing, audits_due};
use std::collections::VecDeque;

/// Rounds until an audit's result is there.
const LAG: usize = 2;

/// What a cheat does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cheat {
    /// Falsifies its share alone: two such results of one item never agree.
    Alone,
    /// Knows the others: they falsify alike, and vouch for each other when they audit.
    Colluding,
    /// Colludes, and is honest until it is trusted.
    Sleeper,
    /// Colludes, and leaves for ever with work that is not final; a new name comes at once.
    Leaver,
    /// Colludes, and falsifies only in one task of twenty, twenty times as much.
    Burst,
    /// Does all work, and reports more units than it used.
    Inflator,
    /// Colludes, and never returns a task in which it was asked for an item of a fellow.
    NoShow,
}

/// Every kind.
pub const CHEATS: [Cheat; 7] =
    [Cheat::Alone, Cheat::Colluding, Cheat::Sleeper, Cheat::Leaver, Cheat::Burst, Cheat::Inflator, Cheat::NoShow];

/// A pool under attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Decides all chance.
    pub seed: u64,
    /// Devices, each of an owner of its own.
    pub devices: usize,
    /// Tasks that each device does.
    pub rounds: usize,
    /// Items in a task.
    pub items: u32,
    /// Cheats among a thousand devices.
    pub cheats_per_mille: u32,
    /// What they do.
    pub cheat: Cheat,
    /// Items that they falsify, of a million.
    pub falsified_ppm: u32,
    /// Survived audits that make a result final.
    pub depth: Depth,
    /// A defect of the rules, to see that it is found.
    pub defect: Option<Defect>,
}

/// A way to get the rules wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Results are final at once.
    FinalAtOnce,
    /// The draw is known before the device commits.
    DrawnBefore,
    /// The auditor is one of the device's fellows where there is one.
    FellowsAudit,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Damage {
    /// Items accepted.
    pub accepted: u64,
    /// Of these, wrong ones.
    pub wrong: u64,
    /// Items run for audits.
    pub audited: u64,
    /// Items run again because their device was convicted.
    pub again: u64,
    /// Convictions of cheats.
    pub caught: u64,
    /// Convictions of honest devices.
    pub accused: u64,
    /// Items that cheats were paid for, and that they really ran.
    pub cheats: (u64, u64),
    /// The same of honest devices.
    pub honest: (u64, u64),
}

impl Damage {
    /// Share of accepted items that are wrong.
    pub fn error(&self) -> f64 {
        ratio(self.wrong, self.accepted)
    }

    /// Items run beyond one run each.
    pub fn overhead(&self) -> f64 {
        ratio(self.audited + self.again, self.accepted)
    }

    /// What cheats earned for an item that they ran, over what honest devices did.
    pub fn profit(&self) -> f64 {
        ratio(self.cheats.0, self.cheats.1) / ratio(self.honest.0, self.honest.1)
    }
}

fn ratio(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

struct Device {
    cheats: bool,
    standing: Standing,
    pending: VecDeque<Task>,
    /// Tasks done under this name.
    done: u32,
    /// Counts names: what was drawn of an earlier one is void.
    name: u64,
}

struct Task {
    number: u64,
    record: Record,
    /// Wrong items of which no audit was drawn yet, and those that fellows vouched for.
    wrong: u32,
    vouched: u32,
}

/// An audit on its way.
struct Audit {
    due: usize,
    device: usize,
    name: u64,
    task: u64,
    wrong: bool,
}

struct Pool {
    attack: Attack,
    rng: Rng,
    round: usize,
    devices: Vec<Device>,
    audits: VecDeque<Audit>,
    /// Tasks that have to be done again.
    redo: u64,
    numbers: u64,
    damage: Damage,
}

/// Plays it to the end, when everything is final.
pub fn play(attack: Attack) -> Damage {
    let cheats = (attack.devices as u64 * u64::from(attack.cheats_per_mille)).div_ceil(1_000) as usize;
    let device = |place| Device {
        cheats: place < cheats,
        standing: Standing::default(),
        pending: VecDeque::new(),
        done: 0,
        name: 0,
    };
    let mut pool = Pool {
        attack,
        rng: Rng::new(attack.seed),
        round: 0,
        devices: (0..attack.devices).map(device).collect(),
        audits: VecDeque::new(),
        redo: 0,
        numbers: 0,
        damage: Damage::default(),
    };
    for round in 0..attack.rounds {
        pool.round = round;
        (0..attack.devices).for_each(|device| pool.work(device));
        pool.take_audits(round);
    }
    while pool.redo > 0 || pool.devices.iter().any(|device| !device.pending.is_empty()) {
        pool.round += 1;
        for _ in 0..std::mem::take(&mut pool.redo) {
            let device = pool.rng.between(0, attack.devices as u64 - 1) as usize;
            pool.work(device);
        }
        (0..attack.devices).for_each(|device| pool.draw_the_rest(device));
        pool.take_audits(usize::MAX);
    }
    pool.damage
}

impl Pool {
    /// How many items of a million the device falsifies now.
    fn rate(&mut self, place: usize) -> u32 {
        let device = &self.devices[place];
        let (rate, trusted) = (self.attack.falsified_ppm, device.standing.survived >= u64::from(self.attack.depth.0));
        match self.attack.cheat {
            _ if !device.cheats => 0,
            Cheat::Sleeper if !trusted => 0,
            Cheat::Burst if self.rng.between(0, 19) > 0 => 0,
            Cheat::Burst => rate.saturating_mul(20).min(1_000_000),
            _ => rate,
        }
    }

    fn colludes(&self, place: usize) -> bool {
        self.devices[place].cheats && !matches!(self.attack.cheat, Cheat::Alone | Cheat::Inflator)
    }

    fn work(&mut self, place: usize) {
        let items = self.attack.items;
        let rate = self.rate(place);
        let mut wrong =
            (0..items).filter(|_| rate > 0 && self.rng.between(0, 999_999) < u64::from(rate)).count() as u32;
        let standing = self.devices[place].standing;
        let chance = self.rng.between(0, 99) as u32;
        let count = audits_due(standing, items, self.attack.depth, chance);
        if self.attack.defect == Some(Defect::DrawnBefore) {
            // It falsifies only what it knows that nobody will look at.
            wrong = wrong.min(items - count);
        }
        let ran = if self.attack.cheat == Cheat::Inflator { items } else { items - wrong };
        self.earner(place).1 += u64::from(ran);
        self.numbers += 1;
        let record = Record { items, mark: standing.drawn, drawn: 0, survived: 0 };
        let task = Task { number: self.numbers, record, wrong, vouched: 0 };
        let device = &mut self.devices[place];
        device.done += 1;
        device.pending.push_back(task);
        let last = device.pending.len() - 1;
        self.draw(place, last, count);
        if self.attack.defect == Some(Defect::FinalAtOnce) {
            self.settle(place, true);
        }
        let leaves = self.attack.cheat == Cheat::Leaver && self.devices[place].cheats && self.rng.between(0, 49) == 0;
        if leaves {
            self.leave(place);
        }
    }

    fn earner(&mut self, place: usize) -> &mut (u64, u64) {
        if self.devices[place].cheats { &mut self.damage.cheats } else { &mut self.damage.honest }
    }

    /// Draws so many items of a task that were not drawn before.
    fn draw(&mut self, place: usize, task: usize, count: u32) {
        for _ in 0..count {
            let device = &mut self.devices[place];
            let task = &mut device.pending[task];
            let left = task.record.items - task.record.drawn;
            let known = self.attack.defect == Some(Defect::DrawnBefore);
            let wrong = !known && self.rng.between(1, u64::from(left)) <= u64::from(task.wrong);
            task.wrong -= u32::from(wrong);
            task.record.drawn += 1;
            device.standing.drawn += 1;
            let due = self.round + LAG;
            self.audits.push_back(Audit { due, device: place, name: device.name, task: task.number, wrong });
        }
    }

    /// What is pending is audited until it is final, or all of it is.
    fn draw_the_rest(&mut self, place: usize) {
        let device = &self.devices[place];
        let open = device.pending.iter().enumerate();
        let open = open.filter(|(_, task)| !task.record.is_final(device.standing, self.attack.depth));
        let open: Vec<(usize, u32)> =
            open.map(|(task, pending)| (task, pending.record.items - pending.record.drawn)).collect();
        let undrawn =
            |(task, _): &(usize, u32)| device.pending[*task].record.undrawn(device.standing, self.attack.depth);
        let mut count = open.iter().map(undrawn).max().unwrap_or(0);
        let mut left: Vec<(usize, u32)> = open.into_iter().filter(|(_, left)| *left > 0).collect();
        while count > 0 && !left.is_empty() {
            let all: u64 = left.iter().map(|(_, left)| u64::from(*left)).sum();
            let mut place_in = self.rng.between(0, all - 1);
            let chosen = left.iter().position(|(_, left)| {
                let here = place_in < u64::from(*left);
                place_in = place_in.saturating_sub(u64::from(*left));
                here
            });
            let chosen = chosen.expect("it is below the sum");
            self.draw(place, left[chosen].0, 1);
            left[chosen].1 -= 1;
            left.retain(|(_, left)| *left > 0);
            count -= 1;
        }
    }

    fn take_audits(&mut self, until: usize) {
        while self.audits.front().is_some_and(|audit| audit.due <= until) {
            let audit = self.audits.pop_front().expect("it is there");
            self.audit(&audit);
        }
        (0..self.devices.len()).for_each(|device| self.settle(device, false));
    }

    fn audit(&mut self, audit: &Audit) {
        let auditor = self.auditor(audit.device);
        self.damage.audited += 1;
        let fellows = self.colludes(audit.device) && self.colludes(auditor);
        if fellows && self.attack.cheat == Cheat::NoShow {
            // The item goes to somebody else, as often as it takes.
            let honest = |place: &usize| !self.devices[*place].cheats;
            let Some(other) = (0..self.devices.len()).find(honest) else { return };
            return self.compare(audit, other);
        }
        if fellows {
            return self.passes(audit, audit.wrong);
        }
        self.compare(audit, auditor);
    }

    fn auditor(&mut self, of: usize) -> usize {
        if self.attack.defect == Some(Defect::FellowsAudit) && self.colludes(of) {
            let fellow = (0..self.devices.len()).find(|place| *place != of && self.colludes(*place));
            return fellow.unwrap_or(of);
        }
        let other = self.rng.between(1, self.devices.len() as u64 - 1) as usize;
        (of + other) % self.devices.len()
    }

    /// An auditor that is no fellow runs the item. It cannot tell that it is an audit, so a cheat falsifies it as often as
    /// any other.
    fn compare(&mut self, audit: &Audit, auditor: usize) {
        let rate = self.rate(auditor);
        let false_audit = rate > 0 && self.rng.between(0, 999_999) < u64::from(rate);
        if !false_audit {
            self.earner(auditor).1 += 1;
            self.earner(auditor).0 += 1;
        }
        if audit.wrong {
            self.convict(audit.device, audit.name);
        }
        if false_audit {
            let name = self.devices[auditor].name;
            self.convict(auditor, name);
        }
        if !audit.wrong {
            self.passes(audit, false);
        }
    }

    fn passes(&mut self, audit: &Audit, vouched: bool) {
        let device = &mut self.devices[audit.device];
        if device.name != audit.name {
            return;
        }
        device.standing.survived += 1;
        if let Some(task) = device.pending.iter_mut().find(|task| task.number == audit.task) {
            task.record.survived += 1;
            task.vouched += u32::from(vouched);
        } else if self.attack.defect == Some(Defect::FinalAtOnce) && vouched {
            self.damage.wrong += 1;
        }
    }

    /// What is pending is done again; the device comes back as a stranger.
    fn convict(&mut self, place: usize, name: u64) {
        let device = &mut self.devices[place];
        if device.name != name {
            return;
        }
        if device.cheats {
            self.damage.caught += 1;
        } else {
            self.damage.accused += 1;
        }
        let void = device.pending.len() as u64;
        device.pending.clear();
        (device.standing, device.done) = (Standing::default(), 0);
        device.name += 1;
        self.redo += void;
        self.damage.again += void * u64::from(self.attack.items);
    }

    /// Its pending work is audited as at a job's end, with no work after it; then a new name takes its place.
    fn leave(&mut self, place: usize) {
        self.draw_the_rest(place);
        let name = self.devices[place].name;
        let (own, others) = std::mem::take(&mut self.audits)
            .into_iter()
            .partition(|audit: &Audit| (audit.device, audit.name) == (place, name));
        self.audits = others;
        let own: VecDeque<Audit> = own;
        own.iter().for_each(|audit| self.audit(audit));
        self.settle(place, false);
        let device = &mut self.devices[place];
        if device.name == name {
            let void = device.pending.len() as u64;
            device.pending.clear();
            self.redo += void;
            self.damage.again += void * u64::from(self.attack.items);
            (device.standing, device.done) = (Standing::default(), 0);
            device.name += 1;
        }
    }

    /// Accepts and pays what is final.
    fn settle(&mut self, place: usize, all: bool) {
        let depth = self.attack.depth;
        let device = &mut self.devices[place];
        let standing = device.standing;
        let mut settled = Vec::new();
        device.pending.retain(|task| {
            let done = all || task.record.is_final(standing, depth);
            if done {
                settled.push((task.record.items, task.wrong + task.vouched));
            }
            !done
        });
        for (items, wrong) in settled {
            self.damage.accepted += u64::from(items);
            self.damage.wrong += u64::from(wrong);
            self.earner(place).0 += u64::from(items);
        }
    }
}
