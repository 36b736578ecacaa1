"""The contenders: each fits texts, and returns a function that predicts in one or more ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from benchmarks.text._bag import BagOfWords
from skmode import MoDETextClassifier

Predict = Callable[[list[str]], dict[str, NDArray[Any]]]

# A training step of the mixture takes as long as so many of one network (results say how long).
STEPS_OF_ONE = 1.3
N_AVERAGED = 4
# What a processor can train in about a minute: longer texts, more layers and epochs are for a GPU.
TRANSFORMER = {
    "text_encoder": "transformer",
    "transformer_layers": 1,
    "max_tokens": 128,
    "max_epochs": 4,
}
# Strengths of the regularization of linear models that cross validation chooses among.
STRENGTHS = {"logisticregression": (3, 10, 30, 100, 300), "linearsvc": (0.1, 0.3, 1, 3)}


def mixture(X: Any, y: Any, seed: int, **options: Any) -> tuple[Predict, Any]:
    """MoDE with its defaults, by the whole mixture and by each text's top expert."""
    model = MoDETextClassifier(random_state=seed, **options).fit(X, y)

    def predict(test: list[str]) -> dict[str, NDArray[Any]]:
        found = {"mixture": model.set_params(inference="mixture").predict_proba(test)}
        found["top_expert"] = model.set_params(inference="top_expert").predict_proba(test)
        return found

    about = {
        "expert_usage": model.expert_usage_.round(3).tolist(),
        "epochs": model.n_iter_ + model.refit_n_iter_,
        "alpha": model.alpha_,
    }
    return predict, about


def one_network(X: Any, y: Any, seed: int) -> tuple[Predict, Any]:
    """One network of an expert's size, which trains for as long as the mixture does."""
    epochs = round(MoDETextClassifier()._resolve_epochs("auto", len(X)) * STEPS_OF_ONE)
    return alone(X, y, seed, max_epochs=epochs, n_iter_no_change=epochs)


def alone(X: Any, y: Any, seed: int, **options: Any) -> tuple[Predict, Any]:
    """One network of an expert's size."""
    model = MoDETextClassifier(1, random_state=seed, **options).fit(X, y)
    about = {"epochs": model.n_iter_ + model.refit_n_iter_}
    return lambda test: {"network": model.predict_proba(test)}, about


def averaged(X: Any, y: Any, seed: int) -> tuple[Predict, Any]:
    """Four networks of an expert's size, averaged."""
    each = [alone(X, y, 100 * seed + i)[0] for i in range(N_AVERAGED)]
    return lambda test: {"average": np.mean([one(test)["network"] for one in each], axis=0)}, {}


def linear(X: Any, y: Any, seed: int, *, model: Any, scoring: Any) -> tuple[Predict, Any]:
    """A linear model on TF-IDF, tuned by cross validation."""
    pipeline = make_pipeline(TfidfVectorizer(), model)
    name = pipeline.steps[-1][0]
    grid = {"tfidfvectorizer__sublinear_tf": [True], f"{name}__C": STRENGTHS[name]}
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(pipeline, grid, scoring=scoring, cv=folds).fit(X, y)
    how = "predict_proba" if hasattr(search, "predict_proba") else "predict"
    about = {"C": search.best_params_[f"{name}__C"]}
    return lambda test: {"linear": getattr(search, how)(test)}, about


def known_log_loss(model: Any, X: Any, y: Any) -> float:
    """Score by log loss; texts of classes that the other folds lack are skipped."""
    probabilities, known = model.predict_proba(X), np.isin(y, model.classes_)
    return -float(log_loss(y[known], probabilities[known], labels=model.classes_))


def bag(X: Any, y: Any, seed: int) -> tuple[Predict, Any]:
    """A bag of words and pairs of words, as fastText has it."""
    model = BagOfWords(seed).fit(X, y)
    return lambda test: {"bag": model.predict_proba(test)}, {}


DETERMINISTIC = ("logistic_regression", "linear_svc")
MODELS: dict[str, Callable[..., tuple[Predict, Any]]] = {
    "mode": mixture,
    "one_network": one_network,
    "alpha_0": lambda *given: mixture(*given, alpha=0.0),
    "no_linear": lambda *given: mixture(*given, linear_share=0.0),
    "no_linear_alpha_0": lambda *given: mixture(*given, alpha=0.0, linear_share=0.0),
    "averaged": averaged,
    "transformer": lambda *given: mixture(*given, **TRANSFORMER),
    "logistic_regression": lambda *given: linear(
        *given, model=LogisticRegression(max_iter=300), scoring=known_log_loss
    ),
    "linear_svc": lambda *given: linear(*given, model=LinearSVC(), scoring="accuracy"),
    "bag": bag,
}
