# `make demo` and `make test` work on a fresh machine with Python >= 3.11 and make: both set everything up first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Ray brings processes of its own: what starts it runs by itself, the rest on several cores, a file in one process.
DEFAULT := not slow and not gpu and not fuzz and not chaos
define tests
	$(RUN) -m pytest -q -n auto --maxprocesses 4 --dist loadfile -m "($(1)) and not ray"
	$(RUN) -m pytest -q -m "($(1)) and ray"
endef
UV_VERSION := 0.13.9
# A shim that is on PATH but does not run counts as absent.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)

.PHONY: help setup demo test check lint types format bench lock clean uv

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: $(STAMP) ## create .venv from the pinned lock (about a minute; nothing to do when it is current)

demo: setup ## label the sample room raw and lifted, compare both with ground truth, write a report to out/demo
	$(RUN) jobs/demo.py

test: setup ## the default tests, on up to four cores
	$(call tests,$(DEFAULT))

check: lint ## what CI runs: lint, types, every test that needs no GPU
	$(call tests,not gpu)

lint: setup types ## ruff (rules and format) and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: setup
	$(RUN) -m mypy

format: setup ## apply ruff's fixes and format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: setup ## time lifting on the sample room: against a GNT-style renderer, by stage, and beside raw labelling
	$(RUN) -m jobs.cli benchmark speed

lock: $(UV) ## resolve pyproject.toml into requirements.lock (keeps pins; make lock UPGRADE=--upgrade renews them)
	$(UV) pip compile pyproject.toml --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
	  --extra s3 --extra open-clip --extra indoor --extra efficientnet --extra words --extra onnx --extra hf --extra torchvision --extra diffusers \
	  --extra benchmark --extra dev \
	  --no-annotate --no-header --output-file requirements.lock

clean: ## remove everything that make wrote
	rm -rf $(VENV) .uv build dist out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python >= 3.11 is needed; name one with `make PYTHON=python3.12 ...`.' >&2; exit 1; }
	test -x $(RUN) || $(UV) venv --quiet --python "$$(command -v $(PYTHON))" $(VENV)
	VIRTUAL_ENV=$(VENV) $(UV) pip install --no-deps --require-hashes --compile-bytecode -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

uv: ;

# No environment of the system is touched: uv lives in a folder of its own.
.uv/bin/uv:
	$(PYTHON) -m venv .uv 2>/dev/null || { rm -rf .uv && mkdir .uv; }
	if [ -x .uv/bin/pip ]; then .uv/bin/pip install --quiet uv==$(UV_VERSION); \
	else $(PYTHON) -m pip install --quiet --target .uv uv==$(UV_VERSION); fi
