//! The engine that untrusted programs run in: one configuration, the same on every device.

pub(crate) use crate::accepted::{FEATURES, MAX_TABLE_ELEMENTS, MAX_TABLES, TABLE_ELEMENT_BYTES};
use crate::meter::{FloatNan, operator_cost};
use wasmparser::WasmFeatures;
use wasmtime::{Config, Engine, OptLevel, Strategy};

/// Bytes of native stack that a program may use. Frame sizes depend on the CPU, so this is large, and programs that
/// recurse so deep are the one case in which whether an item traps can differ between devices (METER.md).
pub(crate) const MAX_WASM_STACK: usize = 1 << 20;
/// The stack of the thread that runs programs: theirs and room for host calls.
pub(crate) const THREAD_STACK: usize = 8 << 20;

/// Compiling everything with these CPU features off must change neither bytes nor fuel; tests do it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Cpu {
    /// All that this machine has.
    #[default]
    Host,
    /// As if it had none beyond what the engine requires for SIMD.
    #[cfg(test)]
    Masked,
}

/// The engine for one kind of meter.
pub(crate) fn engine(nan: FloatNan, cpu: Cpu) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.strategy(Strategy::Cranelift);
    config.cranelift_opt_level(OptLevel::Speed);
    config.wasm_features(WasmFeatures::all(), false);
    config.wasm_features(FEATURES, true);
    config.cranelift_nan_canonicalization(nan == FloatNan::Canonical);
    config.consume_fuel(true);
    config.operator_cost(operator_cost());
    config.max_wasm_stack(MAX_WASM_STACK);
    config.signals_based_traps(true);
    // A copy-on-write image of any size, however many zeros it holds: without it, instantiating copies megabytes.
    config.memory_init_cow(true);
    config.memory_guaranteed_dense_image_size(u64::MAX);
    // Backtraces cost time in every trap and say nothing that a requester could use.
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    match cpu {
        Cpu::Host => {}
        #[cfg(test)]
        Cpu::Masked => {
            #[cfg(target_arch = "x86_64")]
            for feature in ["avx", "avx2", "fma", "bmi1", "bmi2", "lzcnt", "popcnt", "avx512f", "avx512vl"] {
                #[expect(unsafe_code, reason = "only switches features off, so the code runs on any x86-64")]
                // SAFETY: the flags make the compiler use fewer instructions than this CPU has.
                unsafe {
                    config.cranelift_flag_set(&format!("has_{feature}"), "false");
                }
            }
        }
    }
    Engine::new(&config)
}
