"""Searches on the workers of Dask."""

import os
import signal

import joblib
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import RandomizedSearchCV

from skmode.inspection import alpha_path

dask = pytest.importorskip("dask", reason="needs the extra 'dask'")
distributed = pytest.importorskip("distributed", reason="needs the extra 'dask'")

pytestmark = pytest.mark.slow  # to start workers takes its time


@pytest.fixture(scope="module")
def client():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)  # Dask itself must set it
        with (
            # Dask looks once, so long after a kill, and gives a worker up that is not there just
            # then, as when the next test has killed it again.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}),
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


@pytest.fixture
def kill(client):
    """Kill the worker that holds most of the rows, targets and folds."""
    pids = client.run(os.getpid)

    def kill():
        held = client.has_what()
        most = max(held, key=lambda worker: sum("ndarray" in str(key) for key in held[worker]))
        os.kill(pids[most], signal.SIGKILL)

    return kill


@pytest.mark.parametrize("kind", ["grid", "random"])
def test_scores_are_those_of_one_process(
    kind, load_example, client, search, rows, scores_of, threads
):
    if kind == "random":
        search = RandomizedSearchCV(
            search.estimator, search.param_grid, n_iter=3, cv=2, scoring=search.scoring,
            random_state=0, refit=False,
        )  # fmt: skip
    found = load_example("search_dask").fit(search, *rows, client)
    assert threads() == {1}
    assert_array_equal(scores_of(found), scores_of(clone(search)))


def test_alpha_path(client, classifier, rows):
    with joblib.parallel_config("dask"):
        path = alpha_path(classifier, *rows, alphas=[0, 1], cv=2)
    assert path.folds.equals(alpha_path(classifier, *rows, alphas=[0, 1], cv=2).folds)


def test_a_killed_worker_loses_no_candidate(
    load_example, client, search, rows, scores_of, killer, kill
):
    before = client.run(os.getpid)
    with killer(kill) as killed:
        found = load_example("search_dask").fit(search, *rows, client)
    assert 2 <= killed.seen < 10  # of 12: it was in the middle
    assert_array_equal(scores_of(found), scores_of(clone(search)))
    client.wait_for_workers(2)
    assert len({*client.run(os.getpid).values()} - {*before.values()}) == 1


def test_a_killed_worker_loses_nothing_of_an_alpha_path(
    client, classifier, scorer, rows, killer, kill
):
    options = {"alphas": [0, 1, 10, 100], "cv": 2}
    client.amm.stop()
    with (
        killer(kill) as killed,
        joblib.parallel_config("dask", scatter=list(rows)),
    ):
        path = alpha_path(classifier, *rows, **options, scoring=scorer)
    assert 2 <= killed.seen < 12  # of 16, two for each fit
    alone = alpha_path(classifier, *rows, **options, scoring="neg_log_loss")
    assert path.folds.equals(alone.folds)
    client.wait_for_workers(2)


def test_the_example(load_example, client, capsys):
    options = ["--candidates", "1", "--rows", "200", "--scheduler", client.scheduler.address]
    assert load_example("search_dask").main(options) < 0
    assert "log loss" in capsys.readouterr().out
