//! ONNX files: writing one node by node with its weights streamed in, and reading the interface of an existing one.

use crate::proto::{self, ProtoError, Span, Value, Walker};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

/// The standard's fields that are used here, as onnx.proto numbers them.
mod field {
    pub(super) const MODEL_IR_VERSION: u32 = 1;
    pub(super) const MODEL_PRODUCER: u32 = 2;
    pub(super) const MODEL_GRAPH: u32 = 7;
    pub(super) const MODEL_OPSET: u32 = 8;
    pub(super) const OPSET_VERSION: u32 = 2;
    pub(super) const GRAPH_NODE: u32 = 1;
    pub(super) const GRAPH_NAME: u32 = 2;
    pub(super) const GRAPH_INITIALIZER: u32 = 5;
    pub(super) const GRAPH_INPUT: u32 = 11;
    pub(super) const GRAPH_OUTPUT: u32 = 12;
    pub(super) const NODE_INPUT: u32 = 1;
    pub(super) const NODE_OUTPUT: u32 = 2;
    pub(super) const NODE_NAME: u32 = 3;
    pub(super) const NODE_OP: u32 = 4;
    pub(super) const NODE_ATTRIBUTE: u32 = 5;
    pub(super) const ATTRIBUTE_NAME: u32 = 1;
    pub(super) const ATTRIBUTE_F: u32 = 2;
    pub(super) const ATTRIBUTE_I: u32 = 3;
    pub(super) const ATTRIBUTE_INTS: u32 = 8;
    pub(super) const ATTRIBUTE_TYPE: u32 = 20;
    pub(super) const TENSOR_DIMS: u32 = 1;
    pub(super) const TENSOR_TYPE: u32 = 2;
    pub(super) const TENSOR_NAME: u32 = 8;
    pub(super) const TENSOR_RAW: u32 = 9;
    pub(super) const TENSOR_LOCATION: u32 = 14;
    pub(super) const VALUE_NAME: u32 = 1;
    pub(super) const VALUE_TYPE: u32 = 2;
    pub(super) const TYPE_TENSOR: u32 = 1;
    pub(super) const TENSOR_TYPE_ELEMENT: u32 = 1;
    pub(super) const TENSOR_TYPE_SHAPE: u32 = 2;
    pub(super) const SHAPE_DIM: u32 = 1;
    pub(super) const DIM_VALUE: u32 = 1;
    pub(super) const DIM_PARAM: u32 = 2;
}

/// The IR version that came with opset 17.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// Protobuf messages end here, and so do ONNX files with their weights inside.
pub(crate) const FILE_MAX: u64 = i32::MAX as u64;

/// ONNX's numbers for element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementType {
    F32 = 1,
    I64 = 7,
}

/// An attribute of a node.
#[derive(Debug, Clone)]
pub(crate) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
}

/// Where a constant's elements come from.
#[derive(Debug, Clone)]
pub(crate) enum Data<W> {
    F32(Vec<f32>),
    I64(Vec<i64>),
    /// Written by the caller of [`Graph::write`], as many f32 as the dimensions say.
    Weight(W),
}

struct Constant<W> {
    name: String,
    /// All of the tensor's message but its elements.
    header: Vec<u8>,
    bytes: u64,
    data: Data<W>,
}

