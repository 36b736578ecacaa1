# `make demo` and `make test` need python3 (>= 3.11, with pip and venv), nothing else.
# Another interpreter: `make test PYTHON=python3.13`.
PYTHON ?= python3
BIN := .venv/bin
FLOOR := .venv-floor/bin
SOURCES := pyproject.toml deploy/pyproject.toml

.PHONY: demo test test-fast test-floor lint bench league league-quick clean

demo: .venv/installed
	$(BIN)/python demo/churn.py

test: .venv/installed
	$(BIN)/python -m pytest

test-fast: .venv/installed
	$(BIN)/python -m pytest -m "not slow"

# The oldest releases that pyproject.toml admits.
test-floor: .venv-floor/installed
	$(FLOOR)/python -m pytest tests/test_estimator_contract.py tests/onnx deploy/tests

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks

# Four hours at most, then from there at the next call. `make league-quick` takes minutes.
league: .venv/installed-league
	-$(BIN)/python -m benchmarks.tabular run --hours 4
	$(BIN)/python -m benchmarks.tabular report

league-quick: .venv/installed-league
	$(BIN)/python -m benchmarks.tabular run --quick
	$(BIN)/python -m benchmarks.tabular report --quick

clean:
	rm -rf .venv .venv-floor build dist deploy/build deploy/dist *.egg-info deploy/*.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache demo/output

# "installed" is touched last: an interrupted installation starts over.
.venv/installed: $(SOURCES) constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e './deploy[parquet,signing]' -e '.[test]'
	touch $@

.venv/installed-bench: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

.venv/installed-league: .venv/installed-bench
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[league]'
	touch $@

.venv-floor/installed: $(SOURCES) constraints-floor.txt
	$(PYTHON) -m venv .venv-floor
	$(FLOOR)/python -m pip install --quiet -c constraints-floor.txt -e './deploy[parquet,signing]' -e '.[test]'
	touch $@
