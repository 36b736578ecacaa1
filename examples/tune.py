"""Parameters by Optuna, which ends bad candidates early.

    python tune.py [--trials 20] [--storage study.log]

After each epoch, a callback of skorch tells Optuna the loss on the validation rows. A candidate
that is worse than the median of the earlier ones at that epoch ends there: it is pruned. With
--storage, several of these commands share one study, each with a core of its own.
"""

import argparse
from collections.abc import Callable, Sequence

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna_integration import SkorchPruningCallback
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skmode import MoDEClassifier


def make_objective(rows: int, epochs: int) -> Callable[[optuna.Trial], float]:
    """Make the function that trains a candidate and returns its log loss on other rows."""
    X, y = make_classification(rows, n_features=10, n_informative=6, random_state=0)
    X, X_other, y, y_other = train_test_split(X, y, random_state=0)

    def objective(trial: optuna.Trial) -> float:
        classifier = MoDEClassifier(
            # A number: "auto" would train twice, and report each epoch twice.
            alpha=trial.suggest_float("alpha", 0.1, 100, log=True),
            n_experts=trial.suggest_int("n_experts", 2, 8),
            learning_rate=trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True),
            max_epochs=epochs,
            random_state=0,
            callbacks=[SkorchPruningCallback(trial, "valid_loss")],  # the one line
        )
        classifier.fit(X, y)
        return log_loss(y_other, classifier.predict_proba(X_other))

    return objective


def main(arguments: Sequence[str] | None = None) -> optuna.Study:
    """Search, print the best candidate, and return the study."""
    parser = argparse.ArgumentParser(description="Search parameters with Optuna.")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, help="of the sampler; another one for each command")
    parser.add_argument("--storage", help="file that several commands share")
    args = parser.parse_args(arguments)
    study = optuna.create_study(
        study_name="skmode",
        storage=JournalStorage(JournalFileBackend(args.storage)) if args.storage else None,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=args.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    )
    study.optimize(make_objective(args.rows, args.epochs), n_trials=args.trials)
    states = [trial.state for trial in study.trials]
    print(f"log loss {study.best_value:.3f} with {study.best_params}")
    print(f"pruned {states.count(optuna.trial.TrialState.PRUNED)} of {len(states)}")
    return study


if __name__ == "__main__":
    main()
