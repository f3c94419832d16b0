//! What a run costs: the operator cost table, the prices of host calls, and the meter ids that name them.
//!
//! `METER.md` beside this crate gives the table with its reasons. Every number here reaches [`meter_id`]: a change of
//! any of them, of the engine's version or of the configuration is a new meter.

use caii_model::{Digest, Fuel, MeterId};
use wasmtime::{OperatorCost, VariableOperatorCost};

/// The engine's version: fuel of one program differs by orders of magnitude between versions.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// What the bits of a NaN that an operation produces are; all other bits of all results are fixed by WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FloatNan {
    /// Always the canonical one: the same on every CPU, at up to twice the time of SIMD float code.
    Canonical,
    /// Whatever the CPU gives: only for programs whose output was vetted not to depend on a NaN's bits.
    Native,
}

impl FloatNan {
    const ALL: [Self; 2] = [Self::Canonical, Self::Native];

    /// The meter of programs that run this way.
    pub fn meter_id(self) -> MeterId {
        let name = match self {
            Self::Canonical => "canonical",
            Self::Native => "native",
        };
        let config = format!(
            "cranelift; fuel; signals-based traps; nan={name}; features={:#x}; stack={}; table elements={} of {} bytes of \
             memory; tables={}",
            crate::engine::FEATURES.bits(),
            crate::engine::MAX_WASM_STACK,
            crate::engine::MAX_TABLE_ELEMENTS,
            crate::engine::TABLE_ELEMENT_BYTES,
            crate::engine::MAX_TABLES,
        );
        let table = format!("{:?}", operator_cost());
        let prices = format!("{HOST_PRICES:?} {FIXED_CHARGE:?}");
        let fields = [WASMTIME_VERSION.as_bytes(), table.as_bytes(), prices.as_bytes(), config.as_bytes()];
        MeterId(Digest::of_fields("caii meter 1", &fields))
    }

    /// How a manifest with this meter is to be run, or nothing if this build has no such meter.
    pub fn of_meter(meter: MeterId) -> Option<Self> {
        Self::ALL.into_iter().find(|nan| nan.meter_id() == meter)
    }
}

/// The meter of any program: deterministic to the last bit ([`FloatNan::Canonical`]).
pub fn meter_id() -> MeterId {
    FloatNan::Canonical.meter_id()
}

/// The meter for float-heavy programs whose operator vouches that no output depends on a NaN's bits
/// ([`FloatNan::Native`]). Refuse it for programs that nobody vetted.
pub fn vetted_meter_id() -> MeterId {
    FloatNan::Native.meter_id()
}

/// All meters that this build can run, [`meter_id`] first.
pub fn supported_meters() -> Vec<MeterId> {
    FloatNan::ALL.map(FloatNan::meter_id).to_vec()
}

/// The part of `ItemError::TRAP_CHARGE` that belongs to the meter: a trapped item costs this, whatever it did.
const FIXED_CHARGE: Fuel = caii_model::ItemError::TRAP_CHARGE;

/// What one host call costs, in fuel: a base and a rate per byte that it moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostPrices {
    /// Every call: entering and leaving the host, finding the descriptor.
    pub(crate) call: u64,
    /// A call that reaches the kernel (reads of a blob).
    pub(crate) kernel_call: u64,
    /// Each entry of a scatter or gather list, directory listing or poll.
    pub(crate) per_entry: u64,
    /// Each byte moved between guest and host.
    pub(crate) per_byte: u64,
    /// Each byte of randomness (a hash, not a copy).
    pub(crate) per_random_byte: u64,
}

impl HostPrices {
    /// A call that moves `bytes` by way of `entries`.
    pub(crate) fn moving(&self, entries: u64, bytes: u64) -> u64 {
        self.call.saturating_add(entries.saturating_mul(self.per_entry)).saturating_add(bytes * self.per_byte)
    }
}

pub(crate) const HOST_PRICES: HostPrices =
    HostPrices { call: 400, kernel_call: 2_000, per_entry: 20, per_byte: 1, per_random_byte: 4 };

macro_rules! costs {
    ($table:ident, $($cost:literal: $($op:ident)*;)*) => { $($($table.$op = $cost;)*)* };
}

