"""The inference guest against ONNX Runtime: the same texts, components equal to 1e-5, and the contract's promises."""

import base64
import json
import os
import pathlib
import random

import numpy as np
import onnxruntime
import tokenizers

import guest
import minilm

TOLERANCE = 1e-5
BUILD = pathlib.Path(os.environ["CAII_BUILD_DIR"])


def sentences():
    """240 texts: plain, long, accented, in other scripts, and random."""
    plain = [
        "A river carries sand to the sea.", "How do I reset my password?", "E = mc²", "print('hello, world')",
        "The committee postponed its decision until the auditors had finished.", "¿Dónde está la biblioteca?",
        "Ünïcödé àccénts, ÇA VA?", "今天天气很好，我们去公园吧。", "日本語とEnglishの混在テキスト", "Привет, как дела?",
        "مرحبا بالعالم", "नमस्ते दुनिया", "한국어 문장입니다.", "🙂🙃 emoji 👩‍👩‍👧 family", "a", " ", "\t\n", "...", "[SEP] [MASK] token",
        "x" * 99, "x" * 101, "word " * 200, "1234567890 " * 20, "e\u0301e\u0301 combining", "zero\u200bwidth\u00a0space",
        "control\u0007\u0000characters\ufffd", "İstanbul ǅ ß ﬁ", "#hashtag @mention http://example.org/?q=1&r=2",
        "line one\nline two\r\nline three", "“quotes” — and – dashes…",
    ]
    draw = random.Random(20)
    words = "time way model river engine seldom bright übung niño 水 мир run-time don't (see) 3.14 C++ énigme".split()
    return plain + [" ".join(draw.choice(words) for _ in range(draw.randint(1, 60))) for _ in range(240 - len(plain))]


def main():
    data = minilm.directory(BUILD)
    tokenizer = tokenizers.Tokenizer.from_file(str(data / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    session = onnxruntime.InferenceSession(str(data / "model.onnx"), providers=["CPUExecutionProvider"])

    def reference(text):
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        return session.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]

    program = guest.Guest(BUILD / "guests" / "inference.wasm", data)
    print(f"snapshot: {len(program.snapshot) / 1e6:.1f} MB for a model of "
          f"{(data / 'model.onnx').stat().st_size / 1e6:.1f} MB")

    def embed(body):
        code, out, err, fuel, seconds = program.run(json.dumps(body).encode())
        assert code == 0, f"{body}: exit code {code}, {err}"
        return json.loads(out), fuel, seconds

    texts = sentences()
    worst, tokens = 0.0, 0
    answer, _, _ = embed({"model": "minilm", "input": texts})
    for index, (text, entry) in enumerate(zip(texts, answer["data"], strict=True)):
        assert entry["object"] == "embedding" and entry["index"] == index
        difference = float(np.abs(np.array(entry["embedding"], np.float32) - reference(text)).max())
        assert difference <= TOLERANCE, f"{text!r}: a component differs by {difference}"
        worst = max(worst, difference)
        tokens += len(tokenizer.encode(text).ids)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}, answer["usage"]
    print(f"{len(texts)} texts agree with ONNX Runtime; the largest difference of a component is {worst:.1e}")

    # Bits depend neither on neighbours nor on how the embedding is written, nor on text or ids.
    alone, fuel, _ = embed({"model": "minilm", "input": texts[4]})
    assert alone["data"][0]["embedding"] == answer["data"][4]["embedding"]
    ids = tokenizer.encode(texts[4], add_special_tokens=False).ids
    for body in ({"input": texts[4]}, {"input": [ids]}, {"input": ids}):
        packed, _, _ = embed({"model": "minilm", "encoding_format": "base64", **body})
        values = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), np.float32)
        assert np.array_equal(values, np.array(alone["data"][0]["embedding"], np.float32)), body
    assert embed({"model": "minilm", "input": texts[4]})[1] == fuel, "a second run took other fuel"

    for body, words in [
        (b"", "not an embeddings request"),
        (json.dumps({"input": "word " * 255}).encode(), "has 257 tokens, more than the 256"),
        (json.dumps({"input": [30522]}).encode(), "the model's ids end at 30521"),
        (json.dumps({"input": "a", "dimensions": 100}).encode(), "always have 384"),
    ]:
        code, out, err, _, _ = program.run(body)
        assert (code, out) == (1, b"") and words in err, (body[:40], code, out[:40], err)
    assert embed({"model": "minilm", "input": "word " * 254})[0]["usage"]["prompt_tokens"] == 256

    for length in (20, 64):
        item = json.dumps({"model": "minilm", "input": "river " * (length - 2)}).encode()
        runs = sorted(program.run(item)[3:] for _ in range(5))
        fuel, seconds = runs[0][0], sorted(run[1] for run in runs)[2]
        print(f"{length} tokens: {1 / seconds:.1f} texts per CPU second with fuel, {fuel / 1e6:.0f} million units each")


if __name__ == "__main__":
    main()
