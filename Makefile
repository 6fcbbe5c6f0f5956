# make run    a fresh machine -> virtual environment, pinned dependencies, `sidecar demo`
# make test   a fresh machine -> everything the tests need, lint, then every test
#
# Needs make and Python 3.11 or later; another interpreter: make PYTHON=python3.12 run

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# More processes: make test PYTEST_ARGS="-n 2"; one file: make test PYTEST_ARGS=tests/policy
PYTEST_ARGS ?=
DEMO_ARGS   ?=
BENCH_ARGS  ?=
FUZZ_ARGS   ?=

.PHONY: run test soak lint format bench fuzz docs lock clean help
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help:
	@sed -n '1,4s/^# \{0,1\}//p' Makefile
	@echo "make soak lint format bench fuzz docs lock clean"

run: $(VENV)/run.stamp
	$(BIN)/sidecar demo $(DEMO_ARGS)

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The long forms of the tests: hours of traffic, floods and faults.
soak: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m soak --timeout 14400 $(PYTEST_ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

fuzz: $(VENV)/test.stamp
	$(BIN)/python -m fuzz $(FUZZ_ARGS)

# What editors complete the YAML from, and the tables of every key.
docs: $(VENV)/run.stamp
	$(BIN)/sidecar schema > docs/config.schema.json
	$(BIN)/python docs/keys.py

# The tools of the tests hold everything that a run needs, in the same versions.
$(VENV)/test.stamp: requirements/test.txt $(VENV)/run.stamp
	$(PIP) install --quiet --require-hashes --requirement requirements/test.txt
	@touch $@

$(VENV)/run.stamp: requirements/run.txt requirements/build.txt pyproject.toml $(VENV)/venv.stamp
	$(PIP) install --quiet --require-hashes --requirement requirements/build.txt --requirement requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/venv.stamp:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "$(PYTHON) was not found: install Python 3.11 or later, or name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) --version) is too old: 3.11 or later is needed; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) comes without venv: install it, on Debian and Ubuntu by: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Remakes the pinned and hashed lists in requirements/ for every platform and Python from 3.11 on.
# Each takes the versions of the one before it, so that the tests run what a user runs.
# Newer versions of everything: make lock LOCK_ARGS=--upgrade
lock: $(VENV)/venv.stamp
	$(PIP) install --quiet --upgrade "uv>=0.5"
	$(LOCK) --group build --output-file requirements/build.txt
	$(LOCK) --output-file requirements/run.txt pyproject.toml
	$(LOCK) --constraint requirements/run.txt --constraint requirements/build.txt \
	  --all-extras --group test --group lint --output-file requirements/test.txt pyproject.toml

LOCK = $(BIN)/uv --quiet --no-config pip compile --universal --python-version 3.11 --generate-hashes \
  --no-strip-extras --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find sidecar tests benchmarks fuzz docs -name __pycache__ -type d -prune -exec rm -rf {} +
