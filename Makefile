# Every command that the project has. CI runs `make test` and nothing else.
.PHONY: demo test check bench fuzz guests setup

# Installs what building and running needs and is not there yet.
setup:
	@scripts/setup.sh

guests: setup
	@scripts/build-guests.sh

# A pool, three contributors, a real model and a real batch, on this machine, from nothing.
demo: setup
	@scripts/build-guests.sh inference
	@cargo build --release --locked --quiet --bins --package caii --package xtask
	@target/release/xtask demo

# Everything: all set-up, all tests.
test:
	@scripts/setup.sh --tests
	@scripts/build-guests.sh
	@cargo run --locked --quiet --package xtask -- test

# The quick loop.
check:
	@cargo run --locked --quiet --package xtask -- check

# The benchmarks; ONLY=P4 for one.
bench:
	@scripts/setup.sh --tests
	@scripts/build-guests.sh
	@cargo build --release --locked --quiet --workspace --bins --examples
	@cargo run --release --locked --quiet --package xtask -- bench $(ONLY)

# Fuzzes all that parses untrusted bytes; ONLY=target for one, RUNS=n for how often.
fuzz:
	@scripts/setup.sh --tests
	@cargo run --locked --quiet --package xtask -- fuzz $(or $(ONLY),all) $(or $(RUNS),10000000)
