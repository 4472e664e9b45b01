# Two commands matter: `make quickstart` and `make test`. Both install what they need on a machine that has
# Linux, python3 (3.11 or newer), make and git; nothing outside this folder and the user's cache is touched.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A version such as 3.12 picks the interpreter; the range takes the first that fits.
PYTHON ?= >=3.11,<3.15
JOBS ?= 2
ARGS ?=

# uv from PATH where it runs (a pyenv shim may be there and not run), else a private copy.
UV := $(if $(shell uv --version 2>/dev/null),uv,.venv-uv/bin/uv)
BIN := .venv/bin
STAMP := .venv/.installed

# Compiled programs outlive the process: a second run of anything skips XLA.
export JAX_COMPILATION_CACHE_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/scaling/jax

.PHONY: help install quickstart test lint format lock clean

help:
	@echo "make quickstart   the whole pipeline on generated motion (ARGS='--motions DIR' for real clips)"
	@echo "make test         every test (ARGS='-m \"not slow\"' for the quick ones)"
	@echo "make lint         ruff and mypy        make format   what lint can mend"
	@echo "make install      only the environment, in .venv (PYTHON=3.12 picks the interpreter)"
	@echo "make lock         requirements.lock from pyproject.toml (ARGS=--upgrade for newer versions)"
	@echo "make clean        the environment and the caches of this folder; never a result"

install: $(STAMP)
	@:

# `sync` and not `install`: an old environment then equals a fresh one.
$(STAMP): pyproject.toml requirements.lock | $(filter .venv-uv/%,$(UV))
	@quiet=-q; [ -t 2 ] && quiet=; \
	$(BIN)/python -c '' 2>/dev/null || $(UV) venv -q --clear --python '$(PYTHON)' .venv; \
	echo "installing into .venv ($$($(BIN)/python -V))" >&2; \
	$(UV) pip sync $$quiet --python $(BIN)/python requirements.lock; \
	$(UV) pip install -q --python $(BIN)/python --no-deps -e .; \
	touch $@

.venv-uv/bin/uv:
	@.ci/get-uv .venv-uv

quickstart: install
	@$(BIN)/scaling quickstart $(ARGS)

# A file's tests stay on one worker, so that its fixtures compile once.
test: install
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Universal (3.11 to 3.14), hashed, free of addresses: installs come from whatever index the machine is set to.
lock: | $(filter .venv-uv/%,$(UV))
	@$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --custom-compile-command "make lock" --extra train --extra dev $(ARGS) \
	  pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .venv-uv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
