//! BERT-family weights to an ONNX embedding model, f32, opset 17, with pooling and L2 normalisation inside the graph.
//!
//! The graph takes `input_ids` and `attention_mask` (int64, [batch, seq]) and gives `embedding` (f32, [batch,
//! dimensions], unit length). Every operator is one that ONNX Runtime and rten both fuse in this form: the linear
//! layers' weights are transposed beforehand, and GELU is spelt `x (erf(x / √2) + 1) / 2`, in this order.

use crate::onnx::{self, Attribute, Data, Dim, ElementType, Graph};
use crate::safetensors::{Weights, WeightsError};
use caii_model::Digest;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// How token vectors become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over the tokens that the attention mask keeps.
    Mean,
    /// The first token's vector.
    Cls,
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
        })
    }
}

/// A model could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// config.json is no JSON, or lacks what a BERT needs.
    #[error("config.json cannot be used")]
    Config(#[source] serde_json::Error),
    /// A number in config.json is out of range.
    #[error("config.json says {name} = {value}; expected {expected}")]
    Range {
        /// The field.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// The architecture is not one that can be converted.
    #[error(
        "the model's architecture is {found}; only BERT encoders can be converted (MiniLM, bge and e5 in their English \
         versions): give an ONNX export with pooling inside the graph instead"
    )]
    Architecture {
        /// What config.json names.
        found: String,
    },
    /// The model is a BERT with a part that is not implemented.
    #[error("the model uses {name} = {value}, which is not supported; {expected}")]
    Unsupported {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is.
        expected: &'static str,
    },
    /// The weights cannot be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The result would not fit an ONNX file.
    #[error("the converted model would have {0} bytes; an ONNX file with its weights inside ends at 2 GiB")]
    TooLarge(u64),
    /// The result could not be written.
    #[error("writing the converted model")]
    Write(#[from] io::Error),
}

#[derive(Deserialize)]
struct RawConfig {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    hidden_size: u64,
    num_attention_heads: u64,
    num_hidden_layers: u64,
    intermediate_size: u64,
    vocab_size: u64,
    max_position_embeddings: u64,
    #[serde(default = "default_type_vocab_size")]
    type_vocab_size: u64,
    #[serde(default = "default_layer_norm_eps")]
    layer_norm_eps: f32,
    #[serde(default = "default_hidden_act")]
    hidden_act: String,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn default_type_vocab_size() -> u64 {
    2
}

fn default_layer_norm_eps() -> f32 {
    1e-12
}

fn default_hidden_act() -> String {
    "gelu".to_owned()
}

/// Just enough to name an architecture whose other fields differ.
#[derive(Deserialize)]
struct Family {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
}

const ARCHITECTURES: [&str; 3] = ["BertModel", "BertForMaskedLM", "BertForPreTraining"];

/// The shape of a BERT encoder, from its config.json.
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// Length of a token's vector: the embedding's dimensions.
    pub hidden: u32,
    /// Attention heads in a layer.
    pub heads: u32,
    /// Layers.
    pub layers: u32,
    /// Width of the feed-forward part.
    pub intermediate: u32,
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// Positions: the most tokens of one input, special tokens included.
    pub positions: u32,
    types: u32,
    epsilon: f32,
}

impl BertConfig {
    /// Reads config.json, refusing what is no BERT encoder and what is out of range.
    ///
    /// # Errors
    /// [`ConvertError::Config`], [`ConvertError::Architecture`], [`ConvertError::Unsupported`] and
    /// [`ConvertError::Range`].
    pub fn parse(json: &[u8]) -> Result<Self, ConvertError> {
        let family: Family = serde_json::from_slice(json).map_err(ConvertError::Config)?;
        refuse_architecture(family)?;
        let raw: RawConfig = serde_json::from_slice(json).map_err(ConvertError::Config)?;
        refuse_architecture(Family { architectures: raw.architectures, model_type: raw.model_type })?;
        let unsupported =
            |name, value: &str, expected| ConvertError::Unsupported { name, value: value.into(), expected };
        if raw.hidden_act != "gelu" {
            return Err(unsupported("hidden_act", &raw.hidden_act, "only the exact gelu is"));
        }
        match raw.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => return Err(unsupported("position_embedding_type", other, "only absolute is")),
        }
        if raw.is_decoder {
            return Err(unsupported("is_decoder", "true", "embeddings need an encoder"));
        }
        if !(raw.layer_norm_eps > 0.0 && raw.layer_norm_eps < 0.1) {
            return Err(ConvertError::Range {
                name: "layer_norm_eps",
                value: raw.layer_norm_eps.to_string(),
                expected: "a small positive number".into(),
            });
        }
        let config = Self {
            hidden: ranged("hidden_size", raw.hidden_size, 8192)?,
            heads: ranged("num_attention_heads", raw.num_attention_heads, 256)?,
            layers: ranged("num_hidden_layers", raw.num_hidden_layers, 128)?,
            intermediate: ranged("intermediate_size", raw.intermediate_size, 65_536)?,
            vocab: ranged("vocab_size", raw.vocab_size, 4_000_000)?,
            positions: ranged("max_position_embeddings", raw.max_position_embeddings, 131_072)?,
            types: ranged("type_vocab_size", raw.type_vocab_size, 256)?,
            epsilon: raw.layer_norm_eps,
        };
        if !config.hidden.is_multiple_of(config.heads) {
            return Err(ConvertError::Range {
                name: "num_attention_heads",
                value: config.heads.to_string(),
                expected: format!("a divisor of hidden_size = {}", config.hidden),
            });
        }
        Ok(config)
    }
}

