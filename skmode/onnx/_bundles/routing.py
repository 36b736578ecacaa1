"""Warn where a bundle predicts by the top expert and its estimator by the mixture."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skmode._sklearn import safe_indexing
from skmode.onnx._bundles.parity import TOLERANCE, choose_rows, predict_reference
from skmode.onnx._bundles.pipeline import split_model


class RoutingDifferenceWarning(UserWarning):
    """A bundle predicts by the top expert of each row, and its estimator by the mixture."""


def warn_of_routing(model: Any, X: Any) -> None:
    """Warn, with what is known of the difference, unless the estimator predicts as the bundle."""
    steps, last = split_model(model)
    if last.inference != "mixture" or len(last.expert_usage_) == 1:
        return
    facts = []
    if X is not None:
        measured = _measure(steps, last, X)
        if measured is None:
            return
        facts.append(measured)
    if last.validation_scores_:
        scores = last.validation_scores_
        facts.append(
            f"On the validation rows of fit, the mixture scored {scores['mixture']:.4g} and the "
            f"top expert {scores['top_expert']:.4g}."
        )
    warnings.warn(
        'The estimator predicts by its mixture (inference="mixture"), and the bundle by the top '
        f'expert of each row (routing="top_expert"). {" ".join(facts)} Pass routing="mixture" to '
        'export the mixture, or set inference="top_expert", so that the estimator predicts as the '
        "bundle does.",
        RoutingDifferenceWarning,
        stacklevel=3,
    )


def _measure(steps: list[tuple[str, Any]], last: Any, X: Any) -> str | None:
    """Say how far the two are from each other on X; None if they are equal."""
    rows = safe_indexing(X, choose_rows(X))
    features = Pipeline(steps).transform(rows) if steps else rows
    mixture, top = (
        predict_reference(copy.copy(last).set_params(inference=inference), features)
        for inference in ("mixture", "top_expert")
    )
    errors = np.abs(mixture - top)
    if (errors <= TOLERANCE * np.asarray(getattr(last, "target_scale_", 1.0))).all():
        return None
    what = "predictions"
    labels = ""
    if hasattr(last, "classes_"):
        what = "probabilities"
        other = np.mean(mixture.argmax(axis=1) != top.argmax(axis=1))
        labels = f", and {other:.1%} of the labels differ"
    return (
        f"On {len(errors):,} rows of X, {what} differ by {errors.max():.3g} at most and "
        f"{errors.mean():.3g} on average{labels}."
    )
