//! Has an initialiser. It reads `/data/greeting` if there is one, fills a table and counts itself; each run prints what
//! the initialiser left, the item, and its own count, which is 1 in a fresh instance every time.

use std::fs;
use std::io::{self, Read};
use std::sync::Mutex;

use serde_json::json;

/// What the snapshot holds.
struct State {
    initialised: u32,
    runs: u32,
    greeting: Option<String>,
    table: Vec<u64>,
}

static STATE: Mutex<State> = Mutex::new(State { initialised: 0, runs: 0, greeting: None, table: Vec::new() });

fn main() -> io::Result<()> {
    let mut item = String::new();
    io::stdin().lock().read_to_string(&mut item)?;
    let mut state = STATE.lock().map_err(|_| io::Error::other("the state is poisoned"))?;
    state.runs += 1;
    // Memory taken and written in a run must not be there in the next.
    let table_sum: u64 = state.table.iter().sum();
    state.table.push(1);
    print!(
        "{}",
        json!({
            "initialised": state.initialised,
            "run": state.runs,
            "greeting": state.greeting,
            "table_sum": table_sum,
            "greeting_now": fs::read_to_string("/data/greeting").ok(),
            "item": item,
        })
    );
    Ok(())
}

#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "an export under a fixed name, and a call of the linker's constructor function")]
#[unsafe(export_name = "wizer.initialize")]
extern "C" fn initialise() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    // SAFETY: made by the linker, called once before anything else; it makes `/data` known to libc.
    unsafe { __wasm_call_ctors() };
    let mut state = STATE.lock().expect("nothing has run that could have poisoned it");
    state.initialised += 1;
    state.greeting = fs::read_to_string("/data/greeting").ok();
    state.table = (0..100_000).collect();
}
