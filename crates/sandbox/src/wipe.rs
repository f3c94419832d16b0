//! Memory that held somebody's input or output is wiped before it is given back, so that nothing of a task stays on a
//! device in what the allocator hands out next.

use caii_model::ItemOutcome;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes that are wiped when they are dropped. Make room by [`reserve`] before they grow: a vector that grows by itself
/// leaves its former place as it was.
pub(crate) type Wiped = Zeroizing<Vec<u8>>;

/// Makes room for more bytes and wipes the former place.
pub(crate) fn reserve(bytes: &mut Wiped, additional: usize) {
    let wanted = bytes.len() + additional;
    if wanted > bytes.capacity() {
        let mut larger = Wiped::new(Vec::with_capacity(wanted.max(2 * bytes.capacity())));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
}

/// As many zeros behind the bytes as it takes to have this length.
pub(crate) fn lengthen(bytes: &mut Wiped, length: usize) {
    reserve(bytes, length.saturating_sub(bytes.len()));
    bytes.resize(length, 0);
}

/// What an item left, wiped.
pub(crate) fn wipe_outcome(outcome: &mut ItemOutcome) {
    if let Ok(output) = &mut outcome.result {
        output.zeroize();
    }
    outcome.stderr.zeroize();
}

/// Outcomes that are wiped unless somebody takes them.
#[derive(Default)]
pub(crate) struct Outcomes(Vec<ItemOutcome>);

impl Outcomes {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub(crate) fn push(&mut self, outcome: ItemOutcome) {
        self.0.push(outcome);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(mut self) -> Vec<ItemOutcome> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(wipe_outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn making_room_keeps_the_bytes_and_doubles() {
        let mut bytes = Wiped::new(Vec::with_capacity(4));
        for byte in 0..200_u8 {
            reserve(&mut bytes, 1);
            bytes.push(byte);
        }
        assert!(bytes.iter().copied().eq(0..200));
        assert!((200..=400).contains(&bytes.capacity()));
        lengthen(&mut bytes, 1_000);
        assert_eq!((bytes.len(), bytes[199], bytes[999]), (1_000, 199, 0));
    }
}
