"""Runs a converted model under ONNX Runtime and compares it with BERT written out in numpy, in double precision.

usage: reference.py MODEL_DIR MODEL.onnx mean|cls TOLERANCE

MODEL_DIR holds config.json and model.safetensors. Prints the greatest difference of a component; fails over TOLERANCE.
"""

import json
import math
import struct
import sys

import numpy as np
import onnx
import onnxruntime


def read_safetensors(path):
    raw = open(path, "rb").read()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw[begin:end], "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw[begin:end], {"F32": "<f4", "F16": "<f2", "I64": "<i8"}[entry["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def bert(config, tensors, ids, mask, pooling):
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in tensors else ""
    heads = config["num_attention_heads"]
    width = config["hidden_size"] // heads
    erf = np.vectorize(math.erf)

    def get(name):
        return tensors[prefix + name]

    def norm(x, name):
        new = prefix + name + ".weight" in tensors
        scale, shift = (name + suffix for suffix in ((".weight", ".bias") if new else (".gamma", ".beta")))
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        return centred / np.sqrt(variance + config.get("layer_norm_eps", 1e-12)) * get(scale) + get(shift)

    def linear(x, name):
        return x @ get(name + ".weight").T + get(name + ".bias")

    def split(x):
        return x.reshape(*x.shape[:2], heads, width).transpose(0, 2, 1, 3)

    x = get("embeddings.word_embeddings.weight")[ids]
    x = x + get("embeddings.token_type_embeddings.weight")[0]
    x = norm(x + get("embeddings.position_embeddings.weight")[: ids.shape[1]], "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}."
        q, k, v = (split(linear(x, name + "attention.self." + part)) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(width) - 10000.0 * (1 - mask[:, None, None, :])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        context = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(linear(context, name + "attention.output.dense") + x, name + "attention.output.LayerNorm")
        y = linear(x, name + "intermediate.dense")
        y = y * 0.5 * (1 + erf(y / math.sqrt(2)))
        x = norm(linear(y, name + "output.dense") + x, name + "output.LayerNorm")
    kept = mask[:, :, None]
    pooled = x[:, 0] if pooling == "cls" else (x * kept).sum(1) / kept.sum(1)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def main():
    directory, model, pooling, tolerance = sys.argv[1:]
    config = json.load(open(directory + "/config.json"))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(7)
    tensors = read_safetensors(directory + "/model.safetensors")
    worst = 0.0
    for batch, length in ((1, 1), (1, 9), (3, 12)):
        ids = random.integers(0, config["vocab_size"], (batch, length))
        mask = (np.arange(length) < random.integers(1, length + 1, (batch, 1))).astype(np.int64)
        (got,) = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        expected = bert(config, tensors, ids, mask, pooling)
        assert got.dtype == np.float32 and got.shape == (batch, config["hidden_size"]), (got.dtype, got.shape)
        worst = max(worst, float(np.abs(got - expected).max()))
    print(f"greatest difference {worst:.3g}")
    if not worst <= float(tolerance):
        sys.exit(f"the converted model differs from the reference by {worst:.3g}, over {tolerance}")


main()
