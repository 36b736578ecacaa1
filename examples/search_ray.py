"""A search of scikit-learn on the processes of Ray.

    python search_ray.py [--candidates 8] [--workers 2] [--address ADDRESS]

It starts Ray on this machine. With --address, it uses a cluster, whose nodes need skmode. A process
that is killed costs time, but no candidate: Ray starts another one, which trains what it was at.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import joblib
import ray
from ray.util.joblib import register_ray
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import RandomizedSearchCV

from skmode import MoDEClassifier

# One core for each process: without it, Ray may start all of them on one node. The others start
# processes again that died, and repeat their tasks; without them, the search would raise.
OPTIONS = {"num_cpus": 1, "max_restarts": -1, "max_task_retries": -1}


def fit(search: Any, X: Any, y: Any, workers: int) -> Any:
    """Fit a search on processes of Ray; the scores are those of one process."""
    register_ray()
    with joblib.parallel_config("ray", n_jobs=workers, ray_remote_args=OPTIONS):
        return clone(search).fit(X, y)


def main(arguments: Sequence[str] | None = None) -> float:
    """Search, print the best candidate, and return its score."""
    parser = argparse.ArgumentParser(description="Search parameters on the processes of Ray.")
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2, help="processes, each with one core")
    parser.add_argument("--address", help="address of a cluster that runs already")
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
    ray.init(address=args.address, num_cpus=None if args.address else args.workers)
    search = fit(search, X, y, args.workers)
    ray.shutdown()
    print(f"log loss {-search.best_score_:.3f} with {search.best_params_}")
    return float(search.best_score_)


if __name__ == "__main__":
    main()
