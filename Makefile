# `make reproduce` measures every claim at the smoke preset; `make test` runs the tests.
# Both make .venv if it is missing and install what they need into it.
PYTHON ?= python3
PRESET ?= smoke
WORKDIR ?= out/reproduce$(if $(filter-out smoke,$(PRESET)),-$(PRESET))
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help reproduce test test-slow lint format peers clean

help:
	@echo "make reproduce   every system at PRESET=smoke (small: out/reproduce-small), JOBS=2 at a time"
	@echo "make test        the test suite;  make test-slow  with the long ones"
	@echo "make lint        ruff, the import contract, mypy;  make format  rewrites the files"
	@echo "make peers       the packages that tests and benchmarks compare with (large)"

reproduce: $(VENV)/.systems
	$(BIN)/python scripts/reproduce.py --preset=$(PRESET) --workdir=$(WORKDIR) --jobs=$(JOBS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

peers: $(VENV)/.peers

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.%: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
