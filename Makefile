# Everything on a fresh machine: `make run` and `make test` set themselves up in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run results test test-slow lint format clean
.DELETE_ON_ERROR:

run: $(INSTALLED)  ## train and evaluate on a rendered stand-in, and write a report
	$(BIN)/python experiments/run.py --exp=batch_contrastive_market

results: $(INSTALLED)  ## make experiments/results/ anew: a day on a laptop; stopped, it goes on
	$(BIN)/python experiments/make_results.py

# A file's tests stay in one process, for its fixtures are made once.
PYTEST := $(BIN)/python -m pytest -q --numprocesses=auto --dist=loadfile

# XLA's older emitter of loops compiles an operation in half the time. Tests that compare two programs
# bit for bit are slow ones, for they need the emitter that users have. A later jaxlib than that of
# constraints.txt may not know the flag, and XLA ends a process for one that it does not know.
test: lint  ## ruff, mypy and all tests but the slow ones
	XLA_FLAGS="$$XLA_FLAGS --xla_cpu_use_fusion_emitters=false" $(PYTEST) -m "not slow"

test-slow: $(INSTALLED)  ## the slow tests
	$(PYTEST) -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("reid_jax needs Python 3.11 or newer, this is %d.%d: give another with make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@
