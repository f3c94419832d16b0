#!/usr/bin/env bash
# Tests of the guests as they run: the inference guest against reference implementations, and that builds reproduce.
# Needs Python 3.11 or newer with venv; everything else is installed into build/.
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
build="${CAII_BUILD_DIR:-$repo/build}"
tests="$repo/guests/tests"
venv="$build/venv"

stamp="$venv/.requirements"
if ! cmp -s "$tests/requirements.txt" "$stamp"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$tests/requirements.txt"
  cp "$tests/requirements.txt" "$stamp"
fi

"$repo/scripts/build-guests.sh"
(cd "$repo/guests" && cargo build --quiet --locked --package caii-guest-inference --example tokenize)
export CAII_BUILD_DIR="$build"
"$venv/bin/python" "$tests/tokenizer_agreement.py"
"$venv/bin/python" "$tests/embedding_agreement.py"
"$venv/bin/python" "$tests/readme_examples.py"
"$tests/reproducible.sh"
