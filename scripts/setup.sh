#!/usr/bin/env bash
# Installs, by package name, what building and running caii needs and this machine lacks; prints nothing when all is
# there. `--tests` adds what only the tests need.
set -euo pipefail

say() { echo "setup: $*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

command -v cargo >/dev/null || { say "Rust is missing: install it with rustup, then run this again"; exit 1; }

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v python3 >/dev/null || missing+=(python3)
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
if [ "${1:-}" = --tests ]; then
  command -v c++ >/dev/null || missing+=(g++)
  command -v npm >/dev/null || missing+=(nodejs npm)
  command -v faketime >/dev/null || missing+=(faketime)
  python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
fi
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || { say "install ${missing[*]} or their like by hand: there is no apt-get here"; exit 1; }
  say "installing ${missing[*]}"
  as_root apt-get update -q >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
fi

if [ "${1:-}" = --tests ]; then
  cargo nextest --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-nextest
  # Unoptimised it compiles in a third of the time and still runs in a second.
  cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet --debug cargo-deny
fi
