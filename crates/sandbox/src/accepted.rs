//! The WebAssembly that is accepted: what inspection and the engine must agree on.

use wasmparser::WasmFeatures;

/// The WebAssembly that programs may use: version 2.0 of the specification and extended constant expressions.
/// Absent on purpose: threads (nondeterministic), relaxed SIMD (differs between CPUs), GC and exceptions (not needed,
/// young code), memory64 and several memories, tail calls, components.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::WASM2.union(WasmFeatures::EXTENDED_CONST).difference(
    // `externref`; `funcref` stays, because compilers mark ordinary tables with it.
    WasmFeatures::GC_TYPES,
);

/// Elements of one table; growing beyond fails as WebAssembly says it may.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 1_000_000;
/// What an element counts as against the limit on memory: a pointer, on every device that there is.
pub(crate) const TABLE_ELEMENT_BYTES: u64 = 8;
/// Tables of one program.
pub(crate) const MAX_TABLES: usize = 16;
