//! The conversation with the coordinator: what was sent, what may still come back, and when to speak next.

use crate::{Claims, Config};
use caii_model::{BootId, ExchangeReply, LeaseId, Millis, Refusal, SessionId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Requests without an answer. Beyond it the agent waits for the shell to give one up.
pub(crate) const OUTSTANDING_MAX: usize = 6;
/// How much longer than `wait` an answer may take before the agent speaks again. The coordinator takes a device for
/// lost after 12 s of silence, so `wait` and this together stay well below.
const OVERDUE: Millis = Millis(2_000);
/// How long the agent stays silent at most when it has no room for more work. The report of a short task then comes in
/// time to be the next request, which halves the number of requests.
const SILENT: Millis = Millis(1_000);
/// Refusals in a row that are answered at once by a better request. More mean that the two do not understand each
/// other, and hurrying would not help.
const CORRECTIONS_MAX: u32 = 4;

#[derive(Debug, Clone)]
pub(crate) struct Link {
    boot: Option<BootId>,
    session: Option<SessionId>,
    /// The conversation that the next beginning takes the place of, as the coordinator named it.
    replaces: Option<SessionId>,
    /// The last one used.
    sequence: u64,
    outstanding: BTreeMap<u64, Sent>,
    /// The largest sequence that was answered by a reply.
    answered: u64,
    /// How many claims that reply said are decided.
    claims: u64,
    /// Its challenge.
    challenge: u64,
    known: Claims,
    failures: u32,
    corrections: u32,
    retry_at: Option<Timestamp>,
    last_sent: Timestamp,
    trouble: Option<String>,
}

/// A request without an answer.
#[derive(Debug, Clone)]
struct Sent {
    boot: Option<BootId>,
    session: Option<SessionId>,
    /// Asked for an answer at once, so there is no need to overtake it.
    prompt: bool,
    slots_free: u32,
    reports: BTreeSet<LeaseId>,
}

/// The numbers of a new request.
pub(crate) struct Heading {
    pub(crate) boot: Option<BootId>,
    pub(crate) session: Option<SessionId>,
    pub(crate) replaces: Option<SessionId>,
    pub(crate) sequence: u64,
    pub(crate) settled_sequence: u64,
    pub(crate) wait: Millis,
}

/// What a refusal means for the agent as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoOn,
    Superseded,
    Fatal,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            boot: None,
            session: None,
            replaces: None,
            sequence: 0,
            outstanding: BTreeMap::new(),
            answered: 0,
            claims: 0,
            challenge: 0,
            known: Claims::default(),
            failures: 0,
            corrections: 0,
            retry_at: None,
            last_sent: Timestamp(0),
            trouble: None,
        }
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// How many of the device's claims are decided, with all in requests up to the last one answered.
    pub(crate) fn claims(&self) -> u64 {
        self.claims
    }

    /// What the next request has to sign.
    pub(crate) fn challenge(&self) -> u64 {
        self.challenge
    }

    pub(crate) fn known(&self) -> Claims {
        self.known
    }

    pub(crate) fn know(&mut self, claims: Claims) {
        self.known = claims;
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(crate) fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Forgets a pause that is over.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        self.retry_at = self.retry_at.filter(|at| now < *at);
    }

    /// Whether to send a request now, given the leases with something to report and the work that could be taken;
    /// `ask` is whether the latter is worth a request of its own.
    pub(crate) fn due(
        &self,
        now: Timestamp,
        config: &Config,
        reports: &BTreeSet<LeaseId>,
        slots_free: u32,
        ask: bool,
    ) -> bool {
        if self.retry_at.is_some() || self.outstanding.len() >= OUTSTANDING_MAX {
            return false;
        }
        let mut current = self.current().peekable();
        if current.peek().is_none() {
            let news = !reports.is_empty() || (slots_free > 0 && ask);
            return self.session.is_none() || news || now >= self.last_sent + SILENT;
        }
        // Two beginnings on their way would make the second end the first one's session.
        if self.session.is_none() {
            return false;
        }
        if now >= self.overdue_at(config) {
            return true;
        }
        let (mut prompt, mut told, mut offered) = (false, BTreeSet::new(), 0);
        for sent in current {
            prompt |= sent.prompt;
            told.extend(&sent.reports);
            offered = sent.slots_free;
        }
        !prompt && (!reports.is_subset(&told) || (slots_free > offered && ask))
    }

    /// Notes a new request and gives its numbers. It is prompt if it begins a session or reports something.
    pub(crate) fn send(
        &mut self,
        now: Timestamp,
        config: &Config,
        reports: BTreeSet<LeaseId>,
        slots_free: u32,
    ) -> Heading {
        let prompt = self.session.is_none() || !reports.is_empty();
        self.sequence += 1;
        let first_open = self.outstanding.keys().next().copied().unwrap_or(self.sequence);
        let sent = Sent { boot: self.boot, session: self.session, prompt, slots_free, reports };
        self.outstanding.insert(self.sequence, sent);
        self.last_sent = now;
        self.retry_at = None;
        Heading {
            boot: self.boot,
            session: self.session,
            replaces: self.replaces,
            sequence: self.sequence,
            settled_sequence: first_open - 1,
            wait: if prompt { Millis(0) } else { config.wait },
        }
    }

    /// Notes a reply. False: it is of a request that was given up, and must be ignored.
    pub(crate) fn replied(&mut self, now: Timestamp, entropy: u64, config: &Config, reply: &ExchangeReply) -> bool {
        let Some(sent) = self.outstanding.remove(&reply.sequence) else { return false };
        if sent.session.is_none() && self.session.is_none() && sent.boot == self.boot {
            (self.session, self.replaces) = (Some(reply.session), None);
        }
        // A reply that was overtaken knows less.
        if reply.sequence > self.answered {
            (self.answered, self.claims, self.challenge) = (reply.sequence, reply.claims, reply.challenge);
            self.known.heard(reply.claims);
        }
        let settled = reply.acks.iter().map(|(id, _)| id).chain(&reply.dropped).copied().collect();
        let misnumbered = reply.acks.iter().find_map(|(_, verdict)| match verdict {
            Err(refusal @ Refusal::ClaimSequence { .. }) => Some(refusal),
            _ => None,
        });
        // Saying it again at once to a coordinator that does not listen would go round without end.
        if !sent.reports.is_subset(&settled) {
            self.fail(now, entropy, config, "the coordinator did not acknowledge a report".to_owned());
        } else if let Some(refusal) = misnumbered {
            self.correct(now, entropy, config, refusal);
        } else {
            (self.failures, self.corrections, self.retry_at, self.trouble) = (0, 0, None, None);
        }
        true
    }

    /// Notes a refusal.
    pub(crate) fn refused(
        &mut self,
        now: Timestamp,
        entropy: u64,
        config: &Config,
        sequence: u64,
        refusal: &Refusal,
    ) -> Verdict {
        let Some(sent) = self.outstanding.remove(&sequence) else { return Verdict::GoOn };
        let current = sent.boot == self.boot && sent.session == self.session;
        match refusal {
            Refusal::SequenceStale { last } => {
                // Also when it is of an earlier conversation: a process that counts further than this one has to be
                // caught up with in any case.
                self.sequence = self.sequence.max(*last);
                if current {
                    self.correct(now, entropy, config, refusal);
                }
            }
            // Beginning anew ends the earlier conversation, whose last requests are then refused for just that.
            _ if !current => {}
            Refusal::BootChanged(boot) => {
                (self.boot, self.session, self.replaces) = (Some(*boot), None, None);
                self.correct(now, entropy, config, refusal);
            }
            Refusal::SessionUnknown => {
                (self.session, self.replaces) = (None, None);
                self.correct(now, entropy, config, refusal);
            }
            // An earlier process of this agent, a beginning whose reply was lost, or another agent with this identity:
            // the newest one goes on.
            Refusal::SessionHeld(session) if self.session.is_none() => {
                self.replaces = Some(*session);
                self.correct(now, entropy, config, refusal);
            }
            Refusal::SessionSuperseded => return Verdict::Superseded,
            Refusal::DeviceUnknown(_) | Refusal::DeviceConvicted(_) | Refusal::MeterForeign { .. } => {
                return Verdict::Fatal;
            }
            _ => self.fail(now, entropy, config, refusal.to_string()),
        }
        Verdict::GoOn
    }

    /// Notes that no answer will come.
    pub(crate) fn lost(&mut self, now: Timestamp, entropy: u64, config: &Config, sequence: u64, reason: String) {
        let known = self.outstanding.remove(&sequence).is_some();
        // A request that was overtaken by an answered one says nothing about the line as it is now.
        if known && sequence > self.answered {
            self.fail(now, entropy, config, reason);
        }
    }

    /// When this has to be looked at again, if nothing happens before.
    pub(crate) fn next_time(&self, config: &Config) -> Option<Timestamp> {
        if self.retry_at.is_some() || self.session.is_none() || self.outstanding.len() >= OUTSTANDING_MAX {
            return self.retry_at;
        }
        let silent = self.current().next().is_none();
        Some(if silent { self.last_sent + SILENT } else { self.overdue_at(config) })
    }

    /// The requests whose answers are awaited. Those of an earlier conversation, and those overtaken by an answered one,
    /// are as good as answered: the coordinator waits for another.
    fn current(&self) -> impl Iterator<Item = &Sent> {
        let open = self.outstanding.range(self.answered + 1..).map(|(_, sent)| sent);
        open.filter(|sent| sent.session == self.session)
    }

    fn overdue_at(&self, config: &Config) -> Timestamp {
        self.last_sent + config.wait + OVERDUE
    }

    fn correct(&mut self, now: Timestamp, entropy: u64, config: &Config, refusal: &Refusal) {
        self.corrections += 1;
        if self.corrections > CORRECTIONS_MAX {
            self.fail(now, entropy, config, refusal.to_string());
        }
    }

    fn fail(&mut self, now: Timestamp, entropy: u64, config: &Config, trouble: String) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + backoff(config.backoff, self.failures, entropy));
        self.trouble = Some(trouble);
    }
}

/// The pause after so many failures in a row: doubled each time up to the longest, then drawn from its upper half so
/// that many devices that failed together do not come back together.
pub(crate) fn backoff((first, longest): (Millis, Millis), failures: u32, entropy: u64) -> Millis {
    let doublings = failures.saturating_sub(1).min(32);
    let full = first.0.saturating_mul(1 << doublings).min(longest.0);
    let half = full / 2;
    Millis(half + entropy % (full - half + 1))
}