fn refuse_architecture(family: Family) -> Result<(), ConvertError> {
    let architectures = family.architectures.unwrap_or_default();
    let known = architectures.iter().all(|name| ARCHITECTURES.contains(&name.as_str()));
    let fits = match family.model_type.as_deref() {
        Some(model_type) => model_type == "bert" && known,
        None => !architectures.is_empty() && known,
    };
    if fits {
        return Ok(());
    }
    let found = match (family.model_type, architectures.as_slice()) {
        (None, []) => "not named in config.json".to_owned(),
        (Some(model_type), []) => model_type,
        (None, names) => names.join(", "),
        (Some(model_type), names) => format!("{} (model_type {model_type})", names.join(", ")),
    };
    Err(ConvertError::Architecture { found })
}

fn ranged(name: &'static str, value: u64, max: u32) -> Result<u32, ConvertError> {
    u32::try_from(value).ok().filter(|value| (1..=max).contains(value)).ok_or_else(|| ConvertError::Range {
        name,
        value: value.to_string(),
        expected: format!("1 to {max}"),
    })
}

/// Which weight a constant of the graph stands for.
struct Source {
    tensor: String,
    layout: Layout,
}

enum Layout {
    /// The first so many elements in the file's order.
    Plain(u64),
    /// A matrix of so many rows and columns, written column by column.
    Transposed(usize, usize),
}

/// Converts the weights of a BERT encoder (safetensors: f32, f16 or bf16) into an ONNX file and returns its digest and
/// size in bytes. The same input gives the same bytes. It needs memory for one matrix of a layer at a time; embedding
/// tables are streamed.
///
/// # Errors
/// [`ConvertError::Weights`] when a tensor is missing, of another shape, damaged or quantised;
/// [`ConvertError::TooLarge`] over 2 GiB; [`ConvertError::Write`] when `output` cannot be written, which then holds
/// part of a file.
pub fn convert_bert(
    config: &BertConfig,
    weights: &Path,
    pooling: Pooling,
    output: &Path,
) -> Result<(Digest, u64), ConvertError> {
    let mut weights = Weights::open(weights)?;
    let graph = Builder::new(config, &weights).build(pooling)?;
    let size = graph.file_size();
    if size > onnx::FILE_MAX {
        return Err(ConvertError::TooLarge(size));
    }
    let mut out = HashingWriter { out: BufWriter::new(File::create(output)?), hasher: Sha256::new(), written: 0 };
    graph.write(&mut out, |source, out| write_weight(&mut weights, source, out))?;
    out.flush()?;
    assert_eq!(out.written, size, "every tensor's shape was checked before its length was declared");
    Ok((Digest(out.hasher.finalize().into()), size))
}

fn write_weight(weights: &mut Weights, source: &Source, out: &mut dyn Write) -> Result<(), ConvertError> {
    let mut bytes = Vec::new();
    match source.layout {
        Layout::Plain(elements) => weights.stream(&source.tensor, elements, |chunk| {
            bytes.clear();
            chunk.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            Ok(out.write_all(&bytes)?)
        }),
        Layout::Transposed(rows, columns) => {
            let mut all = Vec::with_capacity(rows * columns);
            weights.stream(&source.tensor, u64::MAX, |chunk| {
                all.extend_from_slice(chunk);
                Ok::<_, ConvertError>(())
            })?;
            for column in 0..columns {
                bytes.clear();
                (0..rows).for_each(|row| bytes.extend_from_slice(&all[row * columns + column].to_le_bytes()));
                out.write_all(&bytes)?;
            }
            Ok(())
        }
    }
}

/// Hashes and counts what passes through it.
struct HashingWriter<W> {
    out: W,
    hasher: Sha256,
    written: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Lays the encoder's graph out, checking each weight's shape on the way.
struct Builder<'a> {
    config: &'a BertConfig,
    weights: &'a Weights,
    /// Models saved with a head on top have their encoder under `bert.`.
    prefix: &'static str,
    graph: Graph<Source>,
}

