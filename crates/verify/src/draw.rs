//! The draw: which items are audited. It cannot be known before the device has committed to its results, because the
//! secret is not; and the pool cannot choose it, because the secret's digest was published before.

use caii_model::{DeviceId, Digest, JobId, TaskId};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// What makes draws of one period unpredictable until it is revealed. Kept secret until then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl Secret {
    /// What is published before the secret is used: SHA-256 of `caii audit secret 1` and the secret.
    pub fn commitment(&self) -> Digest {
        Digest(Sha256::new().chain_update(b"caii audit secret 1").chain_update(self.0).finalize().into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(of {})", self.commitment().short())
    }
}

/// The items of a task that are audited: `count` of `items`, or all when there are not more; ascending.
///
/// Each set of that size is as likely as any other. The stream of numbers is SHA-256 over a seed and a counter, the seed
/// SHA-256 over `caii audit draw 1`, the secret, the job (u64), the task's index (u32) and the device's root, integers in
/// little endian.
pub fn draw_items(secret: &Secret, task: TaskId, root: &Digest, items: u32, count: u32) -> Vec<u32> {
    let seed = seed_of_task(b"caii audit draw 1", secret, task, root);
    subset(Stream::new(seed), u64::from(items), u64::from(count)).into_iter().map(|item| item as u32).collect()
}

fn seed_of_task(label: &[u8], secret: &Secret, task: TaskId, root: &Digest) -> [u8; 32] {
    Sha256::new()
        .chain_update(label)
        .chain_update(secret.0)
        .chain_update(task.job.0.to_le_bytes())
        .chain_update(task.index.0.to_le_bytes())
        .chain_update(root.0)
        .finalize()
        .into()
}

/// A fair number below 100, by which fractions of audits are rounded: as [`draw_items`], with the seed over
/// `caii audit chance 1`, the secret, the job, the task's index and the root.
pub fn draw_chance(secret: &Secret, task: TaskId, root: &Digest) -> u32 {
    let seed = seed_of_task(b"caii audit chance 1", secret, task, root);
    Stream::new(seed).below(100) as u32
}

/// The places, among `left` items that have not been drawn, of `count` more that a device has to have audited before a
/// job can end; ascending. As [`draw_items`], with the seed over `caii audit more 1`, the secret, the job (u64), the
/// device and how many of its audits had been drawn before (u64).
pub fn draw_more(secret: &Secret, job: JobId, device: DeviceId, drawn: u64, left: u64, count: u64) -> Vec<u64> {
    let seed = Sha256::new()
        .chain_update(b"caii audit more 1")
        .chain_update(secret.0)
        .chain_update(job.0.to_le_bytes())
        .chain_update(device.0)
        .chain_update(drawn.to_le_bytes())
        .finalize();
    subset(Stream::new(seed.into()), left, count).into_iter().collect()
}

/// A uniformly drawn subset (R. W. Floyd's algorithm, CACM 30(9), 1987).
fn subset(mut stream: Stream, of: u64, count: u64) -> BTreeSet<u64> {
    let mut chosen = BTreeSet::new();
    for last in of.saturating_sub(count)..of {
        let place = stream.below(last + 1);
        if !chosen.insert(place) {
            chosen.insert(last);
        }
    }
    chosen
}

struct Stream {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Stream {
    fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0, block: [0; 32], used: 32 }
    }

    fn bits(&mut self) -> u64 {
        if self.used == 32 {
            let hash = Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes());
            (self.block, self.used) = (hash.finalize().into(), 0);
            self.counter += 1;
        }
        let bytes: &[u8; 8] = self.block[self.used..].first_chunk().expect("a block holds a whole number of them");
        self.used += 8;
        u64::from_le_bytes(*bytes)
    }

    /// A number below `limit`, each equally likely: what would favour small ones is drawn again.
    fn below(&mut self, limit: u64) -> u64 {
        let excess = u64::MAX % limit;
        let fair = if excess == limit - 1 { u64::MAX } else { u64::MAX - excess - 1 };
        loop {
            let bits = self.bits();
            if bits <= fair {
                return bits % limit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caii_model::TaskIndex;
    use proptest::prelude::*;

    const SECRET: Secret = Secret([7; 32]);
    const TASK: TaskId = TaskId { job: JobId(3), index: TaskIndex(5) };

    #[test]
    fn a_draw_is_this_one() {
        // Recomputed by `tests/oracle/draw.py`; draws outlive releases.
        let drawn = draw_items(&SECRET, TASK, &Digest([9; 32]), 1_000, 10);
        assert_eq!(drawn, [11, 120, 140, 408, 423, 499, 535, 610, 730, 850]);
        assert_eq!(draw_more(&SECRET, JobId(3), DeviceId([1; 8]), 409, 500, 4), [50, 96, 259, 341]);
        assert_eq!(SECRET.commitment().short(), "99173534e9f7");
    }

    #[test]
    fn everything_that_may_decide_does() {
        let root = Digest([9; 32]);
        let drawn = draw_items(&SECRET, TASK, &root, 1_000, 20);
        let others = [
            draw_items(&Secret([8; 32]), TASK, &root, 1_000, 20),
            draw_items(&SECRET, TaskId { job: JobId(4), ..TASK }, &root, 1_000, 20),
            draw_items(&SECRET, TaskId { index: TaskIndex(6), ..TASK }, &root, 1_000, 20),
            draw_items(&SECRET, TASK, &Digest([10; 32]), 1_000, 20),
        ];
        others.into_iter().for_each(|other| assert_ne!(other, drawn));
        let more = draw_more(&SECRET, JobId(1), DeviceId([1; 8]), 5, 1_000, 20);
        assert_ne!(draw_more(&SECRET, JobId(2), DeviceId([1; 8]), 5, 1_000, 20), more);
        assert_ne!(draw_more(&SECRET, JobId(1), DeviceId([2; 8]), 5, 1_000, 20), more);
        assert_ne!(draw_more(&SECRET, JobId(1), DeviceId([1; 8]), 6, 1_000, 20), more);
    }

    /// Each item is drawn as often as chance has it: 20,000 draws of 5 out of 50, so 2,000 each, standard deviation 42.
    #[test]
    fn no_item_is_favoured() {
        let mut counts = [0_u32; 50];
        for number in 0..20_000_u32 {
            let task = TaskId { index: TaskIndex(number), ..TASK };
            for item in draw_items(&SECRET, task, &Digest([1; 32]), 50, 5) {
                counts[item as usize] += 1;
            }
        }
        assert!(counts.iter().all(|count| (1_780..=2_220).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn so_many_different_items_are_drawn(items in 0..5_000_u32, count in 0..600_u32, root: [u8; 32]) {
            let drawn = draw_items(&SECRET, TASK, &Digest(root), items, count);
            prop_assert_eq!(drawn.len() as u32, count.min(items));
            prop_assert!(drawn.is_sorted_by(|a, b| a < b) && drawn.iter().all(|item| *item < items));
        }
    }
}
