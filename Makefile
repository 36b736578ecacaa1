# `make demo` and `make test` need python3 (>= 3.11, with pip and venv), nothing else.
# Another interpreter: `make test PYTHON=python3.13`.
PYTHON ?= python3
BIN := .venv/bin
FLOOR := .venv-floor/bin
NEWEST := .venv-newest/bin
KSERVE := .venv-kserve/bin
MLSERVER := .venv-mlserver/bin
RELEASE := .venv-release/bin
DOCS := .venv-docs/bin
SERVE_TESTS := deploy/skmode_deploy/serving deploy/tests/serving deploy/tests/operations
# These measure time or load, so they run alone; everything else takes both cores.
TIMED_TESTS := $(addprefix deploy/tests/serving/,transport test_faults.py test_lifecycle.py \
	test_load.py test_nginx.py test_workers.py)
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder $(patsubst %,--ignore=%,$(TIMED_TESTS) deploy/tests/distributed tests/distributed)
SOURCES := pyproject.toml deploy/pyproject.toml

.PHONY: demo demo-language test test-fast test-serve test-engines test-distributed test-examples \
	test-floor test-newest test-wheels coverage dist docs lint bench bench-serving league league-quick \
	clean

demo: .venv/installed
	$(BIN)/python demo/spam.py
	$(BIN)/python demo/churn.py

demo-language: .venv/installed
	$(BIN)/python demo/language.py

test: .venv/installed
	$(BIN)/python -m pytest $(PARALLEL)
	$(BIN)/python -m pytest $(TIMED_TESTS)

# Without the server's tests, which `make test-serve` runs, and schemathesis, a plugin of theirs that
# takes seconds to load; and without the examples of docstrings.
test-fast: .venv/installed
	$(BIN)/python -m pytest -m "not slow" -p no:schemathesis $(PARALLEL) $(patsubst %,--ignore=%,$(SERVE_TESTS)) \
		tests deploy/tests

test-serve: .venv/installed
	$(BIN)/python -m pytest $(SERVE_TESTS)

# What `make test` leaves out: Dask, Ray and Spark (which needs Java 17 on the path), which start
# servers of their own and change logging for whoever imports them; KServe's clients and MLServer,
# whose pins exclude newer packages of .venv; Lightning and Hugging Face's Trainer, which are large.
test-engines: test-distributed test-examples .venv-kserve/installed .venv-mlserver/installed
	$(KSERVE)/python -m pytest deploy/tests/serving/engine/test_kserve_clients.py \
		deploy/tests/operations/test_kserve.py
	$(MLSERVER)/python -m pytest deploy/tests/mlserver

test-distributed: .venv/installed-distributed
	$(BIN)/python -m pytest deploy/tests/distributed
	$(BIN)/python -m pytest tests/distributed

test-examples: .venv/installed-examples
	$(BIN)/python -m pytest tests/examples tests/benchmarks/test_translation.py

# The oldest releases that pyproject.toml admits.
test-floor: .venv-floor/installed
	$(FLOOR)/python -m pytest tests/estimators/test_estimator_contract.py tests/onnx deploy/tests

# The newest releases that exist, also beyond the upper bounds of pyproject.toml: what a bound must
# still exclude, and what it need not exclude any longer. torch stays that of constraints.txt.
test-newest: .venv-newest/installed
	$(NEWEST)/python -m pip install --quiet --upgrade scikit-learn skorch onnx onnxruntime skl2onnx
	$(NEWEST)/python -m pip freeze | grep -E '^(onnx|onnxruntime|scikit-learn|skl2onnx|skorch|torch)=='
	$(NEWEST)/python -m pytest -m "not slow" tests/onnx tests/estimators/test_estimator_contract.py

# Which lines and branches `make test` runs; measured in the server's own processes as well.
coverage: .venv/installed
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest --cov --cov-report= $(PARALLEL)
	$(BIN)/python -m pytest --cov --cov-append --cov-report= $(TIMED_TESTS)
	$(BIN)/python -m coverage xml
	$(BIN)/python -m coverage report

