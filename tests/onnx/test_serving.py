"""Served predictions equal the estimator's: on any table, in any process and thread."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import skmode_deploy
from skmode.onnx import export

pytestmark = pytest.mark.filterwarnings("ignore:Each expert should get some rows")

N_TRAIN = 80
CITIES = ["Bern", "Köln", "Łódź", "a b/c", " "]
# Mostly few, and now and then more experts than a batch has rows.
N_EXPERTS = st.integers(1, 9) | st.integers(10, 70)
# The same examples in each run: a change that has nothing to do with this must not fail here.
# To look for more, set HYPOTHESIS_RANDOM=1.
SETTINGS = settings(
    deadline=None,
    derandomize=not os.environ.get("HYPOTHESIS_RANDOM"),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
WAYS = [{}, {"strategy": "split", "max_loaded_experts": 2}]


def numbers(dtype):
    return lambda rng, n: pd.Series(rng.normal(size=n) * 10.0 ** rng.integers(-2, 4)).astype(dtype)


def integers(dtype):
    return lambda rng, n: pd.Series(rng.integers(0, 50, n)).astype(dtype)


def strings(dtype):
    return lambda rng, n: pd.Series(rng.choice(CITIES, n), dtype=dtype)


COLUMNS = {
    "float64": numbers("float64"),
    "float32": numbers("float32"),
    "Float64": numbers("Float64"),
    "int64": integers("int64"),
    "uint8": integers("uint8"),
    "Int64": integers("Int64"),
    "bool": lambda rng, n: pd.Series(rng.random(n) < 0.5),
    "boolean": lambda rng, n: pd.Series(rng.random(n) < 0.5).astype("boolean"),
    "object": strings(object),
    "string": strings("string"),
    "category": strings("category"),
    "number category": lambda rng, n: pd.Series(rng.choice([1.5, -2.0, 7.0], n)).astype("category"),
}
CAN_MISS = {"float64", "float32", "Float64", "Int64", "boolean", "object", "string", "category",
            "number category"}  # fmt: skip


def make_table(kinds, missing, n_rows, seed):
    """Columns of the given kinds, of which some miss some values, or all in their first row."""
    rng = np.random.default_rng(seed)
    table = {}
    for i, (kind, rate) in enumerate(zip(kinds, missing, strict=True)):
        values = COLUMNS[kind](rng, n_rows)
        if rate and kind in CAN_MISS:
            values = values.mask(rng.random(n_rows) < rate)
        table[f"{kind} {i}"] = values
    return pd.DataFrame(table)


def with_unseen(frame):
    """Every third string is one that training did not see."""
    frame = frame.copy()
    for name in frame:
        if name.startswith(("object", "string")):
            frame.loc[frame.index % 3 == 0, name] = "never seen"
    return frame


@pytest.mark.slow
@given(
    columns=st.lists(
        st.tuples(st.sampled_from(sorted(COLUMNS)), st.sampled_from([0.0, 0.3])),
        min_size=1,
        max_size=6,
    ),
    n_experts=N_EXPERTS,
    hidden_layer_sizes=st.sampled_from([(3,), (8,), (17, 4), (5, 6, 7)]),
    gate=st.sampled_from(["dense", "sparse"]),
    routing=st.sampled_from(["top_expert", "mixture"]),
    n_rows=st.integers(0, 70),
    seed=st.integers(0, 10**6),
)
@settings(SETTINGS, max_examples=30)
def test_parity_on_any_table(
    columns, n_experts, hidden_layer_sizes, gate, routing, n_rows, seed, fit_classifier, tmp_path
):
    kinds, missing = zip(*columns, strict=True)
    estimator = fit_classifier(
        make_table(kinds, missing, N_TRAIN, seed),
        n_experts=n_experts,
        hidden_layer_sizes=hidden_layer_sizes,
        gate=gate,
        top_k=min(2, n_experts),
        inference=routing,
    )
    export(estimator, tmp_path / "bundle", routing=routing)
    X = with_unseen(make_table(kinds, missing, n_rows + 1, seed + 1))[:n_rows]
    ways = WAYS if routing == "top_expert" or n_experts == 1 else WAYS[:1]
    for way in ways:
        served = skmode_deploy.load(tmp_path / "bundle", **way)
        label, probabilities, expert, certainty = served.predict_full(X)
        if n_rows == 0:  # which the estimator refuses
            assert probabilities.shape == (0, 3)
            assert label.shape == expert.shape == certainty.shape == (0,)
            continue
        assert_allclose(probabilities, estimator.predict_proba(X), rtol=0, atol=1e-5)
        assert_array_equal(expert, estimator.route(X))
        assert_array_equal(label, estimator.classes_[probabilities.argmax(axis=1)])
        gate_proba = estimator.gate_proba(X)
        assert_allclose(certainty, gate_proba[np.arange(n_rows), expert], rtol=0, atol=1e-5)
        assert_array_equal(served.predict_proba(X), probabilities)
        assert_array_equal(served.route(X), expert)


@pytest.mark.slow
@given(
    n_columns=st.integers(1, 6),
    n_outputs=st.integers(1, 3),
    n_experts=N_EXPERTS,
    dtype=st.sampled_from([np.float32, np.float64, np.int64, bool]),
    missing=st.booleans(),
    routing=st.sampled_from(["top_expert", "mixture"]),
    n_rows=st.integers(1, 70),
    seed=st.integers(0, 10**6),
)
@settings(SETTINGS, max_examples=15)
def test_parity_on_any_array(
    n_columns,
    n_outputs,
    n_experts,
    dtype,
    missing,
    routing,
    n_rows,
    seed,
    fit_regressor,
    tmp_path,
):
    rng = np.random.default_rng(seed)

    def make_array(n):
        X = (rng.normal(size=(n, n_columns)) * 3).astype(dtype)
        if missing and np.issubdtype(dtype, np.floating):
            X[rng.random(X.shape) < 0.2] = np.nan
        return X

    estimator = fit_regressor(
        make_array(N_TRAIN), n_outputs, n_experts=n_experts, inference=routing
    )
    export(estimator, tmp_path / "bundle", routing=routing)
    X = make_array(n_rows)
    for way in WAYS if routing == "top_expert" or n_experts == 1 else WAYS[:1]:
        served = skmode_deploy.load(tmp_path / "bundle", **way)
        value, probabilities, expert, _ = served.predict_full(X)
        assert probabilities is None
        assert_allclose(value, estimator.predict(X), rtol=1e-5, atol=2e-5)
        assert_array_equal(expert, estimator.route(X))


@pytest.fixture(scope="module")
def served_bundle(table, fit_classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "bundle"
    export(fit_classifier(table, n_experts=9), path)
    return path


@pytest.mark.parametrize("way", WAYS)
def test_both_strategies_predict_the_same(way, served_bundle, table):
    for n_rows in (0, 1, 2, 63, 400):
        X = table[:n_rows]
        expected = skmode_deploy.load(served_bundle).predict_full(X)
        answer = skmode_deploy.load(served_bundle, **way).predict_full(X)
        assert_array_equal(answer.value, expected.value)
        assert_array_equal(answer.expert, expected.expert)
        assert_allclose(answer.probabilities, expected.probabilities, rtol=0, atol=1e-6)
        assert_allclose(answer.gate_probability, expected.gate_probability, rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", [pytest.param(WAYS[0], marks=pytest.mark.slow), WAYS[1]])
@pytest.mark.slow
def test_16_threads_predict_the_same(way, served_bundle, table):
    predictor = skmode_deploy.load(served_bundle, **way)
    batches = [table[start : start + 1 + start % 9] for start in range(0, 390, 3)]
    expected = [predictor.predict_proba(batch) for batch in batches]
    barrier = threading.Barrier(16)

    def serve(first):
        barrier.wait(60)
        return [predictor.predict_proba(batch) for batch in batches[first::16]]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(serve, range(16)))
    for first, found in enumerate(answers):
        for answer, serial in zip(found, expected[first::16], strict=True):
            assert_array_equal(answer, serial)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)
@pytest.mark.parametrize("way", [pytest.param(WAYS[0], marks=pytest.mark.slow), WAYS[1]])
@pytest.mark.parametrize("threads", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_children_predict_after_a_fork(threads, way, served_bundle, table):
    """Also while other threads of the parent predict and hold locks."""
    predictor = skmode_deploy.load(served_bundle, threads=threads, **way)
    expected = predictor.predict_proba(table)
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            predictor.predict_proba(table[:40])

    busy = [threading.Thread(target=keep_busy) for _ in range(4)]
    for thread in busy:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(4):
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=lambda to: to.send(predictor.predict_proba(table)),
                                    args=(sender,))  # fmt: skip
            child.start()
            try:
                assert receiver.poll(60), "the child hangs"
                assert_array_equal(receiver.recv(), expected)
                child.join(60)
                assert child.exitcode == 0
            finally:
                child.kill()
    finally:
        stop.set()
        for thread in busy:
            thread.join()
    assert_array_equal(predictor.predict_proba(table), expected)


@pytest.mark.parametrize("way", WAYS)
def test_spawned_processes_predict(way, served_bundle, table):
    predictor = skmode_deploy.load(served_bundle, threads=2, **way)
    rows = table.to_dict("list")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer = pool.apply_async(predictor.predict_proba, (rows,)).get(120)
    assert_array_equal(answer, predictor.predict_proba(rows))
