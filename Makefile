# Two commands for everybody: `make evaluate` and `make test`. Both make the environment where it is missing.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: evaluate test test-all bench docs lint types clean

evaluate: $(INSTALLED)
	$(VENV)/bin/mdbench evaluate --predictor trained_l3

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(INSTALLED)
	$(VENV)/bin/python -m pytest

bench: $(INSTALLED)
	$(VENV)/bin/python tests/benchmarks/bench.py

docs: $(INSTALLED)  # into build/site, with examples/tour.py run anew: a minute
	$(VENV)/bin/mkdocs build --strict

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(INSTALLED)
	rm -rf build/types && mkdir -p build/types
	cp -r mdbench build/types/ && cp -r tasks baselines build/types/mdbench/ && rm -rf build/types/mdbench/predictors/weights
	cd build/types && MYPYPATH=. $(abspath $(VENV))/bin/python -m mypy --config-file $(CURDIR)/pyproject.toml -p mdbench

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