impl<'a> Builder<'a> {
    fn new(config: &'a BertConfig, weights: &'a Weights) -> Self {
        let prefix = if weights.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        Self { config, weights, prefix, graph: Graph::new("bert") }
    }

    fn build(mut self, pooling: Pooling) -> Result<Graph<Source>, ConvertError> {
        let hidden = u64::from(self.config.hidden);
        let both = [Dim::Named("batch"), Dim::Named("seq")];
        self.graph.input("input_ids", ElementType::I64, &both);
        self.graph.input("attention_mask", ElementType::I64, &both);
        self.graph.output("embedding", ElementType::F32, &[Dim::Named("batch"), Dim::Fixed(hidden)]);

        let mask = self.op("Cast", &["attention_mask"], &[("to", Attribute::Int(ElementType::F32 as i64))]);
        let bias = self.attention_bias(&mask);
        let mut x = self.embeddings()?;
        for layer in 0..self.config.layers {
            x = self.layer(layer, &x, &bias)?;
        }
        self.pool(pooling, &x, &mask);
        Ok(self.graph)
    }

    /// 0 where a token counts, -10,000 where it does not: what BERT's own code adds before the softmax.
    fn attention_bias(&mut self, mask: &str) -> String {
        let axes = self.indices("axes_1_2", &[1, 2]);
        let one = self.scalar("one", 1.0);
        let far = self.scalar("masked_score", -10_000.0);
        let wide = self.op("Unsqueeze", &[mask, &axes], &[]);
        let absent = self.op("Sub", &[&one, &wide], &[]);
        self.op("Mul", &[&absent, &far], &[])
    }

    fn embeddings(&mut self) -> Result<String, ConvertError> {
        let hidden = u64::from(self.config.hidden);
        let table = |kind: &str| format!("embeddings.{kind}_embeddings.weight");
        let words = self.weight(&table("word"), &[u64::from(self.config.vocab), hidden])?;
        let positions = self.weight(&table("position"), &[u64::from(self.config.positions), hidden])?;
        let types = self.tensor(&table("token_type"), &[u64::from(self.config.types), hidden])?;
        let first_type = Source { tensor: types.clone(), layout: Layout::Plain(hidden) };
        let first_type = self.graph.constant(&types, &[hidden], Data::Weight(first_type));

        let word = self.op("Gather", &[&words, "input_ids"], &[]);
        let (zero, one, two) = (self.indices("i0", &[0]), self.indices("i1", &[1]), self.indices("i2", &[2]));
        let shape = self.op("Shape", &["input_ids"], &[]);
        let length = self.op("Slice", &[&shape, &one, &two], &[]);
        let position = self.op("Slice", &[&positions, &zero, &length, &zero], &[]);
        let typed = self.op("Add", &[&word, &first_type], &[]);
        let sum = self.op("Add", &[&typed, &position], &[]);
        self.layer_norm(&sum, "embeddings.LayerNorm")
    }

    fn layer(&mut self, layer: u32, x: &str, bias: &str) -> Result<String, ConvertError> {
        let config = self.config;
        let (hidden, inner) = (u64::from(config.hidden), u64::from(config.intermediate));
        let head = config.hidden / config.heads;
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let split = self.indices("split_heads", &[0, 0, i64::from(config.heads), i64::from(head)]);
        let merge = self.indices("merge_heads", &[0, 0, i64::from(config.hidden)]);
        let scale = self.scalar("attention_scale", (1.0 / f64::from(head).sqrt()) as f32);
        let transpose = |order: [i64; 4]| [("perm", Attribute::Ints(order.to_vec()))];

        let mut heads = |part: &str, order| {
            let linear = self.linear(x, &name(&format!("attention.self.{part}")), hidden, hidden)?;
            let split = self.op("Reshape", &[&linear, &split], &[]);
            Ok::<_, ConvertError>(self.op("Transpose", &[&split], &transpose(order)))
        };
        let query = heads("query", [0, 2, 1, 3])?;
        let key = heads("key", [0, 2, 3, 1])?;
        let value = heads("value", [0, 2, 1, 3])?;
        let products = self.op("MatMul", &[&query, &key], &[]);
        let scaled = self.op("Mul", &[&products, &scale], &[]);
        let scores = self.op("Add", &[&scaled, bias], &[]);
        let attention = self.op("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let context = self.op("MatMul", &[&attention, &value], &[]);
        let context = self.op("Transpose", &[&context], &transpose([0, 2, 1, 3]));
        let context = self.op("Reshape", &[&context, &merge], &[]);
        let attended = self.linear(&context, &name("attention.output.dense"), hidden, hidden)?;
        let residual = self.op("Add", &[&attended, x], &[]);
        let x = self.layer_norm(&residual, &name("attention.output.LayerNorm"))?;

        let wide = self.linear(&x, &name("intermediate.dense"), hidden, inner)?;
        let wide = self.gelu(&wide);
        let narrow = self.linear(&wide, &name("output.dense"), inner, hidden)?;
        let residual = self.op("Add", &[&narrow, &x], &[]);
        self.layer_norm(&residual, &name("output.LayerNorm"))
    }

    /// The order and the constants are those that the engines' optimisers look for.
    fn gelu(&mut self, x: &str) -> String {
        let root = self.scalar("sqrt_2", std::f32::consts::SQRT_2);
        let (one, half) = (self.scalar("one", 1.0), self.scalar("half", 0.5));
        let scaled = self.op("Div", &[x, &root], &[]);
        let erf = self.op("Erf", &[&scaled], &[]);
        let sum = self.op("Add", &[&erf, &one], &[]);
        let product = self.op("Mul", &[x, &sum], &[]);
        self.op("Mul", &[&product, &half], &[])
    }

    fn pool(&mut self, pooling: Pooling, x: &str, mask: &str) {
        let axis_1 = self.indices("i1", &[1]);
        let reduce = |keep| [("keepdims", Attribute::Int(keep))];
        let pooled = match pooling {
            Pooling::Cls => {
                let first = self.graph.constant("first", &[], Data::I64(vec![0]));
                self.op("Gather", &[x, &first], &[("axis", Attribute::Int(1))])
            }
            Pooling::Mean => {
                let axis_2 = self.indices("i2", &[2]);
                let wide = self.op("Unsqueeze", &[mask, &axis_2], &[]);
                let kept = self.op("Mul", &[x, &wide], &[]);
                let sum = self.op("ReduceSum", &[&kept, &axis_1], &reduce(0));
                let count = self.op("ReduceSum", &[mask, &axis_1], &reduce(1));
                self.op("Div", &[&sum, &count], &[])
            }
        };
        let squares = self.op("Mul", &[&pooled, &pooled], &[]);
        let sum = self.op("ReduceSum", &[&squares, &axis_1], &reduce(1));
        let length = self.op("Sqrt", &[&sum], &[]);
        self.graph.node("Div", &[&pooled, &length], &[], Some("embedding"));
    }

    fn linear(&mut self, x: &str, name: &str, inputs: u64, outputs: u64) -> Result<String, ConvertError> {
        let tensor = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let layout = Layout::Transposed(outputs as usize, inputs as usize);
        let weight =
            self.graph.constant(&tensor, &[inputs, outputs], Data::Weight(Source { tensor: tensor.clone(), layout }));
        let bias = self.weight(&format!("{name}.bias"), &[outputs])?;
        let product = self.op("MatMul", &[x, &weight], &[]);
        Ok(self.op("Add", &[&product, &bias], &[]))
    }

    fn layer_norm(&mut self, x: &str, name: &str) -> Result<String, ConvertError> {
        let hidden = [u64::from(self.config.hidden)];
        // Weights converted from BERT's original TensorFlow release keep its names.
        let old = self.weights.has(&format!("{}{name}.gamma", self.prefix));
        let (scale, shift) = if old { ("gamma", "beta") } else { ("weight", "bias") };
        let scale = self.weight(&format!("{name}.{scale}"), &hidden)?;
        let shift = self.weight(&format!("{name}.{shift}"), &hidden)?;
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(self.config.epsilon))];
        Ok(self.op("LayerNormalization", &[x, &scale, &shift], &attributes))
    }

    /// A weight as it is in the file, under its own name.
    fn weight(&mut self, name: &str, shape: &[u64]) -> Result<String, ConvertError> {
        let tensor = self.tensor(name, shape)?;
        let layout = Layout::Plain(shape.iter().product());
        Ok(self.graph.constant(&tensor, shape, Data::Weight(Source { tensor: tensor.clone(), layout })))
    }

    /// A tensor's full name, its shape and type checked.
    fn tensor(&self, name: &str, shape: &[u64]) -> Result<String, ConvertError> {
        let name = format!("{}{name}", self.prefix);
        self.weights.expect(&name, shape)?;
        Ok(name)
    }

    fn scalar(&mut self, name: &str, value: f32) -> String {
        self.graph.constant_once(name, &[], Data::F32(vec![value]))
    }

    fn indices(&mut self, name: &str, values: &[i64]) -> String {
        self.graph.constant_once(name, &[values.len() as u64], Data::I64(values.to_vec()))
    }

    fn op(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.graph.node(op, inputs, attributes, None)
    }
}
