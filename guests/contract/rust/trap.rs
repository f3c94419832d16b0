//! Traps in the way that its item names: `unreachable`, `memory`, `stack` or `panic`.

use std::hint::black_box;
use std::io::{self, Read};

fn main() -> io::Result<()> {
    let mut item = String::new();
    io::stdin().lock().read_to_string(&mut item)?;
    print!("written before the trap");
    match item.trim() {
        "unreachable" => unreachable(),
        "memory" => println!("{}", last_byte()),
        "stack" => println!("{}", deep(black_box(1))),
        "panic" => panic!("as asked"),
        other => return Err(io::Error::other(format!("no way to trap is called {other:?}"))),
    }
    Ok(())
}

fn unreachable() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

/// Reads the last byte of the address space, far behind the end of the memory.
#[expect(unsafe_code, reason = "the point is to read out of bounds")]
fn last_byte() -> u8 {
    let address = black_box(usize::MAX);
    // SAFETY: out of bounds on purpose; WebAssembly defines it as a trap.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

/// Recurses until the stack is full.
fn deep(level: u64) -> u64 {
    if level == 0 { 0 } else { black_box(deep(black_box(level + 1))) + 1 }
}
