# Everything that a person or the CI runs. Needs Python 3.11 or later, make and git; the rest comes from PyPI.

# The Python that the virtual environments are made from: the first that is new enough. `make test PYTHON=python3.12`
# takes another.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
endif

# The code in broker/_pb is made by the protoc of this version, so that it loads on protobuf 5, 6 and 7.
GRPC_TOOLS := grpcio-tools==1.66.2

# Tests start hundreds of processes: what these import is compiled once, and not by each, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
PROTOS := $(wildcard protos/*.proto)
PROTOC := .venv-proto/bin/python -m grpc_tools.protoc -I broker/_pb=protos

define VENV_FAILED

$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu its module ensurepip is in a package of its own:
    apt install python3-venv
Or name another Python, 3.11 or later: make setup PYTHON=/path/to/python3
endef
export VENV_FAILED

.PHONY: help setup node proto demo stockmarket ns test test-oldest collect check check-types check-lint check-proto \
	bench stress attacks chaos soak fuzz clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.done ## Makes .venv with the project and what its tests need

# Nothing is compiled that is never imported: most of what this installs.
.venv/.done: pyproject.toml | .venv/bin/pip
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	@touch $@

.venv/bin/pip:
	@$(call make_venv,.venv)

node: examples/typed-service/node_modules/.done ## Installs what the clients in Node need, with the npm of .venv

examples/typed-service/node_modules/.done: examples/typed-service/package-lock.json | .venv/.done
	@cd $(dir $<) && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --prefer-offline \
		--loglevel=error --fetch-retries=5
	@touch $@

proto: .venv-proto/.done ## Generates broker/_pb from protos/
	$(PROTOC) --python_out=. --pyi_out=. $(PROTOS)

# An environment of its own: these tools need a protobuf older than the one that the project runs on.
.venv-proto/.done: Makefile | .venv/bin/pip
	@$(BIN)/python -m venv --without-pip .venv-proto
	$(BIN)/python -m pip --python .venv-proto/bin/python install --quiet --no-compile $(GRPC_TOOLS) 'setuptools<81'
	@touch $@

demo: setup ## Runs a name server, a warehouse and a visitor as separate processes
	@$(BIN)/python examples/demo.py

stockmarket: setup ## Runs a stock market of eight processes for a minute and watches it
	@$(BIN)/python examples/stockquotes/minute.py 60

ns: setup ## Runs the name server until Ctrl-C
	@$(BIN)/python -m broker.naming

# More at a time than cores: most of them wait for processes of theirs, or for time to pass.
test: setup node .venv-proto/.done ## Runs the tests
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-oldest: .venv-oldest/.done node .venv-proto/.done ## Runs the tests with the oldest dependencies that pyproject.toml allows
	.venv-oldest/bin/python -m pytest -n 3 --dist worksteal

.venv-oldest/.done: pyproject.toml .ci/lower_bounds.py
	@$(call make_venv,.venv-oldest)
	.venv-oldest/bin/python .ci/lower_bounds.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --quiet --no-compile --editable '.[dev]' --constraint .venv-oldest/constraints.txt
	@touch $@

check: check-types check-lint check-proto ## Runs every check that is no test: lint, types, imports, generated code, links

check-types: setup
	$(BIN)/mypy

check-lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/links.py

collect: setup ## Imports every test, and so compiles them for the processes of `make test`
	@$(BIN)/python -m pytest --collect-only --quiet --quiet --quiet

check-proto: .venv-proto/.done ## Fails if broker/_pb is not what protos/ generates
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(PROTOC) --python_out="$$fresh" --pyi_out="$$fresh" $(PROTOS) && \
	diff --recursive --exclude=__pycache__ --exclude=__init__.py "$$fresh/broker/_pb" broker/_pb || \
	{ echo 'broker/_pb is stale: run `make proto` and commit what it writes.' >&2; exit 1; }

# What `python -m benchmarks` is told: make bench BENCH='--quick' (--help lists what there is).
BENCH := --json build/benchmarks.json --picture build/benchmarks.svg

bench: .venv-bench/.done ## Measures broker beside Pyro5, RPyC, ZeroC Ice and others (about ten minutes)
	@.venv-bench/bin/python -m benchmarks $(BENCH)

# zeroc-ice comes as source for most Pythons: it needs a C++ compiler once, and the benchmarks do without it.
.venv-bench/.done: pyproject.toml
	@$(call make_venv,.venv-bench)
	.venv-bench/bin/python -m pip install --quiet --editable '.[bench-without-ice]'
	@echo 'ZeroC Ice: installing, which may compile for ten minutes (this once) …'
	@.venv-bench/bin/python -m pip install --editable '.[bench]' > .venv-bench/zeroc-ice.log 2>&1 || \
	echo 'ZeroC Ice could not be installed, and has no column in the table: see .venv-bench/zeroc-ice.log' >&2
	@touch $@

# What `python -m benchmarks.stress` is told: make stress STRESS='--seconds 600' (--help lists what there is).
STRESS := --seconds 60

stress: setup ## Calls of every kind at once for a minute, with processes that are killed; looks for what is lost or left
	@$(BIN)/python -m benchmarks.stress $(STRESS)

# make chaos ROUNDS=20 SEED=7: what was drawn before is drawn again.
ROUNDS := 200
SEED :=

chaos: setup ## Kills and stops a daemon, a name server and clients at random moments, 200 times (Linux, a quarter of an hour)
	@$(BIN)/python -m benchmarks.chaos --rounds $(ROUNDS) $(SEED:%=--seed %)

MINUTES := 30

soak: setup ## Mixed work and churn for half an hour; looks for what grows (Linux)
	@$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(SEED:%=--seed %)

# What `python -m tests.fuzz` is told: make fuzz SECONDS=60 (--help lists what there is).
SECONDS := 600
FUZZ := --seconds $(SECONDS)

fuzz: .venv/.fuzz ## Throws hostile input at whatever reads what others send, for ten minutes (Linux)
	@$(BIN)/python -m tests.fuzz $(FUZZ)

.venv/.fuzz: .venv/.done
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	@touch $@

attacks: setup ## The attacks of the tests in their long form, with 10,000 half-open connections
	ATTACK_CONNECTIONS=10000 $(BIN)/python -m pytest -s tests/security/test_attacks_floods.py

clean: ## Removes what was made: environments, caches, builds
	rm -rf .venv .venv-proto .venv-oldest .venv-bench build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis examples/typed-service/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call make_venv,DIRECTORY)
define make_venv
	test -n '$(PYTHON)' || { echo 'No Python 3.11 or later was found: make setup PYTHON=/path/to/python3' >&2; exit 1; }; \
	test -x $(1)/bin/pip || $(PYTHON) -m venv $(1) || { echo "$$VENV_FAILED" >&2; exit 1; }
endef
