"""A vote of boosted trees and networks, and what it teaches."""

from __future__ import annotations

import os
from typing import Any

from sklearn.ensemble import VotingClassifier, VotingRegressor

from benchmarks.tabular._models.ours import PLAIN_OPTIONS, make_mode
from benchmarks.tabular._models.peers import make_catboost, make_lightgbm
from benchmarks.tabular._sets import Part, Task

# Where students of one vote find its predictions, so that it is fitted once for all of them.
MEMORY = "SKMODE_LEAGUE_MEMORY"
N_NETWORKS = 4


def make_vote(task: Task, split: int, train: Part) -> Any:
    """Mean of CatBoost, LightGBM and four networks of an expert's size, each with its defaults."""
    trees = [("catboost", make_catboost(task, split, train))]
    trees += [("lightgbm", make_lightgbm(task, split, train))]
    networks = [
        (f"network_{i}", make_mode(task, 1000 * i + split, train, n_experts=1, **PLAIN_OPTIONS))
        for i in range(N_NETWORKS)
    ]
    members = [*trees, *networks]
    if task == "regression":
        return VotingRegressor(members)
    return VotingClassifier(members, voting="soft")


def make_student(task: Task, split: int, train: Part, **options: Any) -> Any:
    """The estimator with its defaults, taught by the vote."""
    teaching = {"teacher": make_vote(task, split, train), "memory": os.environ.get(MEMORY)}
    return make_mode(task, split, train, **{**teaching, **options})
