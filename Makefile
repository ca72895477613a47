# Every target builds .venv first (make env), from locked and hashed dependencies; nothing else is needed.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
STAMP := $(VENV)/.made-from-lock

DATA = $(or $(KLINES_TEST_DATA),../shared/data)

export DAGSTER_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help env demo up test lint format bench lock graph docs clean

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

env: $(STAMP)  ## Build .venv from the lock

$(STAMP): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "klinecast needs Python 3.11, 3.12 or 3.13 (there is no TensorFlow for 3.14 yet);" \
		       "$(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON, as in: make env PYTHON=python3.13" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no venv module: install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	@echo "Installing the locked dependencies into $(VENV) ..."
	@$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements/uv.lock requirements/dev.lock
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $(STAMP)

demo: env  ## Run the whole pipeline once on the built-in exchange, a few minutes
	@$(BIN)/klinecast demo

up: env  ## Start the Dagster UI, its daemon and the built-in exchange; Ctrl-C stops them
	@$(BIN)/klinecast up

test: env  ## Run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: env  ## ruff, the type checker, the import rules, the definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dg check defs
	$(BIN)/dagster definitions validate --workspace workspace.yaml

format: env  ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: env  ## Run the benchmarks; those on recorded bars need KLINES_TEST_DATA
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.inference
	$(BIN)/python -m benchmarks.ingestion
	@test -d "$(DATA)" || { echo "no recorded bars at $(DATA): set KLINES_TEST_DATA for the other benchmarks"; exit 0; }; \
	$(BIN)/python -m benchmarks.anomalies --data "$(DATA)" && \
	$(BIN)/python -m benchmarks.real_input --data "$(DATA)/klines/binance_um_recent"

docs: env  ## Write the generated pages: the graph, the settings table, the feature catalogue
	@$(BIN)/python -m orchestration.written_docs
	@$(BIN)/python -m kernels docs > docs/features.md

lock: env  ## Resolve the dependencies anew (needs a package index)
	echo 'uv==$(UV_VERSION)' | $(BIN)/uv pip compile - --generate-hashes --universal --python-version 3.11 -q --no-header -o requirements/uv.lock
	$(BIN)/uv pip compile pyproject.toml --group dev --generate-hashes --universal --python-version 3.11 -q --no-header -o requirements/dev.lock
	$(BIN)/uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 -q --no-header -c requirements/dev.lock -o requirements/run.lock

clean:  ## Remove .venv and caches; never any state under KLINECAST_HOME
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
