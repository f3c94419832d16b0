//! One step in the making. Handlers read the state through it and can change the durable part only by recording a
//! [`Change`], so that replaying the changes always gives the live state.

use crate::state::Presence;
use crate::{Catalog, Change, Config, Coordinator, Effect, Reply, RequestId, Step};
use caii_model::{Digest, Millis, Refusal, Timestamp};

/// A step in the making.
pub(crate) struct Draft<'a> {
    coordinator: &'a mut Coordinator,
    entropy: [u8; 32],
    entropy_used: u64,
    /// The question that is being answered.
    pub(crate) request: RequestId,
    step: Step,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(coordinator: &'a mut Coordinator, entropy: [u8; 32], request: RequestId) -> Self {
        Self { coordinator, entropy, entropy_used: 0, request, step: Step::default() }
    }

    pub(crate) fn finish(self) -> Step {
        self.step
    }

    /// The durable part, to read.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.coordinator.catalog
    }

    /// What devices told this process, to read and change: it is not durable.
    pub(crate) fn presence(&mut self) -> &mut Presence {
        &mut self.coordinator.presence
    }

    /// The coordinator, to read.
    pub(crate) fn coordinator(&self) -> &Coordinator {
        self.coordinator
    }

    pub(crate) fn config(&self) -> &Config {
        &self.coordinator.config
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.coordinator.now
    }

    /// Notes the version of the governance metadata. False: it is known already.
    pub(crate) fn set_governance(&mut self, version: u64) -> bool {
        std::mem::replace(&mut self.coordinator.governance, version) != version
    }

    /// Notes a tick at this time and gives the time since the last one.
    pub(crate) fn ticked(&mut self, now: Timestamp) -> Millis {
        now.since(std::mem::replace(&mut self.coordinator.ticked, now))
    }

    /// Changes the durable part.
    pub(crate) fn record(&mut self, change: Change) {
        self.coordinator.catalog.apply(&change);
        self.step.changes.push(change);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.step.effects.push(effect);
    }

    /// Answers the question that is being handled.
    pub(crate) fn reply(&mut self, answer: Result<Reply, Refusal>) {
        self.effect(Effect::Reply(self.request, answer));
    }

    /// Random bytes, different at each call.
    pub(crate) fn random(&mut self) -> [u8; 32] {
        self.entropy_used += 1;
        Digest::of_fields("caii entropy", &[&self.entropy, &self.entropy_used.to_le_bytes()]).0
    }
}
