//! Memory that an agent gives back is overwritten first.
//!
//! The agent wipes the inputs and outputs that it holds itself. The libraries that carry them (TLS, HTTP, protobuf) make
//! copies of their own and let them go as they are; this is for those. Only an agent pays for it: elsewhere it is one
//! look at a flag.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

static ON: AtomicBool = AtomicBool::new(false);

/// From now on, what is given back is overwritten, whenever it was taken.
pub(crate) fn turn_on() {
    ON.store(true, Ordering::Relaxed);
}

/// # Safety
/// The place must have this many bytes, and nobody else may use them now.
#[expect(unsafe_code, reason = "an allocator has places, not slices")]
unsafe fn overwrite(place: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { place.write_bytes(0, size) };
    // Somebody might read it, as far as the compiler knows: or it would leave the writing out.
    black_box(place);
}

struct Wiping;

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: all memory is the system allocator's, with the layouts that came in. Between the caller's giving a place back
// and the system's taking it, the place is nobody else's, so that writing all of its `size` bytes is sound.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if ON.load(Ordering::Relaxed) {
            // SAFETY: see the implementation.
            unsafe { overwrite(place, layout.size()) };
        }
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !ON.load(Ordering::Relaxed) {
            // SAFETY: as above.
            return unsafe { System.realloc(place, layout, size) };
        }
        // The system would leave the former place, or what is cut off, as it was.
        // SAFETY: the caller promises that `size` is not 0 and does not overflow with this alignment.
        let larger = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !larger.is_null() {
            // SAFETY: both places are this long, and the new one is nobody else's.
            unsafe { place.copy_to_nonoverlapping(larger, layout.size().min(size)) };
            // SAFETY: the old one came with this layout and is not used any more.
            unsafe { self.dealloc(place, layout) };
        }
        larger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_and_shrinks_keeps_its_bytes_on_and_off() {
        for _ in 0..2 {
            let mut bytes: Vec<u8> = (0..200).collect();
            bytes.reserve_exact(100_000);
            bytes.extend(0..200);
            bytes.truncate(300);
            bytes.shrink_to_fit();
            assert!(bytes.iter().copied().eq((0..200).chain(0..100)));
            turn_on();
        }
    }

    /// What is in memory that was given back cannot be looked at soundly; `tests/persistence.rs` does from outside.
    #[test]
    fn what_is_given_back_is_overwritten() {
        let mut bytes = [7; 100];
        #[expect(unsafe_code, reason = "it takes what the allocator has")]
        // SAFETY: the place has 60 bytes and is borrowed mutably.
        unsafe {
            overwrite(bytes.as_mut_ptr(), 60);
        }
        assert!(bytes[..60].iter().all(|byte| *byte == 0) && bytes[60..].iter().all(|byte| *byte == 7));
    }
}