# Source archives, and the wheels that are built out of them, of both distributions.
dist: .venv-release/installed
	rm -rf dist
	$(RELEASE)/python -m build --outdir dist deploy
	$(RELEASE)/python -m build --outdir dist .
	$(RELEASE)/python -m twine check --strict dist/*

# The demo, copied out of the checkout, in a fresh environment that holds nothing but both wheels and
# what these need.
test-wheels: dist
	rm -rf .venv-wheels
	$(PYTHON) -m venv .venv-wheels
	.venv-wheels/bin/python -m pip install --quiet -c constraints.txt \
		dist/skmode_deploy-*.whl "$$(echo dist/skmode-*.whl)[plot]"
	sh .ci/run_wheels.sh .venv-wheels/bin demo/churn.py

# The site, as plain files in docs/_build/html. Its examples are run one after another.
docs: .venv-docs/installed
	OMP_NUM_THREADS=1 $(DOCS)/sphinx-build -W --keep-going -j 1 docs docs/_build/html

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks

# Needs wrk and hey as well: `apt-get install wrk hey`. KServe's own server is compared with.
bench-serving: .venv/installed .venv-kserve/installed
	$(BIN)/python -m benchmarks.serving $(KSERVE)/python

# Four hours at most, then from there at the next call. `make league-quick` takes minutes.
league: .venv/installed-league
	-$(BIN)/python -m benchmarks.tabular run --hours 4
	$(BIN)/python -m benchmarks.tabular latency
	$(BIN)/python -m benchmarks.tabular report

league-quick: .venv/installed-league
	$(BIN)/python -m benchmarks.tabular run --quick
	$(BIN)/python -m benchmarks.tabular report --quick

clean:
	rm -rf .venv .venv-floor .venv-newest .venv-kserve .venv-mlserver .venv-release .venv-wheels .venv-docs
	rm -rf build dist deploy/build deploy/dist *.egg-info deploy/*.egg-info
	rm -rf .coverage* coverage.xml .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache demo/output
	rm -rf docs/_build docs/gallery docs/api/generated docs/pictures docs/changelog.md docs/contributing.md docs/evidence/ablations.md
	rm -f $(filter-out %/index.md, $(wildcard docs/operate/*.md docs/reference/*.md))

# "installed" is touched last: an interrupted installation starts over.
.venv/installed: $(SOURCES) constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt \
		-e './deploy[image,parquet,serve,signing]' -e '.[serve-test,test]'
	touch $@

.venv/installed-bench: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

.venv/installed-league: .venv/installed-bench
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[league]'
	touch $@

.venv/installed-distributed: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e './deploy[dask,ray,spark]' -e '.[dask,ray]'
	touch $@

.venv/installed-examples: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[examples]'
	touch $@

.venv-docs/installed: $(SOURCES) constraints.txt
	$(PYTHON) -m venv .venv-docs
	$(DOCS)/python -m pip install --quiet -c constraints.txt \
		-e './deploy[image,parquet,serve,signing]' -e '.[docs]'
	touch $@

.venv-release/installed: Makefile
	$(PYTHON) -m venv .venv-release
	$(RELEASE)/python -m pip install --quiet 'build>=1.2' 'twine>=6.1'
	touch $@

.venv-kserve/installed: deploy/pyproject.toml constraints-kserve.txt
	$(PYTHON) -m venv .venv-kserve
	$(KSERVE)/python -m pip install --quiet -c constraints-kserve.txt \
		-e './deploy[serve]' 'kserve>=0.21,<0.22' onnx jsonschema pytest \
		pytest-timeout pyyaml
	touch $@

.venv-mlserver/installed: deploy/pyproject.toml constraints-mlserver.txt
	$(PYTHON) -m venv .venv-mlserver
	$(MLSERVER)/python -m pip install --quiet -c constraints-mlserver.txt \
		-e './deploy[mlserver]' onnx pytest pytest-timeout 'tritonclient[grpc,http]'
	touch $@

.venv-floor/installed: $(SOURCES) constraints-floor.txt
	$(PYTHON) -m venv .venv-floor
	$(FLOOR)/python -m pip install --quiet -c constraints-floor.txt \
		-e './deploy[image,parquet,serve,signing]' -e '.[test]' httpx psutil
	touch $@

.venv-newest/installed: $(SOURCES) constraints.txt
	$(PYTHON) -m venv .venv-newest
	$(NEWEST)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)" \
		-e './deploy[image,parquet,serve,signing]' -e '.[test]'
	touch $@
