//! Prints all that could tell one run from another: clocks, randomness, arguments, environment, hash seeds.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

fn main() -> io::Result<()> {
    let mut item = Vec::new();
    io::stdin().lock().read_to_end(&mut item)?;
    let started = Instant::now();
    let epoch_nanos = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos().to_string());
    let hash_seed = HashMap::<(), ()>::new().hasher().hash_one(());
    std::thread::sleep(std::time::Duration::from_millis(1));
    print!(
        "{}",
        json!({
            "epoch_nanos": epoch_nanos.map_err(io::Error::other)?,
            "elapsed_nanos": started.elapsed().as_nanos().to_string(),
            "random": random().map(|byte| format!("{byte:02x}")).concat(),
            "hash_seed": hash_seed.to_string(),
            "args": std::env::args().collect::<Vec<_>>(),
            "environment": std::env::vars().count(),
            "item_bytes": item.len(),
        })
    );
    Ok(())
}

#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the standard library has no way to ask for random bytes")]
fn random() -> [u8; 16] {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn random_get(buffer: *mut u8, length: usize) -> u16;
    }
    let mut bytes = [0; 16];
    // SAFETY: the buffer is as long as it says.
    let errno = unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
    assert_eq!(errno, 0, "random_get failed");
    bytes
}

#[cfg(not(target_arch = "wasm32"))]
fn random() -> [u8; 16] {
    [0; 16]
}
