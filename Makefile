# Everything runs in a virtual environment of its own, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test common-tests check bench clean

demo: $(VENV)/.installed
	$(BIN)/esg-transformers demo --output demo

# In two processes, each of up to 900 MB: 11 minutes on two cores.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

# transformers' own test mixins, from its source distribution, against our model, config and processor.
common-tests: $(VENV)/.installed-dev
	$(BIN)/python tests/common/run_common_tests.py

bench: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/network.py
	$(BIN)/python tests/benchmarks/corpus.py
	$(BIN)/python tests/benchmarks/metric.py
	$(BIN)/python tests/benchmarks/training.py
	$(BIN)/python tests/benchmarks/localization.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# constraints.txt pins torch to a version with a CPU build, before anything else can ask for a newer one.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# What the tests need beyond that.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo
