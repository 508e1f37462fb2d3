# Every target sets itself up; a second run downloads nothing.
SHELL := /bin/bash
PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
READY := .venv/ready-$(shell cat requirements/dev.txt requirements/system.txt pyproject.toml | sha256sum | cut -c1-16)

.PHONY: setup check fix test demo bench docs lock
.DEFAULT_GOAL := check

setup: $(READY)

$(READY): requirements/dev.txt requirements/system.txt
	@$(PYTHON) requirements/system.py requirements/system.txt
	@test -x $(UV) || { echo "setup: fetching uv" >&2; $(PYTHON) -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --target .tools uv; }
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --require-hashes requirements/dev.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f .venv/ready-* && touch $(READY)

# The two-minute loop: format, lint, types, imports, locks, the quick tests.
check: setup
	@$(BIN)/ruff format --check --quiet src tests bench
	@$(BIN)/ruff check --quiet src tests bench
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pytest -n 2 -m "not slow"

fix: setup
	@$(BIN)/ruff format --quiet src tests bench
	@$(BIN)/ruff check --fix --quiet src tests bench

# Everything.
test: setup
	@$(BIN)/ruff format --check --quiet src tests bench
	@$(BIN)/ruff check --quiet src tests bench
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pytest -n 2

demo: setup
	@$(BIN)/sterling demo --out sterling-demo

# Rivals live in an environment of their own: they are measured, never installed with the product.
bench: setup .bench/ready
	@$(BIN)/python bench/run_all.py

.bench/ready: requirements/bench.txt
	@test -x .bench/bin/python || $(UV) venv --quiet --python $(PYTHON) .bench
	@$(UV) pip sync --quiet --require-hashes --python .bench/bin/python requirements/bench.txt
	@touch $@

# Reference pages that are made from code.
docs: setup
	@$(BIN)/python docs/generate.py

# New locks of dependencies, contracts and plugins.
lock: setup
	@for set in base dev bench; do $(UV) pip compile --quiet --python-version 3.11 --universal --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate \
		requirements/$$set.in -o requirements/$$set.txt; done
	@$(BIN)/python -m sterling.kernel.contract_lock --write
	@$(BIN)/python -m sterling.runtime.plugin_lock --write
