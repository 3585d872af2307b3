# Two commands: `make run` executes every lesson, `make test` runs the whole test suite.
# Each sets up .venv by itself; nothing is installed outside this directory.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN   := .venv/bin
READY := .venv/.ready
LESSONS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help run test lab check format bench clean

help:
	@echo "make run     execute every lesson and its solutions; the report is build/run/index.html"
	@echo "make test    run the whole test suite"
	@echo "make lab     open JupyterLab on the first lesson"
	@echo "make bench   measure start-up, switching and memory"
	@echo "make check   lint, types, import rules, stripped notebooks"
	@echo "make clean   remove .venv and build"

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Install it, or name it: make PYTHON=/path/to/python3" >&2; exit 3; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "$(PYTHON) cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 3; }
	@echo "Installing into .venv (about a minute the first time) ..."
	@test -w "$$HOME" || export PIP_NO_CACHE_DIR=1; $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(READY)
	$(BIN)/labkit run --solutions --jobs 2 $(LESSONS)

test: $(READY)
	$(BIN)/python -m pytest

lab: $(READY)
	$(BIN)/labkit lab

bench: $(READY)
	$(BIN)/python -m tests.bench

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --keep-id --verify $$(git ls-files 'notebooks/*.ipynb')

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout --keep-id $$(git ls-files 'notebooks/*.ipynb')

clean:
	rm -rf .venv build
