//! What the fuzz targets demand of everything that parses untrusted bytes, as plain functions of the bytes.
//!
//! Each ends without a panic, in time and memory that are bounded by the input's length, and says of what it accepted
//! that it can be written and read again. Decoders that are private to crates with heavy dependencies are taken in by
//! their files, so that neither a public door is needed nor the WebAssembly compiler is built for this.

mod memory;
pub mod models;
pub mod pool;
pub mod published;
pub mod sandbox;
pub mod seeds;
pub mod tlog;
pub mod trust;
pub mod wire;

/// Files of other crates, at the place where their own `crate::` and `super::` find each other.
macro_rules! taken {
    ($($name:ident $path:literal)*) => { $(
        #[path = $path]
        #[allow(dead_code, unreachable_pub, reason = "only what parses is used here")]
        mod $name;
    )* };
}

taken! {
    accepted "../../crates/sandbox/src/accepted.rs"
    inspect "../../crates/sandbox/src/inspect.rs"
    jail "../../crates/sandbox/src/jail/report.rs"
    names "../../crates/sandbox/src/wasi/names.rs"
    protocol "../../crates/sandbox/src/protocol.rs"
    guests "../../crates/sandbox/tests/guests/mod.rs"
    lines "../../crates/node/src/pool/lines.rs"
    records "../../crates/node/src/pool/records.rs"
    archive "../../crates/models/src/archive.rs"
    bert "../../crates/models/src/bert.rs"
    onnx "../../crates/models/src/onnx.rs"
    proto "../../crates/models/src/proto.rs"
    safetensors "../../crates/models/src/safetensors.rs"
    source "../../crates/models/src/source.rs"
    tokenizer "../../crates/models/src/tokenizer.rs"
}

mod wasi {
    pub(crate) use crate::names::signature;
}
