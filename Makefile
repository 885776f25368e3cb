# Everything runs in a virtual environment of its own, made on first use: `make demo` and `make test` need nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast coverage lint docs format

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make the virtual environment and install the pinned packages

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: $(READY)  ## collect, train, predict and plan on Reacher; figures and summary in runs/demo
	$(BIN)/ebm-control demo --out runs/demo

# In as many processes as there are cores (at most 4), one thread each.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test: $(READY)  ## run all tests
	$(PYTEST)

test-fast: $(READY)  ## run the tests that neither train for seconds nor start processes
	$(PYTEST) -m "not slow"

coverage: $(READY)  ## run all tests and print which lines of the library and the environments they miss
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: $(READY) docs  ## ruff, mypy, the layers and the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(READY)  ## put the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
