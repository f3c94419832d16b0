//! What comes from programs and from the processes that run them.

use crate::inspect::{MAX_PROGRAM, inspect};
use crate::memory::at_most;
use crate::protocol::{complete, decode, encode};

/// The runner's pipes: a stream of frames, and one frame whose length is right, so that its fields are reached.
pub fn protocol(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(length) = frame(rest) {
        rest = &rest[length..];
    }
    let mut whole = u32::try_from(bytes.len()).expect("inputs are small").to_le_bytes().to_vec();
    whole.extend_from_slice(bytes);
    if let Some(length) = frame(&whole) {
        assert_eq!(length, whole.len());
    }
}

/// The length of the frame in front, if there is one: it is encoded as it was found, and no shorter part of it passes.
fn frame(bytes: &[u8]) -> Option<usize> {
    let heap = (64 << 10) + 64 * bytes.len();
    let (frame, length) = at_most(heap, || decode(bytes)).ok()??;
    assert_eq!(complete(bytes), Ok(Some(length)));
    assert!(length <= bytes.len());
    let mut encoded = Vec::new();
    encode(&frame, &mut encoded);
    assert_eq!(encoded, bytes[..length]);
    assert_eq!(decode(&bytes[..length - 1]), Ok(None));
    Some(length)
}

/// Programs, before they are compiled.
pub fn program(wasm: &[u8]) {
    // The validator reserves room for the entries that a section announces, a million at most, before it looks whether
    // they are there.
    let Ok(found) = at_most((128 << 20) + 1_024 * wasm.len(), || inspect(wasm)) else { return };
    assert_eq!(found.size.0, wasm.len() as u64);
    assert!(found.size <= MAX_PROGRAM);
    assert!(found.memory_initial.0 <= 1 << 32);
    assert!(found.tables_initial.0 <= 16 * 1_000_000 * 8);
    assert!(found.memory_maximum.is_none_or(|most| found.memory_initial <= most && most.0 <= 1 << 32));
}
