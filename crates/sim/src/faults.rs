//! Misfortunes: each kind strikes at random intervals until everything is repaired.

use crate::Character;
use crate::coordinator::Death;
use crate::world::{Event, World};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Partition,
    CoordinatorCrash,
    Stall,
    AgentCrash,
    AgentStop,
    Suspend,
    ClockJump,
    Leave(usize),
}

impl World {
    pub(crate) fn schedule_faults(&mut self) {
        use Fault::*;
        for fault in [Partition, CoordinatorCrash, Stall, AgentCrash, AgentStop, Suspend, ClockJump] {
            self.schedule(fault);
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].character == Character::Leaves {
                let at = self.rng.between(0, self.plan.heal_at);
                self.at(at, Event::Fault(Leave(host)));
            }
        }
    }

    fn schedule(&mut self, fault: Fault) {
        let rates = &self.plan.rates;
        let every = match fault {
            Fault::Partition => rates.partition,
            Fault::CoordinatorCrash => rates.coordinator_crash,
            Fault::Stall => rates.stall,
            Fault::AgentCrash => rates.agent_crash,
            Fault::AgentStop => rates.agent_stop,
            Fault::Suspend => rates.suspend,
            Fault::ClockJump => rates.clock_jump,
            Fault::Leave(_) => 0,
        };
        if every > 0 {
            let delay = self.rng.between(1, 2 * every);
            self.after(delay, Event::Fault(fault));
        }
    }

    pub(crate) fn misfortune(&mut self, fault: Fault) {
        if self.healed {
            return;
        }
        let host = self.rng.between(0, self.hosts.len() as u64 - 1) as usize;
        let incarnation = self.hosts[host].incarnation;
        self.note(|| format!("fault: {fault:?} (device {host})"));
        match fault {
            Fault::Partition => self.hosts[host].cut_until = self.now + self.rng.between(500, 40_000),
            Fault::CoordinatorCrash => match self.rng.between(0, 3) {
                0 => self.node.dies = Some(Death::BeforeCommit),
                1 => self.node.dies = Some(Death::AfterCommit),
                _ => self.kill_coordinator(),
            },
            Fault::Stall => self.node.stall = self.rng.between(100, 30_000),
            Fault::AgentCrash => self.end_host(host, incarnation, false),
            Fault::AgentStop => self.end_host(host, incarnation, true),
            Fault::Suspend => {
                let span = self.rng.between(1_000, 60_000);
                let stops = self.rng.chance(500);
                self.hosts[host].suspend(self.now, span, stops);
            }
            Fault::ClockJump => {
                let jump = self.rng.between(10_000, 3_600_000) as i64;
                self.node.clock_offset += if self.rng.chance(500) { jump } else { -jump };
            }
            Fault::Leave(host) => {
                self.hosts[host].gone = true;
                self.end_host(host, self.hosts[host].incarnation, false);
            }
        }
        self.schedule(fault);
    }

    /// Everything is repaired: nothing is lost or late, nobody dies, and one device has one identity.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.node.dies = None;
        self.node.stall = 0;
        self.note(|| "everything is repaired".into());
        for host in 0..self.hosts.len() {
            self.hosts[host].cut_until = self.now;
            if self.hosts[host].is_clone {
                self.hosts[host].gone = true;
                self.end_host(host, self.hosts[host].incarnation, false);
            } else {
                let delay = self.rng.between(0, 5_000);
                self.after(delay, Event::HostStarts { host });
            }
        }
    }
}
