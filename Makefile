# The commands of Meshwork. A newcomer needs two: `make up` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

.PHONY: help up test check format generate starters bench clean

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch comes first: asked for by another package, pip would take its newest build.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Meshwork needs Python 3.11 or newer: make PYTHON=python3.11 up")'
	@echo "installing into $(VENV), a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mesh]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@echo "installing what tests and checks need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m tests.interop.environment
	@touch $@

up: $(VENV)/.ready ## Install, and run the whole mesh in this terminal
	@$(BIN)/meshwork up

test: $(VENV)/.ready-dev ## Run all tests
	$(BIN)/python -m pytest

check: $(VENV)/.ready-dev ## Say whether the tree is clean: format, lint, types, generated code, protos
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m tools.generate --check
	$(BIN)/python -m tools.envoy_descriptors --check
	$(BIN)/python -m tools.dashboards --check
	$(BIN)/buf lint meshwork/descriptors.binpb --config buf.yaml

format: $(VENV)/.ready-dev ## Format the code and mend what can be mended
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

generate: $(VENV)/.ready-dev ## Make the generated code from protos/
	$(BIN)/python -m tools.generate
	$(BIN)/python -m tools.envoy_descriptors
	$(BIN)/python -m tools.dashboards

starters: $(VENV)/.ready-dev ## Train and measure the starter models from nothing
	$(BIN)/python -m training

bench: $(VENV)/.ready-dev ## Run all benchmarks and print a table
	$(BIN)/python -m benchmarks

clean: ## Remove what was installed and cached
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
