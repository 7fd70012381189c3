# Everything runs in a virtual environment of its own, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt

.PHONY: demo test test-fast common-tests check types bench clean

demo: $(VENV)/.installed
	$(BIN)/esg-transformers demo --output demo

# In two processes, each of up to 900 MB.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

# Without the tests that start processes or train.
test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

# transformers' own test mixins, from its source distribution, against our model, config and processor.
common-tests: $(VENV)/.installed-dev
	$(BIN)/python tests/common/run_common_tests.py

bench: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/network.py
	$(BIN)/python tests/benchmarks/corpus.py
	$(BIN)/python tests/benchmarks/metric.py
	$(BIN)/python tests/benchmarks/training.py
	$(BIN)/python tests/benchmarks/localization.py
	$(BIN)/python tests/benchmarks/startup.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/typos
	$(BIN)/mypy

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# constraints.txt pins torch to a version with a CPU build, before anything else can ask for a newer one.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable .
	touch $@

# What the tests need beyond that.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo
