#!/usr/bin/env bash
# Builds guests into build/guests/NAME.wasm: `build-guests.sh` all of them, `build-guests.sh NAME...` some.
#
# A guest is built again only when its sources, what they share or the toolchain changed. The bytes do not depend on
# where the checkout lies: guests/tests/reproducible.sh builds in two places and compares.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
build="${CAII_BUILD_DIR:-$repo/build}"
out="$build/guests"
target=wasm32-wasip1
guests="$repo/guests"

say() { echo "build-guests: $*" >&2; }

# NAME:PACKAGE:DIRECTORY for Rust, NAME:c:FILE for C.
list() {
  local name file
  for name in inference preprocess montecarlo search synth wordcount; do
    echo "$name:caii-guest-$name:$name"
  done
  for name in $(sed -n 's/^name = "\(contract-.*\)"$/\1/p' "$guests/contract/Cargo.toml"); do
    echo "$name:caii-guest-contract:contract"
  done
  for file in "$guests"/contract/c/*.c; do
    name=$(basename "$file" .c)
    echo "contract-c-$name:c:contract/c/$name.c"
  done
}

if [ "${1:-}" = --list ]; then list | cut -d: -f1; exit 0; fi

"$repo/scripts/guest-toolchain.sh"
# shellcheck source=/dev/null
. "$out/toolchain.env"

# What decides the bytes, as one digest: the toolchain, this script, and the files named.
key() {
  {
    echo "$GUEST_RUST_VERSION|$GUEST_LINKER_VERSION|$GUEST_C_VERSION"
    cd "$repo"
    find "$@" -type f -not -path '*/target/*' | LC_ALL=C sort | xargs -d '\n' sha256sum
  } | sha256sum | cut -d' ' -f1
}

fresh() { [ -f "$out/$1.wasm" ] && [ "$(cat "$out/$1.key" 2>/dev/null)" = "$2" ]; }

# Beside the old one and then over it, so that whoever reads meanwhile sees one or the other.
install_as() {
  cp "$1" "$out/$2.wasm.new"
  mv "$out/$2.wasm.new" "$out/$2.wasm"
  echo "$3" >"$out/$2.key"
  say "$2.wasm: $(stat -c %s "$out/$2.wasm") bytes, sha256 $(sha256sum "$out/$2.wasm" | cut -c1-16)…, ${SECONDS} s"
}

build_rust() { # NAME PACKAGE DIRECTORY
  local name=$1 package=$2 directory=$3 key_now flags cargo_home sep=$'\x1f'
  key_now=$(key scripts/build-guests.sh guests/Cargo.toml guests/Cargo.lock guests/support "guests/$directory")
  if fresh "$name" "$key_now"; then return; fi
  SECONDS=0
  cargo_home="${CARGO_HOME:-$HOME/.cargo}"
  # No relaxed SIMD, whose results may differ between machines; paths are renamed because panics quote them.
  flags="-Ctarget-feature=+simd128,-relaxed-simd${sep}--remap-path-prefix=$guests=/guests"
  # The library's sources, where they are installed, under the name that they have where they are not.
  flags+="${sep}--remap-path-prefix=$cargo_home=/cargo"
  flags+="${sep}--remap-path-prefix=$("$GUEST_RUSTC" --print sysroot)/lib/rustlib/src/rust=/rustc/$GUEST_RUST_COMMIT"
  flags+="${sep}--remap-path-prefix=/usr/src/rustc-$GUEST_RUST_RELEASE=/rustc/$GUEST_RUST_COMMIT"
  local extra=()
  if [ "$GUEST_RUST_KIND" = debian ]; then
    extra=(-Zbuild-std=std,panic_abort)
    flags+="${sep}-L${sep}/usr/lib/wasm32-wasi${sep}-Clink-self-contained=no"
    flags+="${sep}-Clink-arg=/usr/lib/wasm32-wasi/crt1-command.o"
    export RUSTC_BOOTSTRAP=1
  fi
  # One package a run: built together, packages would share the union of their features, and a guest's bytes would
  # depend on what it was built with.
  (
    cd "$guests"
    unset RUSTFLAGS CARGO_BUILD_RUSTFLAGS RUSTC_WRAPPER
    # Cargo looks for its own rustc and rustdoc in PATH.
    PATH="$(dirname "$GUEST_RUSTC"):$PATH" RUSTC="$GUEST_RUSTC" CARGO_ENCODED_RUSTFLAGS="$flags" \
      CARGO_TARGET_WASM32_WASIP1_LINKER="$GUEST_LINKER" CARGO_TARGET_DIR="$build/guests-target" \
      "$GUEST_CARGO" build --quiet --release --locked --target "$target" --package "$package" --bin "$name" "${extra[@]}"
  )
  install_as "$build/guests-target/$target/release/$name.wasm" "$name" "$key_now"
}

build_c() { # NAME FILE
  local name=$1 file=$2 key_now
  key_now=$(key scripts/build-guests.sh "guests/$file")
  if fresh "$name" "$key_now"; then return; fi
  SECONDS=0
  mkdir -p "$build/guests-target"
  (
    cd "$guests"
    # The stack first, so that overflowing it traps instead of overwriting data; Rust does the same.
    clang --target=wasm32-wasi --sysroot=/usr -std=gnu17 -O2 -Wall -Wextra -Werror \
      -Wl,--strip-all -Wl,--stack-first -Wl,-z,stack-size=1048576 "$file" -o "$build/guests-target/$name.wasm"
  )
  install_as "$build/guests-target/$name.wasm" "$name" "$key_now"
}

# Two runs at once would write the same files.
exec 9>"$out/.lock"
flock 9

wanted=("$@")
for entry in $(list); do
  IFS=: read -r name package where <<<"$entry"
  if [ ${#wanted[@]} -gt 0 ]; then
    case " ${wanted[*]} " in *" $name "*) ;; *) continue ;; esac
  fi
  if [ "$package" = c ]; then build_c "$name" "$where"; else build_rust "$name" "$package" "$where"; fi
done
for name in "${wanted[@]}"; do
  [ -f "$out/$name.wasm" ] || { say "there is no guest $name; --list names them"; exit 1; }
done
