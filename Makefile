# `make help` lists the targets. Everything Python lives in .venv; nothing is installed elsewhere
# but, by `make system-tools`, the programs that tests run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PATH := $(CURDIR)/.venv/bin:$(HOME)/.cargo/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_RETRIES ?= 10
export PIP_TIMEOUT ?= 60
export CARGO_NET_RETRY ?= 10

VENV := .venv
RUST := probe/engine/rust
RUST_MINIMUM := 1.88
PCAP ?=
ONCE ?=
N ?= 4500000
FUZZ_SECONDS ?= 30
FUZZ_SMOKE_SECONDS ?= 2

# Programs that tests run, and the Debian packages that bring them.
TOOLS := tshark chromium chromedriver zstd systemd-analyze ip nginx curl openssl
TOOL_PACKAGES := tshark chromium chromium-driver zstd systemd iproute2 nginx-light curl openssl

RUST_SOURCES := $(shell find $(RUST) -name target -prune -o \( -name '*.rs' -o -name 'Cargo.*' \) -print)

# $(call step,name,command): say what begins, run it, say how long it took.
define step
@start=$$SECONDS; printf '==> %s\n' '$(1)'; $(2); printf '    %s: done in %d s\n' '$(1)' $$((SECONDS - start))
endef

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: setup ## Collector and probe on simulated traffic, or on PCAP=file; ONCE=1 ends after the table
	@python configs/demo/run_demo.py $(if $(PCAP),--pcap '$(PCAP)') $(if $(ONCE),--once)

.PHONY: test
test: setup system-tools lint rust-test python-test ## Set up, then every linter and every test
	@printf '==> all checks passed\n'

# ------------------------------------------------------------------------------------- setting up

.PHONY: setup
setup: prerequisites $(VENV)/engine.stamp ## Virtual environment with all dependencies, and the engine

.PHONY: prerequisites
prerequisites:
	@fail() { printf 'error: %s\n' "$$1" >&2; exit 1; }; \
	command -v cargo > /dev/null || fail 'the Rust toolchain is missing; install Rust $(RUST_MINIMUM) or later (rustup.rs or your distribution)'; \
	rust=$$(rustc --version | awk '{print $$2}'); \
	[ "$$(printf '%s\n' $(RUST_MINIMUM) "$$rust" | sort -V | head -n 1)" = $(RUST_MINIMUM) ] || fail "Rust $$rust is too old; install Rust $(RUST_MINIMUM) or later"; \
	command -v cc > /dev/null || fail 'a C compiler is missing, which Rust links with; install it with: apt-get install gcc'; \
	[ -x $(VENV)/bin/python ] || $(FIND_PYTHON) > /dev/null || fail 'Python 3.11 or later with the venv module is missing; install it with: apt-get install python3 python3-venv'

# The first Python that is new enough and can make virtual environments.
FIND_PYTHON = sh -c 'for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	if "$$python" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))" 2> /dev/null; then \
	command -v "$$python"; exit 0; fi; done; exit 1'

$(VENV)/bin/python:
	$(call step,virtual environment,"$$($(FIND_PYTHON))" -m venv $(VENV))

$(VENV)/packages.stamp: requirements.lock | $(VENV)/bin/python
	$(call step,Python packages,python -m pip install --quiet --require-hashes -r requirements.lock)
	@touch $@

$(VENV)/engine.stamp: $(VENV)/packages.stamp pyproject.toml $(RUST_SOURCES)
	$(call step,engine,PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) maturin develop --release --locked)
	@touch $@

