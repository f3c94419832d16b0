#!/bin/sh
# Installs OpenAI's own clients for the tests: Python's into build/venv, together with the reference implementations
# that results are compared with, and Node's into build/node. Does nothing when they are there.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)
build="${CAII_BUILD_DIR:-$repo/build}"
venv="$build/venv"
node="$build/node"
mkdir -p "$build"

# Tests ask for them at the same time.
exec 9>"$build/.clients.lock"
flock 9

wanted=$(cat "$repo/guests/tests/requirements.txt" "$repo/tests/openai/requirements.txt")
if [ "$wanted" != "$(cat "$venv/.openai-clients" 2>/dev/null)" ]; then
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input \
        --requirement "$repo/guests/tests/requirements.txt" --requirement "$repo/tests/openai/requirements.txt" >&2
    printf '%s\n' "$wanted" >"$venv/.openai-clients"
fi

if ! cmp -s "$repo/tests/openai/package.json" "$node/.installed"; then
    mkdir -p "$node"
    cp "$repo/tests/openai/package.json" "$node/package.json"
    (cd "$node" && npm install --silent --no-audit --no-fund --ignore-scripts >&2)
    cp "$node/package.json" "$node/.installed"
fi
