//! Running untrusted programs: wasmtime in a separate process, limits, metering.
//!
//! - [`inspect`] says at submission whether a program can run here, without compiling it.
//! - [`meter_id`] names how runs are measured; `METER.md` beside this crate is its document.
//! - [`Runner`] is the agent's side of a runner process; [`runner_main`] is that process.
//! - [`Program`] runs a program in this process: for benchmarks and tests of guests, never for a stranger's program.
//!
//! What must never be here: a path or a network address in the runner (it gets descriptors), a clock or the machine's
//! randomness in what a program sees, compiled code that this device did not compile.

mod accepted;
mod cache;
mod child;
mod engine;
mod failure;
mod frames;
mod inspect;
mod jail;
mod meter;
mod program;
mod protocol;
mod runner;
mod wasi;
mod watch;
mod wipe;

pub use cache::DeviceSecret;
pub use child::runner_main;
#[doc(hidden)]
pub use child::{Attempt, Harness, harness_main};
pub use failure::{RunError, StartError};
pub use inspect::{INITIALISER, Inspection, MAX_PROGRAM, ProgramError, inspect};
pub use jail::{JailLayer, JailLayers, JailPolicy, JailReport, LayerState};
pub use meter::{FloatNan, WASMTIME_VERSION, meter_id, supported_meters, vetted_meter_id};
pub use program::{PrepareError, Program, RunFailure};
pub use runner::{Priority, Runner, RunnerControl, RunnerSpec, StartReport, TaskRun};
