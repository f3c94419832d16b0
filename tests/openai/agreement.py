"""A batch's embeddings against ONNX Runtime: `agreement.py REQUESTS.jsonl RESULTS.jsonl`."""

import json
import os
import pathlib
import sys

import numpy as np
import onnxruntime
import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "guests" / "tests"))
import minilm  # noqa: E402

TOLERANCE = 1e-5


def lines(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def main():
    data = minilm.directory(pathlib.Path(os.environ["CAII_BUILD_DIR"]))
    tokenizer = tokenizers.Tokenizer.from_file(str(data / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    session = onnxruntime.InferenceSession(str(data / "model.onnx"), providers=["CPUExecutionProvider"])
    inputs = {line["custom_id"]: line["body"]["input"] for line in lines(sys.argv[1])}
    results = lines(sys.argv[2])
    worst = 0.0
    for line in results:
        ids = np.array([tokenizer.encode(inputs[line["custom_id"]]).ids], np.int64)
        expected = session.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]
        body = line["response"]["body"]
        found = np.array(body["data"][0]["embedding"], np.float32)
        worst = max(worst, float(np.abs(found - expected).max()))
        assert body["usage"] == {"prompt_tokens": ids.size, "total_tokens": ids.size}, (body["usage"], ids.size)
    assert results and worst <= TOLERANCE, f"a component differs by {worst}"
    print(f"{len(results)} embeddings agree with ONNX Runtime; the largest difference of a component is {worst:.1e}")


if __name__ == "__main__":
    main()
