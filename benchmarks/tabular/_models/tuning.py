"""Random search with a limit of trials and of processor time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import get_scorer
from sklearn.model_selection import KFold, ParameterSampler, StratifiedKFold

from benchmarks.tabular._models.spaces import MAX_TREES, Family
from benchmarks.tabular._sets import Part, Task

TRIALS, SECONDS = 30, 300.0
# TabArena validates on 8 folds. One part of a fifth is 130 to 670 rows of the smallest sets, few to
# choose among 30 by: so many folds at most, and fewer where the first fit tells that the time would
# not suffice for all trials.
FOLDS = 5
SCORES = {
    "binary": "roc_auc",
    "multiclass": "neg_log_loss",
    "regression": "neg_root_mean_squared_error",
}

Array = NDArray[Any]
Fold = tuple[Part, Part]


@dataclass(frozen=True)
class Trial:
    """Parameters, the number of trees included, and their mean score over the folds."""

    params: dict[str, Any]
    score: float


class RandomSearch:
    """The best of random parameters by cross-validation, then fitted to all rows.

    Parameters
    ----------
    family : Family
        The model and what is drawn from.
    task : {"binary", "multiclass", "regression"}
        Decides the score.
    split : int
        Seeds the folds, the parameters and the models.
    n_trials : int, default=30
        Trials at most.
    seconds : float, default=300.0
        Processor time after which no fit of a trial starts; an unfinished trial does not count,
        but the first one is always finished. The last fit, to all rows, comes on top.

    Attributes
    ----------
    trials_ : list of Trial
        Those that were finished.
    n_folds_ : int
        On how many folds.
    best_params_ : dict
        Those of the best one, as JSON can hold them.
    best_estimator_ : estimator
        Fitted to all rows.
    """

    def __init__(
        self,
        family: Family,
        task: Task,
        split: int,
        *,
        n_trials: int = TRIALS,
        seconds: float = SECONDS,
    ) -> None:
        self.family = family
        self.task = task
        self.split = split
        self.n_trials = n_trials
        self.seconds = seconds

    def fit(self, X: pd.DataFrame, y: Array) -> RandomSearch:
        """Search, and fit the best to all rows."""
        start = time.process_time()
        folds = list(self._folds(X, y))
        first, *others = self._candidates()
        found = [self._validate(first, *folds[0])]
        spent = max(time.process_time() - start, 1e-3)
        self.n_folds_ = int(np.clip(self.seconds / (self.n_trials * spent), 1, FOLDS))
        found += [self._validate(first, *fold) for fold in folds[1 : self.n_folds_]]
        self.trials_ = [self._trial(first, found)]
        for params in others:
            found = []
            for fold in folds[: self.n_folds_]:
                if time.process_time() - start >= self.seconds:
                    return self._finish(X, y)
                found.append(self._validate(params, *fold))
            self.trials_.append(self._trial(params, found))
        return self._finish(X, y)

    def _finish(self, X: pd.DataFrame, y: Array) -> RandomSearch:
        """Fit the best to all rows."""
        best = max(self.trials_, key=lambda trial: trial.score)
        self.best_params_ = {name: _plain(value) for name, value in best.params.items()}
        model = self.family.make(self.task, self.split, Part(X, y), **best.params)
        self.best_estimator_ = model.fit(X, y)
        return self

    def _trial(self, params: dict[str, Any], found: list[tuple[float, int]]) -> Trial:
        """Mean score, and mean number of trees, over the folds."""
        scores, n_trees = zip(*found, strict=True)
        trees = {self.family.trees: max(1, round(np.mean(n_trees)))} if self.family.trees else {}
        return Trial(params | trees, float(np.mean(scores)))

    def _candidates(self) -> Iterator[dict[str, Any]]:
        yield self.family.first
        yield from ParameterSampler(self.family.space, self.n_trials - 1, random_state=self.split)

    def _folds(self, X: pd.DataFrame, y: Array) -> Iterator[Fold]:
        splitter = KFold if self.task == "regression" else StratifiedKFold
        for train, validation in splitter(FOLDS, shuffle=True, random_state=self.split).split(X, y):
            yield Part(X.iloc[train], y[train]), Part(X.iloc[validation], y[validation])

    def _validate(self, params: dict[str, Any], train: Part, validation: Part) -> tuple[float, int]:
        """Score on one fold, with as many trees as are best there."""
        family, trees = self.family, 0
        most = {family.trees: MAX_TREES} if family.trees else {}
        model = family.make(self.task, self.split, train, **params, **most)
        if family.fit_trees is None:
            model.fit(*train)
        else:
            trees = family.fit_trees(model, train, validation)
        return get_scorer(SCORES[self.task])(model, *validation), trees


def make_search(family: Family, task: Task, split: int, train: Part) -> RandomSearch:
    """Return the search of a family with the league's limits."""
    return RandomSearch(family, task, split)


def _plain(value: Any) -> Any:
    """Return a number of numpy as Python's."""
    return value.item() if isinstance(value, np.generic) else value
