//! What is fetched from model hubs.

use crate::archive::{self, Bounds, Trouble};
use crate::bert::BertConfig;
use crate::memory::at_most;
use crate::safetensors::{Weights, WeightsError};
use crate::source::Source;
use crate::{onnx, tokenizer};
use std::io::Cursor;

/// Tensors that the seeds have: mutations keep the names often enough.
const TENSORS: [&str; 4] = ["a", "h", "b", "q"];

/// A file of weights: opened, and its tensors read.
pub fn safetensors(bytes: &[u8]) {
    at_most((64 << 10) + 1_024 * bytes.len(), || {
        let Ok(mut weights) = Weights::read(Cursor::new(bytes), bytes.len() as u64) else { return };
        for name in TENSORS {
            let mut elements = 0;
            let read = weights.stream(name, u64::MAX, |chunk| {
                assert!(chunk.iter().all(|value| value.is_finite()));
                elements += chunk.len();
                Ok::<_, WeightsError>(())
            });
            assert!(elements <= bytes.len() / 2);
            match read {
                Ok(()) => assert!(weights.has(name)),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    });
}

/// A zip archive: nothing beyond the bounds is read, whatever its files unpack to.
pub fn archive(bytes: &[u8]) {
    let bounds = Bounds { files: 20, bytes: 64 << 10, small: 16 << 10 };
    let (mut files, mut total) = (0, 0);
    // What unpacks a stream has windows and buffers of some ten kilobytes.
    let read = at_most((256 << 10) + 256 * bytes.len(), || {
        archive::read::<Trouble>(Cursor::new(bytes), &bounds, |index, name, content| {
            assert!(index < bounds.files && !name.contains('\\'));
            files += 1;
            let Some(content) = content else { return Ok(0) };
            let mut piece = [0; 4_096];
            let mut len = 0;
            loop {
                match content.read(&mut piece) {
                    Ok(0) => break,
                    Ok(read) => len += read as u64,
                    Err(error) => return Err(Trouble::Damaged(error.into())),
                }
            }
            total += len;
            Ok(len)
        })
    });
    assert!(files <= bounds.files && total <= bounds.bytes + 1);
    if read.is_ok() {
        assert!(total <= bounds.bytes);
    }
}

/// An ONNX file: its interface.
pub fn onnx(bytes: &[u8]) {
    let found = at_most((64 << 10) + 1_024 * bytes.len(), || onnx::read_interface(Cursor::new(bytes)));
    if let Ok(Some(dimensions)) = found {
        assert!(dimensions > 0);
    }
}

/// A tokenizer.json.
pub fn tokenizer(bytes: &[u8]) {
    let heap = (64 << 10) + 1_024 * bytes.len();
    let any = at_most(heap, || tokenizer::check(bytes, None));
    // A vocabulary can only be a further reason to refuse.
    let with = at_most(heap, || tokenizer::check(bytes, Some(30_000)));
    if let Ok(length) = with {
        assert_eq!(any.expect("it passed with a vocabulary"), length);
    }
}

/// A config.json.
pub fn bert_config(bytes: &[u8]) {
    if let Ok(config) = at_most((64 << 10) + 1_024 * bytes.len(), || BertConfig::parse(bytes)) {
        assert!(config.layers > 0 && config.vocab > 0 && config.positions > 0 && config.intermediate > 0);
        assert!(config.heads > 0 && config.hidden % config.heads == 0);
    }
}

/// Where a model comes from, as a person or another program writes it.
pub fn source(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(source) = text.parse::<Source>() {
        assert_eq!(source.to_string().parse(), Ok(source));
    }
}
