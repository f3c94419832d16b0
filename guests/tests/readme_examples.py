"""Runs the examples of guests/README.md and compares what they print, byte for byte.

`readme_examples.py --bless` writes what they print into the README instead.
"""

import os
import pathlib
import re
import shlex
import sys

import guest

BUILD = pathlib.Path(os.environ["CAII_BUILD_DIR"])
README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def run(command: str) -> str:
    """The output of `echo 'ITEM' | wasmtime build/guests/NAME.wasm ARGS`, or of `printf` likewise."""
    source, program = command.split(" | wasmtime build/guests/")
    how, item = shlex.split(source)
    # As a pool gives it: one record without its line end.
    item = item.replace("\\n", "\n").removesuffix("\n") if how == "printf" else item
    name, *args = shlex.split(program)
    code, out, err, _, _ = guest.Guest(BUILD / "guests" / name).run(item.encode(), *args)
    assert code == 0, f"{command}: exit code {code}, {err}"
    return out.decode()


def main():
    text = README.read_text()
    count = 0

    def example(block: re.Match) -> str:
        nonlocal count
        lines = []
        for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]:
            lines += [f"$ {part.splitlines()[0]}", run(part.splitlines()[0])]
            count += 1
        return "```console\n" + "\n".join(lines) + "\n```"

    actual = re.sub(r"```console\n(.*?)\n```", example, text, flags=re.DOTALL)
    if sys.argv[1:] == ["--bless"]:
        README.write_text(actual)
        return
    for wanted, got in zip(text.splitlines(), actual.splitlines()):
        assert wanted == got, f"README says\n{wanted}\nbut the program prints\n{got}"
    assert text == actual and count >= 8, f"{count} examples"
    print(f"{count} examples of the README print what it says")


if __name__ == "__main__":
    main()
