//! Text embeddings inside the sandbox: OpenAI's request in, OpenAI's response out.
//!
//! [`Embedder::load`] runs once per device, in the initialiser; its memory is the snapshot that every item starts from.
//! [`Embedder::respond`] then answers one request body. Each text is embedded alone (batch of one, no padding), so that
//! the bits of an embedding never depend on the texts it was sent with.

mod embedder;
#[cfg(target_arch = "wasm32")]
mod onnx;
mod request;
mod response;
mod tokenizer;

pub use embedder::{Embedder, Engine, LoadError};
#[cfg(target_arch = "wasm32")]
pub use onnx::OnnxEngine;
pub use request::{Encoding, Input, MAX_INPUTS, Request, RequestError};
pub use tokenizer::{Tokenizer, TokenizerError};
