#!/bin/sh
# Installs the validator of payment files for the tests, with the schema that it validates by, into build/venv-payout and
# prints its interpreter. Does nothing when it is there. Neither is a part of the project.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)
build="${CAII_BUILD_DIR:-$repo/build}"
venv="$build/venv-payout"
mkdir -p "$build"

# Tests ask for it at the same time.
exec 9>"$build/.payout.lock"
flock 9

if ! cmp -s "$repo/tests/payout/requirements.txt" "$venv/.installed"; then
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    # Without what the first would bring along: its schemas alone are used.
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps \
        --requirement "$repo/tests/payout/requirements.txt" >&2
    cp "$repo/tests/payout/requirements.txt" "$venv/.installed"
fi
echo "$venv/bin/python"
