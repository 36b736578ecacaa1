"""Fixtures for the tests of searches on Dask and Ray: rows, a search, its scores in one process."""

import importlib.util
import threading
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skmode import MoDEClassifier

EXAMPLES = Path(__file__).parents[2] / "examples"
ALPHAS = [0.0, 0.1, 1.0, 3.0, 10.0, 30.0]


@pytest.fixture(scope="session")
def load_example():
    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def rows():
    """As many that each part of a fold is larger than 1 kB, which joblib hands to Dask apart."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


@pytest.fixture(scope="session")
def classifier():
    return MoDEClassifier(
        n_experts=2,
        hidden_layer_sizes=(8,),
        numeric_embedding=None,
        max_epochs=3,
        random_state=0,
    )


@pytest.fixture
def scorer(tmp_path):
    """Log loss; each call leaves a file that holds the number of torch's threads."""
    folder = str(tmp_path)  # a function within a function travels by value

    def score(estimator, X, y):
        import pathlib
        import time
        import uuid

        import torch
        from sklearn.metrics import get_scorer

        time.sleep(0.2)  # so that a kill comes in the middle
        path = pathlib.Path(folder, f"{uuid.uuid4().hex}.threads")
        path.write_text(str(torch.get_num_threads()))
        return get_scorer("neg_log_loss")(estimator, X, y)

    return score


@pytest.fixture
def search(classifier, scorer):
    return GridSearchCV(classifier, {"alpha": ALPHAS}, cv=2, scoring=scorer, refit=False)


@pytest.fixture(scope="session")
def scores_of(rows):
    """Scores of each candidate and fold, of a fitted search or of the same in one process."""

    def scores(search):
        if not hasattr(search, "cv_results_"):
            search.set_params(scoring="neg_log_loss").fit(*rows)
        found = search.cv_results_
        return np.stack([found[f"split{i}_test_score"] for i in range(search.n_splits_)])

    return scores


@pytest.fixture
def threads(tmp_path):
    """Return the numbers of torch's threads that were found."""
    return lambda: {int(each.read_text()) for each in tmp_path.glob("*.threads")}


class Killer(threading.Thread):
    """Do something when two candidates have been scored."""

    def __init__(self, folder, kill):
        super().__init__(daemon=True)
        self.folder, self.kill = folder, kill
        self.over = threading.Event()
        self.seen = 0

    def run(self):
        while not self.over.wait(0.01):
            seen = len(list(self.folder.glob("*.threads")))
            if seen >= 2:
                self.kill()
                self.seen = seen
                return

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


@pytest.fixture
def killer(tmp_path):
    return lambda kill: Killer(tmp_path, kill)
