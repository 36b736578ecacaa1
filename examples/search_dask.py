"""A search of scikit-learn on the workers of Dask.

    python search_dask.py [--candidates 8] [--workers 2] [--scheduler ADDRESS]

It starts worker processes on this machine. With --scheduler, it uses a cluster, whose workers need
skmode. A worker that is killed costs time, but no candidate: others train what it was at.
"""

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

import joblib
from dask.distributed import Client, LocalCluster
from scipy.stats import loguniform
from sklearn.base import clone, is_classifier
from sklearn.datasets import make_classification
from sklearn.model_selection import RandomizedSearchCV, check_cv

from skmode import MoDEClassifier


def fit(search: Any, X: Any, y: Any, client: Client) -> Any:
    """Fit a search on the client's workers; the scores are those of one process."""
    folds = list(check_cv(search.cv, y, classifier=is_classifier(search.estimator)).split(X, y))
    # joblib would put rows, targets and each fold on one worker, and all would end with it. What is
    # named in `scatter` is on each worker, and stays there if Dask does not tidy up copies.
    client.amm.stop()
    with joblib.parallel_config("dask", scatter=[X, y, *itertools.chain(*folds)]):
        return clone(search).set_params(cv=folds).fit(X, y)


def main(arguments: Sequence[str] | None = None) -> float:
    """Search, print the best candidate, and return its score."""
    parser = argparse.ArgumentParser(description="Search parameters on the workers of Dask.")
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--scheduler", help="address of a cluster that runs already")
    args = parser.parse_args(arguments)

    X, y = make_classification(args.rows, n_features=10, n_informative=6, random_state=0)
    search = RandomizedSearchCV(
        MoDEClassifier(max_epochs=10, random_state=0),
        {"alpha": loguniform(0.1, 100), "n_experts": [2, 4, 8]},
        n_iter=args.candidates,
        cv=3,
        scoring="neg_log_loss",
        random_state=0,
    )
    if args.scheduler:
        cluster = args.scheduler
    else:  # as many processes as cores, with one thread each, which torch then has as well
        cluster = LocalCluster(n_workers=args.workers, threads_per_worker=1, dashboard_address=None)
    with Client(cluster) as client:
        search = fit(search, X, y, client)
    if not args.scheduler:
        cluster.close()
    print(f"log loss {-search.best_score_:.3f} with {search.best_params_}")
    return float(search.best_score_)


if __name__ == "__main__":
    main()
