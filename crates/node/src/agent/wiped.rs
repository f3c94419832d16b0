//! Inputs and outputs in the agent's memory: wiped when the last holder lets go, so that nothing of a task stays in what
//! the allocator hands out next.
//!
//! Make room before bytes grow: a vector that grows by itself leaves its former place as it was.

use bytes::Bytes;
use caii_wire::Attachments;
use std::hint::black_box;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes that are wiped when they are dropped.
pub(crate) type Wiped = Zeroizing<Vec<u8>>;

/// To share without copying; wiped with the last clone.
pub(crate) fn shared(bytes: Wiped) -> Bytes {
    Bytes::from_owner(bytes)
}

/// Adds bytes, and wipes the former place if they need a larger one.
pub(crate) fn extend(bytes: &mut Wiped, more: &[u8]) {
    let wanted = bytes.len() + more.len();
    if wanted > bytes.capacity() {
        let mut larger = Wiped::new(Vec::with_capacity(wanted.max(2 * bytes.capacity())));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(more);
}

/// Calls, and overwrites what that left on the stack: hashers have their last block there, and leave it.
pub(crate) fn scrubbing<T>(call: impl FnOnce() -> T) -> T {
    // In a frame of its own, below which everything is overwritten.
    #[inline(never)]
    fn apart<T>(call: impl FnOnce() -> T) -> T {
        call()
    }
    #[inline(never)]
    fn overwrite() {
        black_box(&mut [0_u8; 16 << 10]);
    }
    let result = apart(call);
    overwrite();
    result
}

/// The blobs of one exchange, wiped when they are dropped.
#[derive(Default)]
pub(crate) struct Carried(pub(crate) Attachments);

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.values_mut().for_each(|blob| blob.zeroize());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_comes_after_what_was_there() {
        let mut bytes = Wiped::default();
        for byte in 0..200_u8 {
            extend(&mut bytes, &[byte, byte]);
        }
        assert_eq!(bytes.len(), 400);
        assert!(bytes.chunks(2).zip(0..200).all(|(pair, byte)| pair == [byte, byte]));
        assert!(bytes.capacity() <= 800);
        let shared = shared(bytes);
        assert_eq!((shared.len(), shared.slice(398..)), (400, Bytes::from_static(&[199, 199])));
    }
}
