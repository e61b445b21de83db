# `make test` does all its own set-up into .venv; so do the checks that .ci/run calls.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: test lint types layers setup

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports
