//! The engine: an ONNX model run by rten, on one thread and with fixed-width SIMD.

use std::path::Path;

use rten::{Model, ModelOptions, NodeId};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, NdTensorView};

use crate::Engine;

/// A loaded model with the inputs `input_ids` and `attention_mask` (`[batch, tokens]`, integers) and the output
/// `embedding` (`[batch, dimensions]`, pooled and normalised).
pub struct OnnxEngine {
    model: Model,
    ids: NodeId,
    mask: NodeId,
    embedding: NodeId,
}

impl Engine for OnnxEngine {
    fn load(path: &Path) -> Result<Self, String> {
        // From the file and not from a buffer: each tensor is then read once, into the memory where it stays.
        let model = ModelOptions::with_all_ops().load_file(path).map_err(|error| error.to_string())?;
        let node = |name: &str| model.node_id(name).map_err(|error| error.to_string());
        let (ids, mask, embedding) = (node("input_ids")?, node("attention_mask")?, node("embedding")?);
        Ok(Self { model, ids, mask, embedding })
    }

    fn embed(&self, ids: &[u32]) -> Result<Vec<f32>, String> {
        let signed: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
        let mask = NdTensor::full([1, ids.len()], 1i32);
        let inputs = vec![
            (self.ids, NdTensorView::from_data([1, signed.len()], signed.as_slice()).into()),
            (self.mask, mask.view().into()),
        ];
        let [output] = self.model.run_n(inputs, [self.embedding], None).map_err(|error| error.to_string())?;
        let embedding: NdTensor<f32, 2> = output.try_into().map_err(|_| "its output is no matrix of floats")?;
        if embedding.shape()[0] != 1 {
            return Err(format!("its output has the shape {:?}", embedding.shape()));
        }
        Ok(embedding.into_data())
    }
}
