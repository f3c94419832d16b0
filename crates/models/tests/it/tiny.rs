//! Small BERT models with random weights, in directories as model hubs lay them out.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// What is to be unusual about a model.
#[derive(Clone, Copy)]
pub(crate) struct Tiny {
    pub(crate) dtype: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) old_norm_names: bool,
}

impl Default for Tiny {
    fn default() -> Self {
        Self { dtype: "F32", prefix: "", old_norm_names: false }
    }
}

const HIDDEN: u64 = 32;
const INNER: u64 = 48;
const LAYERS: u64 = 2;
const VOCAB: u64 = 50;
const POSITIONS: u64 = 24;

pub(crate) fn config() -> Value {
    json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": HIDDEN, "num_attention_heads": 4,
        "num_hidden_layers": LAYERS, "intermediate_size": INNER, "vocab_size": VOCAB, "type_vocab_size": 2,
        "max_position_embeddings": POSITIONS, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    })
}

pub(crate) fn tokenizer(tokens: u64) -> Value {
    let vocab: serde_json::Map<String, Value> = (0..tokens).map(|id| (format!("t{id}"), id.into())).collect();
    json!({"model": {"type": "WordPiece", "unk_token": "t0", "vocab": vocab}, "added_tokens": [{"id": 0, "content": "t0"}]})
}

fn tensors(tiny: Tiny) -> Vec<(String, Vec<u64>)> {
    let mut list: Vec<(String, Vec<u64>)> = vec![];
    let (scale, shift) = if tiny.old_norm_names { ("gamma", "beta") } else { ("weight", "bias") };
    let linear = |list: &mut Vec<(String, Vec<u64>)>, name: String, outputs, inputs| {
        list.push((format!("{name}.weight"), vec![outputs, inputs]));
        list.push((format!("{name}.bias"), vec![outputs]));
    };
    let norm = |list: &mut Vec<(String, Vec<u64>)>, name: String| {
        list.push((format!("{name}.{scale}"), vec![HIDDEN]));
        list.push((format!("{name}.{shift}"), vec![HIDDEN]));
    };
    list.push(("embeddings.word_embeddings.weight".into(), vec![VOCAB, HIDDEN]));
    list.push(("embeddings.position_embeddings.weight".into(), vec![POSITIONS, HIDDEN]));
    list.push(("embeddings.token_type_embeddings.weight".into(), vec![2, HIDDEN]));
    norm(&mut list, "embeddings.LayerNorm".into());
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["query", "key", "value"] {
            linear(&mut list, name(&format!("attention.self.{part}")), HIDDEN, HIDDEN);
        }
        linear(&mut list, name("attention.output.dense"), HIDDEN, HIDDEN);
        norm(&mut list, name("attention.output.LayerNorm"));
        linear(&mut list, name("intermediate.dense"), INNER, HIDDEN);
        linear(&mut list, name("output.dense"), HIDDEN, INNER);
        norm(&mut list, name("output.LayerNorm"));
    }
    list.into_iter().map(|(name, shape)| (format!("{}{name}", tiny.prefix), shape)).collect()
}

/// The model's safetensors file.
pub(crate) fn weights(tiny: Tiny) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for (name, shape) in tensors(tiny) {
        let start = data.len();
        for _ in 0..shape.iter().product() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
            match tiny.dtype {
                "F32" => data.extend(value.to_le_bytes()),
                "BF16" => data.extend(((value.to_bits() >> 16) as u16).to_le_bytes()),
                // Any finite bit pattern below 1.0 will do.
                "F16" => data.extend(((state >> 48) as u16 & 0xbbff).to_le_bytes()),
                other => panic!("no such dtype: {other}"),
            }
        }
        header.insert(name, json!({"dtype": tiny.dtype, "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// Writes a whole model directory.
pub(crate) fn write(directory: &Path, tiny: Tiny) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("config.json"), config().to_string()).unwrap();
    fs::write(directory.join("tokenizer.json"), tokenizer(VOCAB).to_string()).unwrap();
    fs::write(directory.join("model.safetensors"), weights(tiny)).unwrap();
}
