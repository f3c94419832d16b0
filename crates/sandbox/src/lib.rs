//! Running untrusted programs: wasmtime in a separate process, limits, metering.
