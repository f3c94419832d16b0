//! Presence: how long devices were there to work, shown by signing a challenge in each request, and what a day of it earns.
//!
//! A span counts when the request at its end signs the challenge of a reply that was not there before its beginning. Who is
//! silent for longer than would lose it is there for that long at most. What is not noted when the coordinator's process
//! dies is lost, at most [`NOTED_EVERY`].

use crate::Change;
use crate::draft::Draft;
use caii_ledger::{Refusal as LedgerRefusal, events};
use caii_model::*;
use std::collections::VecDeque;

/// Presence is made durable so often.
const NOTED_EVERY: Millis = Millis(600_000);
/// Replies whose challenges still count: a request can pass a reply on its way.
const CHALLENGES_MAX: usize = 4;
const DAY: u64 = 86_400_000;

/// A device's presence that is not noted yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attendance {
    challenges: VecDeque<u64>,
    attended: Millis,
}

/// Days since 1970.
fn day(at: Timestamp) -> u32 {
    u32::try_from(at.0 / DAY).unwrap_or(u32::MAX)
}

impl Draft<'_> {
    /// A device that has slots speaks: counts the time since it was heard last.
    pub(crate) fn attend(&mut self, device: DeviceId, challenge: u64, slots: u32) {
        let (now, most) = (self.now(), self.config().device_silence_max);
        let Some(present) = self.presence().present.get_mut(&device) else { return };
        if slots > 0 && present.attendance.challenges.contains(&challenge) {
            let span = now.since(present.heard).min(most);
            present.attendance.attended = Millis(present.attendance.attended.0 + span.0);
        }
    }

    /// The challenge of the next reply to a device.
    pub(crate) fn challenge(&mut self, device: DeviceId) -> u64 {
        let random = self.random();
        // 0 means none.
        let challenge = u64::from_le_bytes(*random.first_chunk().expect("32 bytes")).max(1);
        if let Some(present) = self.presence().present.get_mut(&device) {
            present.attendance.challenges.push_back(challenge);
            if present.attendance.challenges.len() > CHALLENGES_MAX {
                present.attendance.challenges.pop_front();
            }
        }
        challenge
    }

    /// Makes presence durable, and pays days that are over.
    pub(crate) fn settle_attendance(&mut self) {
        if !self.is_open() {
            return;
        }
        let today = day(self.now());
        let catalog = &self.coordinator().catalog;
        let noted = |device: &DeviceId| catalog.attendance.get(device).copied().unwrap_or((today, Millis(0)));
        let present = self.coordinator().presence.present.iter();
        let due = present.filter_map(|(device, present)| {
            let (attended, (day, total)) = (present.attendance.attended, noted(device));
            let due = attended >= NOTED_EVERY || (attended.0 > 0 && day != today);
            due.then_some((*device, day, Millis(total.0 + attended.0)))
        });
        for (device, day, total) in due.collect::<Vec<_>>() {
            if let Some(present) = self.presence().present.get_mut(&device) {
                present.attendance.attended = Millis(0);
            }
            self.record(Change::Attended(device, day, total));
        }
        let over = self.catalog().attendance.iter().filter(|(_, (day, _))| *day < today);
        for (device, (day, total)) in over.map(|(device, noted)| (*device, *noted)).collect::<Vec<_>>() {
            self.pay_day(device, day, total);
            self.record(Change::Attended(device, day, Millis(0)));
        }
    }

    fn pay_day(&mut self, device: DeviceId, day: u32, total: Millis) {
        let (at, catalog) = (self.now(), self.catalog());
        let (Some(tariff), Some(known)) = (catalog.books.tariff_at(at), catalog.devices.get(&device)) else { return };
        if catalog.convicted.contains_key(&device) {
            return;
        }
        let owner = known.owner.clone();
        let earned = availability(tariff, total).expect("a tariff's rates are such that a day can be counted");
        match self.post(events::availability_paid(device, day, &owner, earned.amount, at)) {
            // A clock that was set back shows a day twice; it is paid once.
            Ok(()) | Err(LedgerRefusal::IdTaken { .. }) => {}
            Err(refusal) => panic!("the books contradict themselves: {refusal}"),
        }
    }
}
