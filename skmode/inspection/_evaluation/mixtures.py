"""The mixture that a user means: the last step of a Pipeline, the best estimator of a search."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skmode._common.batches import refuse_dataset
from skmode._common.unwrap import is_search, nested_estimators

Array = NDArray[Any]

METHODS = ("gate_proba", "expert_predict", "predict")


def unwrap(
    estimator: Any, X: Any, *, name: str = "estimator", batches: bool = False
) -> tuple[Any, Any]:
    """Return the fitted mixture inside an estimator, and X as that mixture reads it.

    `batches` tells whether X may be a dataset.
    """
    if not batches:
        in_memory(X)
    for part in nested_estimators(estimator):
        if isinstance(part, Pipeline) and X is not None and len(part) > 1:
            X = part[:-1].transform(X)
    if is_search(part):
        raise NotFittedError(_why_without_best(part, name))
    check_methods(part, name)
    check_is_fitted(part)
    return part, X


def in_memory(X: Any) -> None:
    """Raise if the rows come in batches."""
    refuse_dataset(
        X,
        "X",
        "pass a sample of it, for example dataset.head(100_000).to_pandas(); expert_probing "
        "and route_confusion read datasets",
    )


def _why_without_best(search: Any, name: str) -> str:
    kind = type(search).__name__
    if hasattr(search, "cv_results_"):
        return (
            f"{name} must have a best_estimator_, got {kind} with refit={search.refit!r}: fit it "
            "with refit=True, or pass a mixture fitted with the best parameters."
        )
    return f"{name} must be fitted, got {kind} that is not fitted: call its fit first."


def check_methods(estimator: Any, name: str = "estimator") -> None:
    """Raise a TypeError unless an estimator has the methods of a mixture; its class is free."""
    missing = [method for method in METHODS if not hasattr(estimator, method)]
    if missing:
        raise TypeError(
            f"{name} must be a fitted MoDEClassifier or MoDERegressor, or a Pipeline or search "
            f"that ends with one, got {type(estimator).__name__} without {', '.join(missing)}: "
            "pass the mixture itself, and the rows as it reads them."
        )


def find_network(mixture: Any) -> torch.nn.Module | None:
    """Return the torch module of a mixture, or None if it has none."""
    module = getattr(getattr(mixture, "net_", None), "module_", None)
    return module if isinstance(module, torch.nn.Module) else None


def reads_images(mixture: Any) -> bool:
    """Whether the rows of a fitted mixture are images."""
    return hasattr(mixture, "image_shape_")


def reads_texts(mixture: Any) -> bool:
    """Whether the rows of a fitted mixture are texts."""
    return hasattr(mixture, "tokenizer_json_")


def reads_columns(mixture: Any) -> bool:
    """Whether the rows of a fitted mixture are those of a table."""
    return not reads_images(mixture) and not reads_texts(mixture)


def assign_domains(domains: Any, X: Any) -> Array | None:
    """Return each row's expert by the gate of the model `domains`; None for ``"own"``."""
    if isinstance(domains, str) or domains is None:
        if domains != "own":
            raise ValueError(
                f'domains must be "own" or a fitted estimator, got {domains!r}: choose one of '
                "these."
            )
        return None
    mixture, rows = unwrap(domains, X, name="domains", batches=True)
    return np.asarray(np.argmax(mixture.gate_proba(rows), axis=1))


def typical_rows(estimator: Any, X: Any, n_rows: int) -> list[Array]:
    """Find the rows of which the gate is surest, for each expert; the surest one first."""
    mixture, rows = unwrap(estimator, X)
    gate = np.asarray(mixture.gate_proba(rows))
    route = gate.argmax(axis=1)
    found = []
    for expert in range(gate.shape[1]):
        members = np.flatnonzero(route == expert)
        order = np.argsort(-gate[members, expert], kind="stable")
        found.append(members[order[:n_rows]])
    return found
