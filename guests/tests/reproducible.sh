#!/usr/bin/env bash
# Builds two guests, one of Rust and one of C, from a copy of the sources in another directory, and compares digests.
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
build="${CAII_BUILD_DIR:-$repo/build}"
guests=(wordcount contract-c-echo)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
copy="$scratch/a copy/elsewhere"
mkdir -p "$copy/guests" "$copy/scripts" "$scratch/build/guests"
tar -C "$repo/guests" --exclude=./target -cf - . | tar -C "$copy/guests" -xf -
cp "$repo/scripts/guest-toolchain.sh" "$repo/scripts/build-guests.sh" "$copy/scripts/"

"$repo/scripts/build-guests.sh" "${guests[@]}"
cp "$build/guests/toolchain.env" "$scratch/build/guests/"
CAII_BUILD_DIR="$scratch/build" "$copy/scripts/build-guests.sh" "${guests[@]}"
for name in "${guests[@]}"; do
  cmp "$build/guests/$name.wasm" "$scratch/build/guests/$name.wasm" ||
    { echo "reproducible: $name.wasm has other bytes when it is built elsewhere" >&2; exit 1; }
  # A path of this machine in the bytes would make them differ on the next one.
  if grep -aqF -e "$repo" -e "$HOME/" "$build/guests/$name.wasm"; then
    echo "reproducible: $name.wasm quotes a path of this machine" >&2
    exit 1
  fi
done
echo "${guests[*]}: the same bytes when built in another directory"
