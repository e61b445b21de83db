# Every target does all its own set-up into .venv.
#   make demo   the whole study on an embedded cohort of four virtual people, ending with the path of report.html
#   make test   the test suite; `make coverage` measures which lines it reaches, in more time
#   make docs   the documentation site, into build/site; warnings are errors
#   make bench  what everything costs, into docs/validation/benchmarks.md and docs/validation/capacity.md (about an hour)
PYTHON ?= python3
BIN := .venv/bin
# Files in the order of their folders: the long ones come first, and the two processes end together.
TESTS := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test coverage bench lint types layers docs setup

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/efface demo efface-demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS)

coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS) --cov=efface --cov-report=term

bench: setup
	$(BIN)/python benchmarks/all.py

lint: setup
	$(BIN)/ruff check src tests benchmarks validation tools
	$(BIN)/ruff format --check src tests benchmarks validation tools
	$(BIN)/codespell

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
