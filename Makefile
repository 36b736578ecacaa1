# `make demo` and `make test` need python3 (>= 3.11, with pip and venv), nothing else.
# Another interpreter: `make test PYTHON=python3.13`.
PYTHON ?= python3
BIN := .venv/bin
FLOOR := .venv-floor/bin
NEWEST := .venv-newest/bin
SERVE := .venv-serve/bin
MLSERVER := .venv-mlserver/bin
SERVE_TESTS := deploy/skmode_deploy/serving deploy/tests/serving deploy/tests/operations
SOURCES := pyproject.toml deploy/pyproject.toml

.PHONY: demo test test-fast test-serve test-distributed test-floor test-newest lint bench \
	bench-serving league league-quick clean

demo: .venv/installed
	$(BIN)/python demo/churn.py

# Three environments: the server's packages exclude newer ones of the others. Only what needs them
# runs in theirs.
test: .venv/installed .venv-serve/installed .venv-mlserver/installed
	$(MLSERVER)/python -m pytest deploy/tests/mlserver deploy/tests/cli/test_triton.py
	$(SERVE)/python -m pytest $(SERVE_TESTS)
	$(BIN)/python -m pytest

test-fast: .venv/installed
	$(BIN)/python -m pytest -m "not slow"

test-serve: .venv-serve/installed
	$(SERVE)/python -m pytest $(SERVE_TESTS)

# Dask, Ray and Spark (which needs Java 17 on the path): they start servers of their own, and change
# logging for whoever imports them.
test-distributed: .venv-serve/installed
	$(SERVE)/python -m pytest deploy/tests/distributed

# The oldest releases that pyproject.toml admits.
test-floor: .venv-floor/installed
	$(FLOOR)/python -m pytest tests/estimators/test_estimator_contract.py tests/onnx deploy/tests

# The newest releases that exist, also beyond the upper bounds of pyproject.toml: what a bound must
# still exclude, and what it need not exclude any longer. torch stays that of constraints.txt.
test-newest: .venv-newest/installed
	$(NEWEST)/python -m pip install --quiet --upgrade scikit-learn skorch onnx onnxruntime skl2onnx
	$(NEWEST)/python -m pip freeze | grep -E '^(onnx|onnxruntime|scikit-learn|skl2onnx|skorch|torch)=='
	$(NEWEST)/python -m pytest -m "not slow" tests/onnx tests/estimators/test_estimator_contract.py

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks

# Needs wrk and hey as well: `apt-get install wrk hey`.
bench-serving: .venv-serve/installed
	$(SERVE)/python -m benchmarks.serving

# Four hours at most, then from there at the next call. `make league-quick` takes minutes.
league: .venv/installed-league
	-$(BIN)/python -m benchmarks.tabular run --hours 4
	$(BIN)/python -m benchmarks.tabular report

league-quick: .venv/installed-league
	$(BIN)/python -m benchmarks.tabular run --quick
	$(BIN)/python -m benchmarks.tabular report --quick

clean:
	rm -rf .venv .venv-floor .venv-newest .venv-serve .venv-mlserver build dist deploy/build deploy/dist *.egg-info deploy/*.egg-info
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

.venv-serve/installed: $(SOURCES) constraints-serve.txt
	$(PYTHON) -m venv .venv-serve
	$(SERVE)/python -m pip install --quiet -c constraints-serve.txt \
		-e './deploy[dask,parquet,ray,serve,signing,spark]' -e '.[serve-test]'
	touch $@

.venv-mlserver/installed: deploy/pyproject.toml constraints-mlserver.txt
	$(PYTHON) -m venv .venv-mlserver
	$(MLSERVER)/python -m pip install --quiet -c constraints-mlserver.txt \
		-e './deploy[mlserver]' onnx pytest 'tritonclient[grpc,http]'
	touch $@

.venv-floor/installed: $(SOURCES) constraints-floor.txt
	$(PYTHON) -m venv .venv-floor
	$(FLOOR)/python -m pip install --quiet -c constraints-floor.txt -e './deploy[parquet,signing]' -e '.[test]'
	touch $@

.venv-newest/installed: $(SOURCES) constraints.txt
	$(PYTHON) -m venv .venv-newest
	$(NEWEST)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)" \
		-e './deploy[parquet,signing]' -e '.[test]'
	touch $@
