"""The guest's tokenizer against Hugging Face's: the same ids for every Unicode character and for random texts."""

import json
import os
import pathlib
import random
import subprocess
import sys

import tokenizers

import minilm

BUILD = pathlib.Path(os.environ["CAII_BUILD_DIR"])
GUESTS = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", GUESTS / "target"))


def texts():
    # Every character alone between letters, in the middle of a word and twice.
    for point in range(sys.maxunicode + 1):
        if not 0xD800 <= point <= 0xDFFF:
            yield f"ab{chr(point)}cd {chr(point)}{chr(point)}"
    draw = random.Random(7)
    blocks = [(0x20, 0x7E), (0x00, 0x1F), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F),
              (0xE00, 0xE7F), (0x2000, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x1F600, 0x1F64F)]
    specials = ["[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]", "[CLS", "[[SEP]]", " ", "  ", "the", "unaffable"]
    for _ in range(20_000):
        pieces = []
        for _ in range(draw.randint(0, 30)):
            low, high = draw.choice(blocks)
            pieces.append(draw.choice(specials) if draw.random() < 0.15 else chr(draw.randint(low, high)))
        yield "".join(pieces)
    for length in (98, 99, 100, 101, 102, 1000):
        yield "x" * length
        yield "é" * length


def main():
    file = minilm.directory(BUILD) / "tokenizer.json"
    reference = tokenizers.Tokenizer.from_file(str(file))
    reference.no_padding()
    reference.no_truncation()
    cases = list(texts())
    run = subprocess.run(
        [str(TARGET / "debug" / "examples" / "tokenize"), str(file)],
        input="".join(json.dumps(text) + "\n" for text in cases).encode(), stdout=subprocess.PIPE, check=True,
    )
    answers = run.stdout.decode().splitlines()
    expected = reference.encode_batch(cases)
    wrong = [(text, json.loads(answer), encoding.ids)
             for text, answer, encoding in zip(cases, answers, expected, strict=True)
             if json.loads(answer) != encoding.ids]
    for text, ours, theirs in wrong[:20]:
        print(f"{text!r}: {ours} instead of {theirs}", file=sys.stderr)
    assert not wrong, f"{len(wrong)} of {len(cases)} texts are tokenized otherwise"
    print(f"{len(cases)} texts are tokenized like Hugging Face's tokenizers {tokenizers.__version__}")


if __name__ == "__main__":
    main()
