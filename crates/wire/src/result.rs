//! A task's result: what came of each item, in order.

use crate::convert::{choice, required};
use crate::open::{Frame, VERSION};
use crate::{DecodeError, limits, proto};
use caii_model::{Fuel, ItemError, ItemOutcome, TrapKind};
use prost::Message as _;
use zeroize::Zeroize as _;

const FRAME: Frame = Frame {
    message: "TaskResult",
    size_max: limits::TASK_RESULT_MAX,
    lists: &[(2, "TaskResult.items", limits::ITEMS_MAX)],
};

/// The blob that a report's `result` names. No other copy of the outputs is left behind.
pub fn encode_task_result(items: &[ItemOutcome]) -> Vec<u8> {
    let items = items.iter().map(Into::into).collect();
    let mut message = proto::TaskResult { version: VERSION, items };
    let bytes = message.encode_to_vec();
    for item in &mut message.items {
        if let Some(proto::item_outcome::Result::Output(output)) = &mut item.result {
            output.zeroize();
        }
        item.stderr.zeroize();
    }
    bytes
}

/// The outcomes in such a blob, in the order of the items.
pub fn decode_task_result(bytes: &[u8]) -> Result<Vec<ItemOutcome>, DecodeError> {
    let message: proto::TaskResult = FRAME.open(bytes)?;
    message.items.into_iter().map(TryInto::try_into).collect()
}

impl From<&ItemOutcome> for proto::ItemOutcome {
    fn from(outcome: &ItemOutcome) -> Self {
        use proto::item_outcome::Result as Wire;
        let result = match &outcome.result {
            Ok(output) => Wire::Output(output.clone()),
            Err(ItemError::Exit(code)) => Wire::Exit(*code),
            Err(ItemError::Trap(kind)) => {
                let kind = match kind {
                    TrapKind::Other => proto::TrapKind::Other,
                    TrapKind::Unreachable => proto::TrapKind::Unreachable,
                    TrapKind::OutOfBounds => proto::TrapKind::OutOfBounds,
                    TrapKind::StackOverflow => proto::TrapKind::StackOverflow,
                    TrapKind::BadCall => proto::TrapKind::BadCall,
                    TrapKind::Arithmetic => proto::TrapKind::Arithmetic,
                };
                Wire::Trap(kind.into())
            }
            Err(ItemError::FuelExhausted) => Wire::Limit(proto::LimitKind::Fuel.into()),
            Err(ItemError::OutputTooLarge) => Wire::Limit(proto::LimitKind::Output.into()),
        };
        Self { result: Some(result), fuel: outcome.fuel.0, stderr: outcome.stderr.clone() }
    }
}

impl TryFrom<proto::ItemOutcome> for ItemOutcome {
    type Error = DecodeError;

    fn try_from(outcome: proto::ItemOutcome) -> Result<Self, DecodeError> {
        use proto::item_outcome::Result as Wire;
        let result = match required("ItemOutcome.result", outcome.result)? {
            Wire::Output(output) => Ok(output),
            Wire::Exit(code) => Err(ItemError::Exit(code)),
            Wire::Trap(kind) => Err(ItemError::Trap(match choice("ItemOutcome.trap", kind)? {
                proto::TrapKind::Other => TrapKind::Other,
                proto::TrapKind::Unreachable => TrapKind::Unreachable,
                proto::TrapKind::OutOfBounds => TrapKind::OutOfBounds,
                proto::TrapKind::StackOverflow => TrapKind::StackOverflow,
                proto::TrapKind::BadCall => TrapKind::BadCall,
                proto::TrapKind::Arithmetic => TrapKind::Arithmetic,
            })),
            Wire::Limit(kind) => match choice("ItemOutcome.limit", kind)? {
                proto::LimitKind::Unspecified => return Err(DecodeError::Missing { field: "ItemOutcome.limit" }),
                proto::LimitKind::Fuel => Err(ItemError::FuelExhausted),
                proto::LimitKind::Output => Err(ItemError::OutputTooLarge),
            },
        };
        Ok(Self { result, fuel: Fuel(outcome.fuel), stderr: outcome.stderr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_codec, item_outcome};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(items in prop::collection::vec(item_outcome(), 0..20)) {
            check_codec(&items, |items| encode_task_result(items), decode_task_result);
        }
    }
}