.PHONY: system-tools
system-tools: ## Install the programs that tests run, where apt-get may; else say what is missing
	@missing() { for tool in $(TOOLS); do command -v "$$tool" > /dev/null || printf '%s ' "$$tool"; done; }; \
	[ -n "$$(missing)" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		printf '==> system tools: %s\n' "$$(missing)"; \
		{ apt-get -qq -o Acquire::Retries=5 update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -o Acquire::Retries=5 install -y --no-install-recommends $(TOOL_PACKAGES) > /dev/null; } || true; \
	fi; \
	[ -z "$$(missing)" ] || { printf 'missing: %s- their tests are skipped; to install: sudo apt-get install %s\n' "$$(missing)" '$(TOOL_PACKAGES)' >&2; \
	[ "$${CI:-}" != true ]; }

.PHONY: lock
lock: $(VENV)/packages.stamp ## Write requirements.lock anew from pyproject.toml
	$(call step,lock,python -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet pip-tools \
	&& python -c "$$LOCK_INPUT" > $(VENV)/lock/requirements.in \
	&& printf '%s\n' '# Exact versions and hashes of everything in .venv; `make lock` writes this file from pyproject.toml.' > $(VENV)/lock/requirements.lock \
	&& $(VENV)/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --output-file $(VENV)/lock/pins.txt $(VENV)/lock/requirements.in \
	&& cat $(VENV)/lock/pins.txt >> $(VENV)/lock/requirements.lock && mv $(VENV)/lock/requirements.lock requirements.lock)

define LOCK_INPUT
import tomllib
with open("pyproject.toml", "rb") as file:
    table = tomllib.load(file)
lists = [table["project"]["dependencies"], ["pip"]]
lists += table["project"]["optional-dependencies"].values()
lists += table["dependency-groups"].values()
print("\n".join(requirement for requirements in lists for requirement in requirements))
endef
export LOCK_INPUT

# ----------------------------------------------------------------------------------------- checks

.PHONY: lint
lint: setup ## Style, types, stubs and import rules
	$(call step,ruff check,ruff check --quiet .)
	$(call step,ruff format,ruff format --quiet --check .)
	$(call step,mypy,mypy)
	$(call step,stubtest,stubtest --concise probe.engine._native)
	$(call step,import rules,lint-imports --no-logo)
	$(call step,rustfmt,cd $(RUST) && cargo fmt --all --check)
	$(call step,clippy,cd $(RUST) && cargo clippy --quiet --locked --workspace --all-targets -- -D warnings)

.PHONY: rust-test
rust-test: setup ## Tests of the engine, in debug with overflow checks; a short run of each fuzz target
	$(call step,cargo test,cd $(RUST) && cargo test --quiet --locked --workspace)
	@$(MAKE) fuzz-smoke

.PHONY: python-test
python-test: setup ## Tests of probe, collector and the whole street
	$(call step,pytest,python -m pytest)

.PHONY: accuracy
accuracy: setup system-tools ## The three tables of docs/accuracy.md: tshark, round trips and losses, causes
	@$(MAKE) oracle-table
	@$(MAKE) round-trip-table
	@$(MAKE) cause-table

.PHONY: oracle-table round-trip-table cause-table
oracle-table: setup system-tools
	@python -m tests.oracle
round-trip-table: setup system-tools
	@python -m tests.system.laboratory.accuracy
cause-table: setup system-tools
	@python -m tests.system.laboratory.failures

.PHONY: identities
identities: setup ## Plants 100,000 IMSIs, MSISDNs and IMEIs, or PLANTED=n, and looks for them in all that is left
	$(call step,identities,EDGEQOE_PLANTED=$(or $(PLANTED),100000) python -m pytest tests/system/test_identities_stay.py)

.PHONY: bench
bench: setup ## The engine beside its peers and a reference walk over the same packets; N=packets
	@python tests/bench/bench_engine.py --packets $(N) --instructions

.PHONY: bench-parts
bench-parts: ## Decapsulation, flow lookup, round trips, names and records, each alone (criterion)
	@cd $(RUST) && cargo bench --quiet --locked -p edgeqoe-core --features seal --bench engine

# What `cargo fuzz` sets without a sanitizer: the engine's code is safe Rust but for the capture ring.
FUZZ_TARGET := $(shell rustc -vV 2> /dev/null | awk '/^host:/ {print $$2}')
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions
FUZZ_BUILD = cd $(RUST)/fuzz && RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --quiet --locked --release --bins --target $(FUZZ_TARGET)

.PHONY: fuzz
fuzz: setup fuzz-seeds ## Every fuzz target for FUZZ_SECONDS=30, from pieces of captures
	$(call step,build the fuzz targets,$(FUZZ_BUILD))
	@$(call run_fuzzers,$(FUZZ_SECONDS),)

.PHONY: fuzz-smoke
fuzz-smoke: fuzz-seeds
	$(call step,build the fuzz targets,$(FUZZ_BUILD))
	@$(call run_fuzzers,$(FUZZ_SMOKE_SECONDS),-seed=1)

# $(call run_fuzzers,seconds,options): a finding stays below fuzz/artifacts and ends the run. The short
# run begins alike each time, so that it tells of the change at hand.
define run_fuzzers
cd $(RUST)/fuzz && mkdir -p artifacts && target=$$(cargo metadata --format-version 1 --no-deps --offline \
	| python -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])') && \
for source in fuzz_targets/*.rs; do \
	name=$$(basename "$$source" .rs); mkdir -p "corpus/$$name"; \
	"$$target/$(FUZZ_TARGET)/release/$$name" -max_total_time=$(1) $(2) -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
	-print_final_stats=1 -artifact_prefix="artifacts/$$name-" "corpus/$$name" > "artifacts/$$name.log" 2>&1 \
	|| { cat "artifacts/$$name.log"; exit 1; }; \
	printf '    %-10s %s runs in %s s\n' "$$name" \
	"$$(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$$name.log")" $(1); \
done
endef

# Seeds: pieces of the reference captures where they are, else of simulated traffic.
.PHONY: fuzz-seeds
fuzz-seeds: setup
	@captures="$${EDGEQOE_SHARED:-../shared}/corpora/dev"; \
	if [ -d "$$captures" ]; then find "$$(realpath "$$captures")" -maxdepth 1 -name '*.pcap*' -o -maxdepth 1 -name '*.snoop' > $(VENV)/fuzz-captures; \
	else qoe-probe simulate $(VENV)/fuzz-seeds.pcap > /dev/null && realpath $(VENV)/fuzz-seeds.pcap > $(VENV)/fuzz-captures; fi
	$(call step,fuzz seeds,cd $(RUST)/fuzz && xargs -d '\n' cargo run --quiet --locked --example seeds -- < $(CURDIR)/$(VENV)/fuzz-captures)

.PHONY: clean
clean: ## Remove what was built; the virtual environment too
	rm -rf $(VENV) build dist var $(RUST)/target $(RUST)/fuzz/target probe/engine/_native*.so
	find probe collector tests configs -name __pycache__ -prune -exec rm -rf {} +
