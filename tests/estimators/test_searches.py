"""Searches in processes of loky: the scores of one process, and what a killed process means."""

import os
import signal
from functools import partial

import joblib
import numpy as np
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.testing import assert_array_equal
from sklearn.model_selection import RandomizedSearchCV

from skmode import MoDEClassifier
from skmode.inspection import alpha_path

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

classifier = MoDEClassifier(
    n_experts=2,
    hidden_layer_sizes=(8,),
    numeric_embedding=None,
    max_epochs=2,
    early_stopping=False,
    random_state=0,
)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def test_alpha_path_in_processes(rows):
    path = partial(alpha_path, classifier, *rows, alphas=[0, 10], cv=2)
    alone = path().folds
    assert path(n_jobs=2).folds.equals(alone)
    with joblib.parallel_config("loky", n_jobs=2):  # of whoever calls
        assert path().folds.equals(alone)


def kill_itself(estimator, X, y):
    if estimator.alpha > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return estimator.score(X, y)


def test_a_killed_process_ends_a_search(rows):
    """Not without a word: it raises, and the next search has new processes."""
    values = {"alpha": [0.0, 0.1, 1.0, 10.0]}
    search = RandomizedSearchCV(classifier, values, n_iter=4, cv=2, random_state=0, n_jobs=2)
    with pytest.raises(TerminatedWorkerError, match="SIGKILL"):
        search.set_params(scoring=kill_itself).fit(*rows)
    again = search.set_params(scoring="neg_log_loss").fit(*rows).cv_results_["mean_test_score"]
    alone = search.set_params(n_jobs=1).fit(*rows).cv_results_["mean_test_score"]
    assert_array_equal(again, alone)
