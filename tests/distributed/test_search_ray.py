"""Searches on the processes of Ray, by joblib and by Ray Tune."""

import importlib
import os
import signal

import joblib
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skmode.inspection import alpha_path

ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
pytest.importorskip("ray.tune", reason="needs the extra 'ray'")
psutil = pytest.importorskip("psutil")

pytestmark = pytest.mark.slow  # to start Ray takes its time


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    """One for all tests: Ray does not always start twice in a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # where Ray writes to
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("OMP_NUM_THREADS", raising=False)  # Ray itself must set it
        ray.init(
            num_cpus=2,
            object_store_memory=150 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield
        ray.shutdown()


def processes(name):
    """Processes of Ray that run actors whose name begins with this."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and f"ray::{name}" in "".join(process.cmdline())
    ]


def test_alpha_path(classifier, rows):
    importlib.import_module("ray.util.joblib").register_ray()
    with joblib.parallel_config("ray", n_jobs=2):
        path = alpha_path(classifier, *rows, alphas=[0, 1], cv=2)
    assert path.folds.equals(alpha_path(classifier, *rows, alphas=[0, 1], cv=2).folds)


def test_a_killed_process_loses_no_candidate(
    load_example, search, rows, scores_of, killer, threads
):
    pool = []

    def kill():
        pool.extend(processes("PoolActor"))
        os.kill(pool[0].pid, signal.SIGKILL)

    with killer(kill) as killed:
        found = load_example("search_ray").fit(search, *rows, workers=2)
    assert len(pool) == 2
    assert 2 <= killed.seen < 10  # of 12: it was in the middle
    assert threads() == {1}
    assert_array_equal(scores_of(found), scores_of(clone(search)))


def test_tune_ends_bad_candidates_early(load_example, rows, tmp_path):
    X, _ = rows
    # The third one, which hardly learns, starts when one of the others has ended.
    rates = [0.02, 0.01, 1e-5]
    space = {"n_experts": 2, "learning_rate": ray.tune.grid_search(rates)}
    results = load_example("tune_ray").search(
        X, (X.sum(axis=1) > 0).astype(int), space, trials=1, epochs=8, folder=tmp_path
    )
    assert results.num_errors == 0
    epochs = {each.config["learning_rate"]: each.metrics["training_iteration"] for each in results}
    assert set(epochs) == set(rates)
    assert epochs[1e-5] == 2  # ASHA's first look
    assert max(epochs.values()) == 8
    assert results.get_best_result(scope="all").config["learning_rate"] != 1e-5
