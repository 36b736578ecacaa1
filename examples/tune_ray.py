"""Parameters by Ray Tune, which ends bad candidates early.

    python tune_ray.py [--trials 20] [--workers 2] [--address ADDRESS]

After each epoch, a callback of skorch tells Ray Tune the loss on the validation rows. The ASHA
scheduler lets only the better half of the candidates go on at certain epochs. It starts Ray on this
machine. With --address, it uses a cluster, whose nodes need skmode and --folder, a shared disk.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import make_classification
from skorch.callbacks import Callback

from skmode import MoDEClassifier

SPACE = {
    "alpha": tune.loguniform(0.1, 100),
    "n_experts": tune.choice([2, 4, 8]),
    "learning_rate": tune.loguniform(1e-5, 1e-1),
}


class Report(Callback):
    """Tell Ray Tune the loss on the validation rows; there, Tune may end the candidate."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        tune.report({"valid_loss": net.history[-1]["valid_loss"]})


def train(config: dict[str, Any], X: Any, y: Any, epochs: int) -> None:
    """Train one candidate, in a process of its own."""
    # No patience and no refit: Tune decides who ends early, and what it has seen is compared.
    MoDEClassifier(
        **config,
        max_epochs=epochs,
        n_iter_no_change=epochs,
        refit_fraction=0,
        random_state=0,
        callbacks=[Report()],
    ).fit(X, y)


def search(
    X: Any, y: Any, space: dict[str, Any], trials: int, epochs: int, folder: str | Path
) -> tune.ResultGrid:
    """Search on the cores of the Ray that runs."""
    halving = ASHAScheduler(max_t=epochs, grace_period=2, reduction_factor=2)
    tuner = tune.Tuner(
        tune.with_parameters(train, X=X, y=y, epochs=epochs),  # the rows, once for each node
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="valid_loss", mode="min", num_samples=trials, scheduler=halving
        ),
        run_config=tune.RunConfig(
            storage_path=str(Path(folder).absolute()),
            # A candidate whose process is killed starts again.
            failure_config=tune.FailureConfig(max_failures=3),
            verbose=0,
        ),
    )
    return tuner.fit()


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, and print the best candidate."""
    parser = argparse.ArgumentParser(description="Search parameters with Ray Tune.")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2, help="processes, each with one core")
    parser.add_argument("--folder", default="tune", help="where Ray Tune writes results")
    parser.add_argument("--address", help="address of a cluster that runs already")
    args = parser.parse_args(arguments)
    X, y = make_classification(args.rows, n_features=10, n_informative=6, random_state=0)
    ray.init(address=args.address, num_cpus=None if args.address else args.workers)
    results = search(X, y, SPACE, args.trials, args.epochs, args.folder)
    ray.shutdown()
    best = results.get_best_result(scope="all")
    trained = [result.metrics["training_iteration"] for result in results]
    print(f"log loss {best.metrics['valid_loss']:.3f} with {best.config}")
    print(f"{sum(each < args.epochs for each in trained)} of {len(trained)} ended early")


if __name__ == "__main__":
    main()
