//! Fetching and converting models into workloads.
#![forbid(unsafe_code)]

mod bert;
mod onnx;
mod proto;
mod safetensors;

pub use bert::{BertConfig, ConvertError, Pooling, convert_bert};
pub use onnx::OnnxError;
pub use safetensors::WeightsError;
