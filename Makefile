PYTHON ?= python3
BIN := .venv/bin
PORT ?= 3000
DAYS ?= 60

.PHONY: demo quick test test-all test-lake test-pipeline-on-lake test-engines ui lint reference audit

demo: .venv/.ready
	$(BIN)/pwflow demo --days $(DAYS)

# Tests write and flush much that need not last: into memory, where there is room for it.
ROOM := $(shell df --block-size=1G --output=avail /dev/shm 2>/dev/null | tail -1)
ifeq ($(shell test "$(strip $(ROOM))" -ge 8 2>/dev/null && echo yes),yes)
export PYTEST_DEBUG_TEMPROOT := /dev/shm
endif

# What the three tiers are: tests/conftest.py.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

quick: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(PYTEST) -m quick

test: .venv/.ready
	$(PYTEST) --durations=50 --durations-min=1

test-all: .venv/.ready
	$(PYTEST) -m "" --hypothesis-profile=night --durations=50 --durations-min=1

# A lake runs on the DuckDB that its extensions fit, which lies before the other one on the path.
test-lake: .venv/.ready build/lake/.ready
	PYTHONPATH=$(CURDIR)/build/lake OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(addprefix tests/warehouse/test_,backup.py lake.py spill.py store.py)

# The tests of the pipeline on a lake, for the night.
test-pipeline-on-lake: .venv/.ready build/lake/.ready
	PYTHONPATH=$(CURDIR)/build/lake PWFLOW_TEST_WAREHOUSE=ducklake:///lake $(PYTEST) tests/pipeline

# What launches runs in Docker and Kubernetes, and keeps them in Postgres.
test-engines: .venv/.ready build/engines/.ready
	PYTHONPATH=$(CURDIR)/build/engines OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/dagster/test_engines.py

build/%/.ready: constraints-%.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/$* \
		--requirement constraints-$*.txt
	@touch $@

ui: .venv/.ready
	$(BIN)/pwflow ui --port $(PORT)

lint: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/mypy

reference: .venv/.ready
	$(BIN)/python -m pwflow_dagster.reference docs/reference

audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --strict --requirement constraints.txt --disable-pip --no-deps

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Expected Python 3.11 or newer, got {sys.version.split()[0]}: run `make PYTHON=python3.11 demo`.")'
	@echo "Setting up .venv; this takes a few minutes the first time."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
