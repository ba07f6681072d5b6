# `make book` and `make test` are all a reader needs; `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first Python on the path that is 3.11 to 3.13; `make PYTHON=python3.12 …` takes another.
FIND_PYTHON := for p in python3.11 python3.12 python3.13 python3 python; do \
  $$p -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
  >/dev/null 2>&1 && echo $$p && break; done
PYTHON ?= $(shell $(FIND_PYTHON))
# One more than the two cores of a small machine: some tests wait for minutes, and have begun first.
WORKERS ?= 3

BIN := .venv/bin
RUN := $(BIN)/python
HTML := _build/html/index.html
CODE := $(shell find lab_utils tools book/_ext -name '*.py' -o -name '*.json' 2>/dev/null)
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
RUNNING := $(shell grep -l '^kernelspec:' book/*.md 2>/dev/null)
PAGES := _config.yml _toc.yml $(shell find book -type f -not -name '*.py[co]' 2>/dev/null)

# Nothing of the reader's own set-up may change an output: no progress bars, no
# personal IPython start-up files, no personal matplotlibrc, AWS profile or target.
QUIET := env -u LAB_TARGET -u AWS_PROFILE -u PYTHONSTARTUP LAB_PROGRESS=0 PYTHONUTF8=1 \
  MPLCONFIGDIR=$(CURDIR)/.venv/share/matplotlib IPYTHONDIR=$(CURDIR)/.venv/share/ipython

.PHONY: help venv book test lab accept lint pytest notebooks lock clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | \
	  while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

venv: .venv/.ready ## make .venv from requirements.lock

book: $(HTML) ## execute every notebook and build _build/html/index.html
	@echo "The book is built: open $(HTML)"

test: lint $(HTML) pytest notebooks ## everything CI does

lab: .venv/.ready ## open JupyterLab on the notebooks
	@$(BIN)/jupyter lab --notebook-dir=notebooks

# All of them and the pages that run, or those that NOTEBOOKS names on the command line.
accept: .venv/.ready ## run the notebooks again and save what they print and draw
	@$(QUIET) $(RUN) tools/notebooks.py accept $(NOTEBOOKS) $(if $(filter file,$(origin NOTEBOOKS)),$(RUNNING))

lint: .venv/.dev ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check lab_utils tests tools book/_ext
	@$(BIN)/mypy

pytest: $(HTML) .venv/.dev ## the tests of the lab, the notebooks' form and the built book
	@$(QUIET) $(RUN) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

notebooks: .venv/.dev ## compare every output of every notebook with what is committed
	@$(QUIET) PYTHONPATH=$(CURDIR)/tests/guard $(RUN) -m pytest \
	  --nbval --nbval-current-env --nbval-cell-timeout=120 -n $(WORKERS) --dist loadscope $(NOTEBOOKS)

UV_LOCK := env -u PIP_FIND_LINKS -u UV_FIND_LINKS $(BIN)/uv pip compile --quiet --upgrade \
  --universal --python-version 3.11 --fork-strategy fewest --no-emit-index-url \
  --no-emit-find-links --custom-compile-command 'make lock'

lock: ## resolve both locks anew: one version of everything, for every Python and system
	@test -x $(RUN) || $(PYTHON) -m venv .venv
	@$(RUN) -m pip install -qq uv
	@$(UV_LOCK) -o requirements.lock requirements.txt
	@$(UV_LOCK) -o requirements-dev.lock -c requirements.lock requirements.txt requirements-dev.txt

clean: ## remove everything that was made, .venv too
	rm -rf .venv _build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A new lock means a new .venv: nothing of the old one may stay behind.
.venv/.locked: requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with venv found: install one, \
	or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making .venv with $(PYTHON): about a minute"
	@$(PYTHON) -m venv --clear .venv
	@$(RUN) -m pip install -qq --disable-pip-version-check --no-compile -r requirements.lock
	@$(RUN) -m compileall -q -j 0 .venv/lib >/dev/null || true
	@touch $@

.venv/.ready: .venv/.locked pyproject.toml
	@$(RUN) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(QUIET) $(RUN) -c 'import matplotlib.font_manager'
	@touch $@

.venv/.dev: .venv/.ready requirements-dev.lock
	@echo "Adding what the tests need"
	@$(RUN) -m pip install -qq --disable-pip-version-check -r requirements-dev.lock
	@touch $@

# Sphinx always starts from nothing, because a second run is silent about what failed in the
# first. Executed notebooks are kept from build to build as long as the code under them is the same.
$(HTML): .venv/.ready $(CODE) $(NOTEBOOKS) $(PAGES)
	@rm -rf _build/html _build/.doctrees
	@$(QUIET) $(RUN) tools/notebooks.py execute $(NOTEBOOKS) $(RUNNING)
	@$(QUIET) $(BIN)/jupyter-book build . -q --warningiserror --keep-going
	@touch $@
