"""The contenders: each fits training images, and predicts probabilities in one or more ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode import MoDEImageClassifier

Probabilities = dict[str, NDArray[Any]]

# A training step of the mixture takes as long as so many of one network (results say how long).
STEPS_OF_ONE = 2.5
N_AVERAGED = 4


def mixture(X: Any, y: Any, test: Any, seed: int, **options: Any) -> tuple[Probabilities, Any]:
    """MoDE with its defaults, by the whole mixture and by each image's top expert."""
    model = MoDEImageClassifier(random_state=seed, **options).fit(X, y)
    found = {"mixture": model.predict_proba(test)}
    found["top_expert"] = model.set_params(inference="top_expert").predict_proba(test)
    about = {
        "expert_usage": model.expert_usage_.round(3).tolist(),
        "epochs": model.n_iter_ + model.refit_n_iter_,
        "alpha": model.alpha_,
    }
    return found, about


def one_network(X: Any, y: Any, test: Any, seed: int) -> tuple[Probabilities, Any]:
    """One network of an expert's size, which trains for as long as the mixture does."""
    epochs = round(default_epochs(len(X)) * STEPS_OF_ONE)
    return alone(X, y, test, seed, max_epochs=epochs, n_iter_no_change=epochs)


def alone(X: Any, y: Any, test: Any, seed: int, **options: Any) -> tuple[Probabilities, Any]:
    """One network of an expert's size."""
    model = MoDEImageClassifier(1, random_state=seed, **options).fit(X, y)
    return {"network": model.predict_proba(test)}, {"epochs": model.n_iter_ + model.refit_n_iter_}


def averaged(X: Any, y: Any, test: Any, seed: int) -> tuple[Probabilities, Any]:
    """Four networks of an expert's size, averaged."""
    each = [alone(X, y, test, 100 * seed + i)[0]["network"] for i in range(N_AVERAGED)]
    return {"average": np.mean(each, axis=0)}, {}


def trees(X: Any, y: Any, test: Any, seed: int) -> tuple[Probabilities, Any]:
    """LightGBM on pixels."""
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(n_jobs=1, random_state=seed, verbose=-1)
    flat = X.reshape(len(X), -1).astype(np.float32)
    model.fit(flat, y)
    return {"trees": model.predict_proba(test.reshape(len(test), -1).astype(np.float32))}, {}


def default_epochs(n_rows: int) -> int:
    """Passes over the images that the defaults allow."""
    return MoDEImageClassifier()._resolve_epochs("auto", n_rows)


MODELS: dict[str, Callable[..., tuple[Probabilities, Any]]] = {
    "mode": mixture,
    "one_network": one_network,
    "alpha_0": lambda *given: mixture(*given, alpha=0.0),
    "taught": lambda *given: mixture(*given, teacher="ensemble"),
    "averaged": averaged,
    "lightgbm": trees,
}