/// A graph under construction; `W` tells the caller which weight a constant stands for.
pub(crate) struct Graph<W> {
    name: String,
    nodes: Vec<Vec<u8>>,
    constants: Vec<Constant<W>>,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

/// A dimension of an input or output.
pub(crate) enum Dim<'a> {
    Named(&'a str),
    Fixed(u64),
}

impl<W> Graph<W> {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: Vec::new(),
            constants: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Declares an input.
    pub(crate) fn input(&mut self, name: &str, element: ElementType, dims: &[Dim<'_>]) {
        self.inputs.push(value_info(name, element, dims));
    }

    /// Declares that the value of this name is an output.
    pub(crate) fn output(&mut self, name: &str, element: ElementType, dims: &[Dim<'_>]) {
        self.outputs.push(value_info(name, element, dims));
    }

    /// Adds a constant and returns its name.
    pub(crate) fn constant(&mut self, name: &str, dims: &[u64], data: Data<W>) -> String {
        let (element, size) = match data {
            Data::F32(_) | Data::Weight(_) => (ElementType::F32, 4),
            Data::I64(_) => (ElementType::I64, 8),
        };
        let mut header = Vec::new();
        for &dim in dims {
            proto::put_int(&mut header, field::TENSOR_DIMS, dim as i64);
        }
        proto::put_int(&mut header, field::TENSOR_TYPE, element as i64);
        proto::put_bytes(&mut header, field::TENSOR_NAME, name.as_bytes());
        let bytes = dims.iter().product::<u64>() * size;
        proto::put_header(&mut header, field::TENSOR_RAW, bytes);
        self.constants.push(Constant { name: name.to_owned(), header, bytes, data });
        name.to_owned()
    }

    /// The same, unless there is already a constant of this name.
    pub(crate) fn constant_once(&mut self, name: &str, dims: &[u64], data: Data<W>) -> String {
        if self.constants.iter().any(|constant| constant.name == name) {
            return name.to_owned();
        }
        self.constant(name, dims, data)
    }

    /// Adds a node with one output and returns the output's name: `output`, or one made of the operator and the
    /// node's place.
    pub(crate) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        output: Option<&str>,
    ) -> String {
        let output = output.map_or_else(|| format!("{op}_{}", self.nodes.len()), str::to_owned);
        let mut node = Vec::new();
        for input in inputs {
            proto::put_bytes(&mut node, field::NODE_INPUT, input.as_bytes());
        }
        proto::put_bytes(&mut node, field::NODE_OUTPUT, output.as_bytes());
        proto::put_bytes(&mut node, field::NODE_NAME, output.as_bytes());
        proto::put_bytes(&mut node, field::NODE_OP, op.as_bytes());
        for (name, value) in attributes {
            let mut attribute = Vec::new();
            proto::put_bytes(&mut attribute, field::ATTRIBUTE_NAME, name.as_bytes());
            let kind = match value {
                Attribute::Float(value) => {
                    proto::put_float(&mut attribute, field::ATTRIBUTE_F, *value);
                    1
                }
                Attribute::Int(value) => {
                    proto::put_int(&mut attribute, field::ATTRIBUTE_I, *value);
                    2
                }
                Attribute::Ints(values) => {
                    for &value in values {
                        proto::put_int(&mut attribute, field::ATTRIBUTE_INTS, value);
                    }
                    7
                }
            };
            proto::put_int(&mut attribute, field::ATTRIBUTE_TYPE, kind);
            proto::put_bytes(&mut node, field::NODE_ATTRIBUTE, &attribute);
        }
        self.nodes.push(node);
        output
    }

    /// The size of the file that [`Graph::write`] makes.
    pub(crate) fn file_size(&self) -> u64 {
        let (prefix, constants) = self.prefix();
        prefix.len() as u64 + constants
    }

    /// Writes the model. `weight` writes a constant's elements, little endian, and is called in the order in which
    /// the constants were added.
    pub(crate) fn write<E: From<io::Error>>(
        &self,
        out: &mut dyn Write,
        mut weight: impl FnMut(&W, &mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let (prefix, _) = self.prefix();
        out.write_all(&prefix)?;
        for constant in &self.constants {
            let mut head = Vec::new();
            proto::put_header(&mut head, field::GRAPH_INITIALIZER, constant.header.len() as u64 + constant.bytes);
            head.extend_from_slice(&constant.header);
            out.write_all(&head)?;
            match &constant.data {
                Data::F32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
                Data::I64(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
                Data::Weight(which) => weight(which, out)?,
            }
        }
        Ok(())
    }

    /// Everything before the constants, and the length of the constants, which come last so that all else is in one
    /// piece.
    fn prefix(&self) -> (Vec<u8>, u64) {
        let mut model = Vec::new();
        proto::put_int(&mut model, field::MODEL_IR_VERSION, IR_VERSION);
        proto::put_bytes(&mut model, field::MODEL_PRODUCER, b"caii");
        let mut opset = Vec::new();
        proto::put_int(&mut opset, field::OPSET_VERSION, OPSET);
        proto::put_bytes(&mut model, field::MODEL_OPSET, &opset);

        let mut graph = Vec::new();
        for node in &self.nodes {
            proto::put_bytes(&mut graph, field::GRAPH_NODE, node);
        }
        proto::put_bytes(&mut graph, field::GRAPH_NAME, self.name.as_bytes());
        for input in &self.inputs {
            proto::put_bytes(&mut graph, field::GRAPH_INPUT, input);
        }
        for output in &self.outputs {
            proto::put_bytes(&mut graph, field::GRAPH_OUTPUT, output);
        }
        let constants: u64 = self
            .constants
            .iter()
            .map(|constant| {
                let mut head = Vec::new();
                let len = constant.header.len() as u64 + constant.bytes;
                proto::put_header(&mut head, field::GRAPH_INITIALIZER, len);
                head.len() as u64 + len
            })
            .sum();
        let graph_len = graph.len() as u64 + constants;
        proto::put_header(&mut model, field::MODEL_GRAPH, graph_len);
        model.extend_from_slice(&graph);
        (model, constants)
    }
}

fn value_info(name: &str, element: ElementType, dims: &[Dim<'_>]) -> Vec<u8> {
    let mut shape = Vec::new();
    for dim in dims {
        let mut encoded = Vec::new();
        match dim {
            Dim::Named(name) => proto::put_bytes(&mut encoded, field::DIM_PARAM, name.as_bytes()),
            Dim::Fixed(value) => proto::put_int(&mut encoded, field::DIM_VALUE, *value as i64),
        }
        proto::put_bytes(&mut shape, field::SHAPE_DIM, &encoded);
    }
    let mut tensor = Vec::new();
    proto::put_int(&mut tensor, field::TENSOR_TYPE_ELEMENT, element as i64);
    proto::put_bytes(&mut tensor, field::TENSOR_TYPE_SHAPE, &shape);
    let mut kind = Vec::new();
    proto::put_bytes(&mut kind, field::TYPE_TENSOR, &tensor);
    let mut value = Vec::new();
    proto::put_bytes(&mut value, field::VALUE_NAME, name.as_bytes());
    proto::put_bytes(&mut value, field::VALUE_TYPE, &kind);
    value
}

/// An ONNX file cannot be used as an embedding model.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file could not be opened or read.
    #[error("reading the ONNX model")]
    Io(#[from] io::Error),
    /// It is no ONNX file, or a damaged one.
    #[error("the file is no ONNX model: {0}")]
    Malformed(String),
    /// Its inputs or outputs are not those that the inference guest feeds and reads.
    #[error(
        "the ONNX model has inputs {inputs:?} and outputs {outputs:?}; an embedding model must take int64 \
         `input_ids` and `attention_mask`, both [batch, seq], and give f32 `embedding` [batch, dimensions], pooled \
         and normalised. Give the safetensors weights instead, or export with pooling inside the graph"
    )]
    Interface {
        /// Its inputs, with element types.
        inputs: Vec<String>,
        /// Its outputs, with element types.
        outputs: Vec<String>,
    },
    /// Its weights lie in other files.
    #[error("the ONNX model keeps weight `{0}` in another file; save it as a single file")]
    External(String),
    /// The number of dimensions of its output is not written in it.
    #[error(
        "the ONNX model does not say how many dimensions `embedding` has; put hidden_size in config.json beside it"
    )]
    Dimensions,
}

impl From<ProtoError> for OnnxError {
    fn from(error: ProtoError) -> Self {
        match error {
            ProtoError::Io(error) => OnnxError::Io(error),
            malformed @ ProtoError::Malformed(..) => OnnxError::Malformed(malformed.to_string()),
        }
    }
}

const NAME_MAX: u64 = 4096;
const NODES_MAX: usize = 1_000_000;
const VALUES_MAX: usize = 64;

#[derive(Debug, Default)]
struct ValueInfo {
    name: String,
    element: u64,
    dims: Vec<Option<u64>>,
}

impl ValueInfo {
    fn describe(&self) -> String {
        let element = match self.element {
            1 => "f32",
            6 => "int32",
            7 => "int64",
            10 => "f16",
            _ => "other",
        };
        format!("{} ({element})", self.name)
    }
}

/// Checks that an ONNX file has the inference guest's interface and returns the number of dimensions of its output,
/// `None` if the file leaves that open.
pub(crate) fn check_interface(path: &Path) -> Result<Option<u32>, OnnxError> {
    read_interface(BufReader::new(File::open(path)?))
}

/// The same of anything that can be read.
pub(crate) fn read_interface(input: impl Read + Seek) -> Result<Option<u32>, OnnxError> {
    let mut walker = Walker::new(input)?;
    let mut model = walker.all();
    let mut graph = None;
    let mut ir_version = None;
    while let Some(entry) = walker.next(&mut model)? {
        match (entry.number, entry.value) {
            (field::MODEL_IR_VERSION, Value::Int(version)) => ir_version = Some(version),
            (field::MODEL_GRAPH, Value::Bytes(span)) => graph = Some(span),
            _ => {}
        }
    }
    let (Some(mut graph), Some(_)) = (graph, ir_version) else {
        return Err(OnnxError::Malformed("it has no graph".to_owned()));
    };
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    let mut constants = Vec::new();
    let mut fields = 0;
    while let Some(entry) = walker.next(&mut graph)? {
        fields += 1;
        if fields > NODES_MAX || inputs.len() + outputs.len() > VALUES_MAX + constants.len() {
            return Err(OnnxError::Malformed("its graph is too large".to_owned()));
        }
        let Value::Bytes(span) = entry.value else { continue };
        match entry.number {
            field::GRAPH_INITIALIZER => constants.push(read_initializer(&mut walker, span)?),
            field::GRAPH_INPUT => inputs.push(read_value_info(&mut walker, span)?),
            field::GRAPH_OUTPUT => outputs.push(read_value_info(&mut walker, span)?),
            _ => {}
        }
    }
    // Before IR version 4 weights were listed among the inputs, too.
    constants.sort_unstable();
    inputs.retain(|input: &ValueInfo| constants.binary_search(&input.name).is_err());

    let int64 = |input: &&ValueInfo, name| input.name == name && input.element == ElementType::I64 as u64;
    let fits = inputs.len() == 2
        && inputs.iter().any(|input| int64(&input, "input_ids"))
        && inputs.iter().any(|input| int64(&input, "attention_mask"));
    let embedding = outputs.iter().find(|output| {
        output.name == "embedding"
            && output.element == ElementType::F32 as u64
            && (output.dims.is_empty() || output.dims.len() == 2)
    });
    match embedding {
        Some(embedding) if fits => {
            let last = embedding.dims.last().copied().flatten();
            Ok(last.and_then(|dims| u32::try_from(dims).ok()).filter(|&dims| dims > 0))
        }
        _ => Err(OnnxError::Interface {
            inputs: inputs.iter().map(ValueInfo::describe).collect(),
            outputs: outputs.iter().map(ValueInfo::describe).collect(),
        }),
    }
}

/// The name of a constant, refused unless its elements are in the file.
fn read_initializer(walker: &mut Walker<impl Read + Seek>, mut span: Span) -> Result<String, OnnxError> {
    let mut name = String::new();
    let mut external = false;
    while let Some(entry) = walker.next(&mut span)? {
        match (entry.number, entry.value) {
            (field::TENSOR_NAME, Value::Bytes(text)) => name = walker.text(text, NAME_MAX)?,
            (field::TENSOR_LOCATION, Value::Int(location)) => external = location == 1,
            _ => {}
        }
    }
    if external { Err(OnnxError::External(name)) } else { Ok(name) }
}

fn read_value_info(walker: &mut Walker<impl Read + Seek>, mut span: Span) -> Result<ValueInfo, OnnxError> {
    let mut value = ValueInfo::default();
    while let Some(entry) = walker.next(&mut span)? {
        match (entry.number, entry.value) {
            (field::VALUE_NAME, Value::Bytes(text)) => value.name = walker.text(text, NAME_MAX)?,
            (field::VALUE_TYPE, Value::Bytes(mut kind)) => {
                while let Some(entry) = walker.next(&mut kind)? {
                    if let (field::TYPE_TENSOR, Value::Bytes(tensor)) = (entry.number, entry.value) {
                        read_tensor_type(walker, tensor, &mut value)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(value)
}

fn read_tensor_type(
    walker: &mut Walker<impl Read + Seek>,
    mut span: Span,
    value: &mut ValueInfo,
) -> Result<(), OnnxError> {
    while let Some(entry) = walker.next(&mut span)? {
        match (entry.number, entry.value) {
            (field::TENSOR_TYPE_ELEMENT, Value::Int(element)) => value.element = element,
            (field::TENSOR_TYPE_SHAPE, Value::Bytes(mut shape)) => {
                while let Some(entry) = walker.next(&mut shape)? {
                    let (field::SHAPE_DIM, Value::Bytes(mut dim)) = (entry.number, entry.value) else { continue };
                    let mut size = None;
                    while let Some(entry) = walker.next(&mut dim)? {
                        if let (field::DIM_VALUE, Value::Int(fixed)) = (entry.number, entry.value) {
                            size = Some(fixed);
                        }
                    }
                    if value.dims.len() == VALUES_MAX {
                        return Err(OnnxError::Malformed(format!("`{}` has too many dimensions", value.name)));
                    }
                    value.dims.push(size);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A small model with the right interface.
    pub(crate) fn sample(output: &str) -> Vec<u8> {
        let mut graph = Graph::<()>::new("sample");
        let both = [Dim::Named("batch"), Dim::Named("seq")];
        graph.input("input_ids", ElementType::I64, &both);
        graph.input("attention_mask", ElementType::I64, &both);
        graph.output(output, ElementType::F32, &[Dim::Named("batch"), Dim::Fixed(3)]);
        let table = graph.constant("table", &[2, 3], Data::F32(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        let rows = graph.node("Gather", &[&table, "input_ids"], &[("axis", Attribute::Int(0))], None);
        let axes = graph.constant("axes", &[1], Data::I64(vec![1]));
        graph.node("ReduceSum", &[&rows, &axes], &[("keepdims", Attribute::Int(0))], Some(output));
        let mut bytes = Vec::new();
        graph.write(&mut bytes, |(), _| Ok::<_, io::Error>(())).unwrap();
        assert_eq!(bytes.len() as u64, graph.file_size());
        bytes
    }

    fn check(bytes: &[u8]) -> Result<Option<u32>, OnnxError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check_interface(file.path())
    }

    #[test]
    fn the_right_interface_passes_and_others_are_told_what_is_expected() {
        assert_eq!(check(&sample("embedding")).unwrap(), Some(3));
        let error = check(&sample("last_hidden_state")).unwrap_err().to_string();
        assert!(error.contains("last_hidden_state (f32)") && error.contains("`attention_mask`"), "{error}");
    }

    #[test]
    fn truncated_and_foreign_files_are_refused() {
        let good = sample("embedding");
        for cut in 0..good.len() {
            assert!(check(&good[..cut]).is_err(), "cut at {cut}");
        }
        for foreign in [&b"PK\x03\x04 zip"[..], b"{\"json\": 1}", b"version https://git-lfs"] {
            assert!(matches!(check(foreign), Err(OnnxError::Malformed(_))), "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn mutated_models_never_panic(at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut bytes = sample("embedding");
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _outcome = check(&bytes);
        }
    }
}
