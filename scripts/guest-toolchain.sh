#!/usr/bin/env bash
# Installs what turns guests into WebAssembly, once, on Debian 12 or Ubuntu with Rust; prints nothing when all is there.
#
# Rust: the target wasm32-wasip1 of rustup's toolchain where rustup can fetch it, else Debian's compiler and its
# library sources. C: clang, lld and wasi-libc. What was found is written to build/guests/toolchain.env, which
# build-guests.sh reads; remove that file to look again.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
out="${CAII_BUILD_DIR:-$repo/build}/guests"
env_file="$out/toolchain.env"
target=wasm32-wasip1
script=$(sha256sum "$0" | cut -d' ' -f1)
# Seconds that rustup gets to fetch the target (about 25 MB) before Debian's compiler is used instead.
rustup_seconds="${CAII_RUSTUP_SECONDS:-180}"

say() { echo "guest-toolchain: $*" >&2; }
fail() { say "$*"; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

apt_updated=
apt_install() {
  command -v apt-get >/dev/null || fail "cannot install $*: there is no apt-get here; install these or their like by hand"
  if [ -z "$apt_updated" ]; then
    as_root apt-get update -q >&2 || fail "apt-get update failed; see above"
    apt_updated=1
  fi
  say "installing $*"
  # --no-remove: Debian's rustc-web replaces its rustc, which somebody may need.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove "$@" >&2 ||
    fail "cannot install $*; see above"
}

rustup_has_target() {
  command -v rustup >/dev/null && command -v rustc >/dev/null &&
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]
}
debian_has_target() { [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library/std ]; }

find_linker() {
  local sysroot lld
  if sysroot=$(rustc --print sysroot 2>/dev/null); then
    lld=$(find "$sysroot/lib/rustlib" -name rust-lld -type f 2>/dev/null | head -n 1)
    if [ -n "$lld" ]; then echo "$lld"; return; fi
  fi
  command -v wasm-ld || true
}

find_c() {
  local builtins
  command -v clang >/dev/null && command -v wasm-ld >/dev/null && [ -f /usr/lib/wasm32-wasi/libc.a ] || return 1
  builtins="$(clang -print-resource-dir)/lib/wasi/libclang_rt.builtins-wasm32.a"
  [ -f "$builtins" ]
}

mkdir -p "$out"
if [ -f "$env_file" ]; then
  # shellcheck source=/dev/null
  . "$env_file"
  # The versions are part of every cache key, so a compiler that was upgraded since must not pass for the old one.
  if [ "${GUEST_SCRIPT:-}" = "$script" ] && find_c &&
    [ "$("$GUEST_RUSTC" -vV 2>/dev/null | tr '\n' ' ')" = "$GUEST_RUST_VERSION" ] &&
    [ "$(clang --version | head -n 1)" = "$GUEST_C_VERSION" ]; then
    exit 0
  fi
  rm -f "$env_file"
fi

if ! find_c; then
  apt_install clang lld wasi-libc
  major=$(clang -dumpversion | cut -d. -f1)
  find_c || apt_install "libclang-rt-$major-dev-wasm32"
  find_c || fail "clang cannot link for wasm32-wasi although all its packages are installed"
fi

if ! rustup_has_target && ! debian_has_target && command -v rustup >/dev/null; then
  say "fetching the Rust target $target with rustup"
  timeout "$rustup_seconds" rustup target add "$target" >&2 || say "rustup cannot fetch it; using Debian's compiler"
fi
if rustup_has_target; then
  rustc=$(rustup which rustc)
  cargo=$(rustup which cargo)
  kind=rustup
else
  debian_has_target || apt_install rustc-web rust-web-src cargo-web
  debian_has_target || fail "Debian's rustc-web, rust-web-src and cargo-web are installed but not where expected"
  rustc=/usr/bin/rustc
  cargo=/usr/bin/cargo
  kind=debian
fi
linker=$(find_linker)
[ -n "$linker" ] || fail "there is no linker for WebAssembly (rust-lld or wasm-ld)"

{
  printf 'GUEST_SCRIPT=%q\n' "$script"
  printf 'GUEST_RUST_KIND=%q\n' "$kind"
  printf 'GUEST_RUSTC=%q\n' "$rustc"
  printf 'GUEST_CARGO=%q\n' "$cargo"
  printf 'GUEST_LINKER=%q\n' "$linker"
  printf 'GUEST_RUST_VERSION=%q\n' "$("$rustc" -vV | tr '\n' ' ')"
  printf 'GUEST_RUST_COMMIT=%q\n' "$("$rustc" -vV | sed -n 's/^commit-hash: //p')"
  printf 'GUEST_RUST_RELEASE=%q\n' "$("$rustc" -vV | sed -n 's/^release: //p')"
  printf 'GUEST_LINKER_VERSION=%q\n' "$("$linker" -flavor wasm --version 2>/dev/null || "$linker" --version)"
  printf 'GUEST_C_VERSION=%q\n' "$(clang --version | head -n 1)"
} >"$env_file.new"
mv "$env_file.new" "$env_file"
say "ready: $kind's $("$rustc" --version), $(clang --version | head -n 1)"
