//! What lies between devices and the coordinator: it loses, repeats, delays and reorders.

use crate::Character;
use crate::coordinator::{Origin, honest_report};
use crate::world::{Answer, Event, World};
use caii_coordinator::Input;
use caii_model::*;

/// How much longer than the coordinator may hold a reply back a device's shell waits for it.
const PATIENCE: u64 = 10_000;

impl World {
    pub(crate) fn lost(&mut self) -> bool {
        !self.healed && self.plan.rates.loss > 0 && self.rng.chance(self.plan.rates.loss)
    }

    pub(crate) fn latency(&mut self) -> u64 {
        let late = !self.healed && self.plan.rates.delay > 0 && self.rng.chance(self.plan.rates.delay);
        if late { self.rng.between(40, 8_000) } else { self.rng.between(1, 40) }
    }

    fn cut(&self, host: usize) -> bool {
        self.hosts[host].cut_until > self.now
    }

    /// A device's request sets out. Exactly one answer comes of it.
    pub(crate) fn send_request(&mut self, host: usize, mut request: ExchangeRequest) {
        let (incarnation, sequence, device) = (self.hosts[host].incarnation, request.sequence, request.device);
        self.hosts[host].pending.insert(sequence);
        let answer = Answer::Failed("no answer came in time");
        self.after(request.wait.0 + PATIENCE, Event::Answered { host, incarnation, sequence, answer });
        let own = request.reports.len();
        self.forge(host, &mut request);
        self.hosts[host].sign(&mut request.reports);
        if self.cut(host) || self.lost() {
            return;
        }
        let origin = Origin::Device { host, incarnation, sequence, device, reports: request.reports.clone(), own };
        let delay = self.latency();
        if self.rng.chance(self.plan.rates.duplication) {
            let again = delay + self.rng.between(0, 60_000);
            let input = Box::new(Input::Exchange(request.clone()));
            self.after(again, Event::Arrives { origin: origin.clone(), input });
        }
        self.after(delay, Event::Arrives { origin, input: Box::new(Input::Exchange(request)) });
    }

    pub(crate) fn send_answer(&mut self, host: usize, incarnation: u64, sequence: u64, answer: Answer) {
        if self.cut(host) || self.lost() {
            return;
        }
        let delay = self.latency();
        self.after(delay, Event::Answered { host, incarnation, sequence, answer });
    }

    /// A device lets go of a connection, and the coordinator's shell sees that if it can.
    pub(crate) fn hang_up(&mut self, host: usize, sequence: u64) {
        if !self.cut(host) {
            let (delay, incarnation) = (self.latency(), self.hosts[host].incarnation);
            self.after(delay, Event::Breaks { host, incarnation, sequence });
        }
    }

    /// A forger shows leases that are not its own, or not what they were.
    fn forge(&mut self, host: usize, request: &mut ExchangeRequest) {
        if self.hosts[host].character != Character::Forger || request.session.is_none() || !self.rng.chance(400) {
            return;
        }
        let Some(mut signed) = self.checks.any_lease(self.rng.bits()) else { return };
        let other = self.checks.any_lease(self.rng.bits()).map_or(signed.lease, |other| other.lease);
        match self.rng.between(0, 5) {
            0 => {}
            1 => signed.lease.device = request.device,
            2 => (signed.lease.task, signed.lease.input) = (other.task, other.input),
            3 => signed.lease.expires = Timestamp(u64::MAX),
            4 => signed.lease.pool = PoolId([77; 8]),
            _ => signed.signature[0] ^= 1,
        }
        self.note(|| format!("{} forges a lease of {}", request.device, signed.lease.task));
        if self.rng.chance(500) {
            let outcome = Ok(honest_report(&signed.lease.input));
            // As a claim that would be the next if the request has no other.
            let claim = Some(SignedClaim::unsigned(self.hosts[host].claims() + 1, Energy::UNKNOWN));
            request.reports.push(Report { lease: signed, outcome, claim });
        } else {
            request.holding.push(signed);
        }
    }
}
