# Needs only Python >= 3.11 and make. Everything is installed into .venv, except the Debian packages that tests need.
PYTHON ?= python3
BIN := .venv/bin
SOAK_MINUTES ?= 60

.DEFAULT_GOAL := help
.PHONY: help train test thorough lint bench soak leaderboard slurm-up slurm-down clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

train: .venv/installed  ## install, then train: four gossiping workers on handwritten digits
	$(BIN)/sgp-train

test: .venv/installed-dev  ## install, Debian packages such as SLURM included, then run all tests
	@$(BIN)/python -m tests.support.install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

thorough: .venv/installed-dev  ## hours: the tests, with many more examples, damaged files, hangs, kills and interruptions
	SGP_EXAMPLES=20 SGP_FUZZ_CASES=1000 SGP_HANG_CASES=20 SGP_KILLS=5 SGP_INTERRUPTIONS=10 \
		$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --timeout=0

lint: .venv/installed-dev  ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed  ## measure what a step of each algorithm costs beside torch DDP, stragglers, and starting a run
	$(BIN)/python benchmarks/step_overhead.py
	$(BIN)/python benchmarks/stragglers.py
	$(BIN)/python benchmarks/launch.py

soak: .venv/installed  ## an hour (SOAK_MINUTES) of sweeps, kills and resumptions: does anything grow?
	$(BIN)/python benchmarks/soak.py --minutes $(SOAK_MINUTES)

leaderboard: .venv/installed  ## every algorithm on data that differ from worker to worker: docs/leaderboard.md, in minutes
	$(BIN)/python benchmarks/leaderboard.py --json docs/results/leaderboard.json
	$(BIN)/python docs/make_leaderboard.py

slurm-up: .venv/installed-dev  ## start a SLURM cluster of four nodes on this machine (root installs the Debian packages)
	$(BIN)/python -m tests.slurm.lab up

slurm-down: .venv/installed-dev  ## stop that cluster and its jobs
	$(BIN)/python -m tests.slurm.lab down

clean:  ## remove the environment, caches and built files; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev]'
	@touch $@ .venv/installed
