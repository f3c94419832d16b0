//! The program around [`caii_guest_inference`]: loads the model in the initialiser, answers one request per run.

use std::process::ExitCode;

#[cfg(target_arch = "wasm32")]
mod guest {
    use std::path::Path;
    use std::process::ExitCode;
    use std::sync::OnceLock;

    use caii_guest_inference::{Embedder, LoadError, OnnxEngine};

    /// Longest request body in bytes; 2,048 inputs of 8 KiB each.
    const MAX_REQUEST_BYTES: usize = 16 << 20;

    /// Set by the initialiser and part of the snapshot, so that an item finds it ready.
    static EMBEDDER: OnceLock<Result<Embedder<OnnxEngine>, LoadError>> = OnceLock::new();

    fn embedder() -> &'static Result<Embedder<OnnxEngine>, LoadError> {
        EMBEDDER.get_or_init(|| Embedder::load(Path::new("/data")))
    }

    pub(crate) fn main() -> ExitCode {
        caii_guest::run(MAX_REQUEST_BYTES, |item, _args| {
            let embedder = embedder().as_ref().map_err(ToString::to_string)?;
            embedder.respond(item).map_err(|error| error.to_string())
        })
    }

    /// The initialiser of the guest contract: everything under `/data` into memory, before the snapshot is taken.
    #[expect(unsafe_code, reason = "an export under a fixed name, and a call of the linker's constructor function")]
    #[unsafe(export_name = "wizer.initialize")]
    extern "C" fn initialize() {
        unsafe extern "C" {
            fn __wasm_call_ctors();
        }
        // SAFETY: made by the linker, takes nothing, and is meant to be called before anything else; `_start` has not
        // run yet. It makes `/data` known to libc. `_start` calls it once more in each instance, which only makes libc
        // register the same directory again.
        unsafe { __wasm_call_ctors() };
        if let Err(error) = embedder() {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn main() -> ExitCode {
    guest::main()
}

#[cfg(not(target_arch = "wasm32"))]
fn main() -> ExitCode {
    eprintln!("this program runs as WebAssembly only; scripts/build-guests.sh inference builds it");
    ExitCode::FAILURE
}