/// The cost of each operator. One unit is one simple machine operation; `METER.md` has the reasons.
pub(crate) const fn operator_cost() -> OperatorCost {
    let mut table = OperatorCost::new();
    // What is not named costs 1 (wasmtime's default), save those that make no code: 0.
    costs! { table,
        0: Nop Drop Block Loop Else End Return Unreachable
           LocalGet I32Const I64Const F32Const F64Const V128Const
           I32ReinterpretF32 I64ReinterpretF64 F32ReinterpretI32 F64ReinterpretI64;
        2: GlobalGet GlobalSet MemorySize TableSize RefFunc RefIsNull TypedSelect Select BrTable
           I32Mul I64Mul F32Add F32Sub F32Mul F64Add F64Sub F64Mul
           I32Popcnt I64Popcnt I32Clz I64Clz I32Ctz I64Ctz
           F32Ceil F32Floor F32Trunc F32Nearest F64Ceil F64Floor F64Trunc F64Nearest
           F32ConvertI32S F32ConvertI32U F32ConvertI64S F64ConvertI32S F64ConvertI32U F64ConvertI64S
           F32DemoteF64 F64PromoteF32
           F32x4Add F32x4Sub F32x4Mul F64x2Add F64x2Sub F64x2Mul
           I8x16Shuffle I8x16Swizzle I16x8Mul I32x4Mul I32x4DotI16x8S I16x8Q15MulrSatS V128Bitselect
           I16x8ExtMulLowI8x16S I16x8ExtMulHighI8x16S I16x8ExtMulLowI8x16U I16x8ExtMulHighI8x16U
           I32x4ExtMulLowI16x8S I32x4ExtMulHighI16x8S I32x4ExtMulLowI16x8U I32x4ExtMulHighI16x8U
           I64x2ExtMulLowI32x4S I64x2ExtMulHighI32x4S I64x2ExtMulLowI32x4U I64x2ExtMulHighI32x4U
           I16x8ExtAddPairwiseI8x16S I16x8ExtAddPairwiseI8x16U I32x4ExtAddPairwiseI16x8S I32x4ExtAddPairwiseI16x8U
           F32x4Ceil F32x4Floor F32x4Trunc F32x4Nearest F64x2Ceil F64x2Floor F64x2Trunc F64x2Nearest
           F32x4ConvertI32x4S F64x2ConvertLowI32x4S F32x4DemoteF64x2Zero F64x2PromoteLowF32x4;
        4: Call TableGet TableSet
           F32Min F32Max F64Min F64Max F32Copysign F64Copysign F32ConvertI64U F64ConvertI64U
           I32TruncF32S I32TruncF32U I32TruncF64S I32TruncF64U I64TruncF32S I64TruncF32U I64TruncF64S I64TruncF64U
           I32TruncSatF32S I32TruncSatF32U I32TruncSatF64S I32TruncSatF64U
           I64TruncSatF32S I64TruncSatF32U I64TruncSatF64S I64TruncSatF64U
           I64x2Mul I64x2ShrS I8x16Popcnt I8x16Shl I8x16ShrS I8x16ShrU
           F32x4Min F32x4Max F64x2Min F64x2Max F32x4ConvertI32x4U F64x2ConvertLowI32x4U
           I32x4TruncSatF32x4S I32x4TruncSatF32x4U I32x4TruncSatF64x2SZero I32x4TruncSatF64x2UZero;
        8: CallIndirect
           F32Div F64Div F32Sqrt F64Sqrt F32x4Div F64x2Div F32x4Sqrt F64x2Sqrt;
        10: I32DivS I32DivU I32RemS I32RemU;
        14: I64DivS I64DivU I64RemS I64RemU;
        40: MemoryCopy MemoryFill MemoryInit TableCopy TableFill TableInit TableGrow DataDrop ElemDrop;
        255: MemoryGrow;
    }
    table.variable = VariableOperatorCost {
        memory_copy_per_byte: 1,
        memory_fill_per_byte: 1,
        memory_init_per_byte: 1,
        memory_grow_per_page: 255,
        table_copy_per_element: 2,
        table_fill_per_element: 2,
        table_init_per_element: 4,
        table_grow_per_element: 4,
        ..VariableOperatorCost::new()
    };
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"\n")));
    }

    /// A failure means that the meter changed: that is a new meter id for every manifest. Bring METER.md up to date.
    #[test]
    fn the_document_names_these_meters() {
        let document = include_str!("../METER.md");
        let ids = FloatNan::ALL.map(|nan| nan.meter_id().0.to_string());
        assert!(ids.iter().all(|id| document.contains(id)), "METER.md must name {ids:?}");
        for nan in FloatNan::ALL {
            assert_eq!(FloatNan::of_meter(nan.meter_id()), Some(nan));
        }
        assert_ne!(meter_id(), vetted_meter_id());
    }
}
