"""Warn where a bundle predicts by the top expert and its estimator by the mixture."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from skmode._sklearn import safe_indexing
from skmode.onnx._bundles.checks.parity import TOLERANCE, choose_rows
from skmode.onnx._bundles.parts import Parts


class RoutingDifferenceWarning(UserWarning):
    """A bundle predicts by the top expert of each row, and its estimator by the mixture."""


def warn_of_routing(parts: Parts, X: Any) -> None:
    """Warn, with what is known of the difference, unless the estimator predicts as the bundle."""
    last = parts.estimator
    if last.inference != "mixture" or len(last.expert_usage_) == 1:
        return
    facts = []
    if X is not None:
        measured = _measure(parts, X)
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


def _measure(parts: Parts, X: Any) -> str | None:
    """Say how far the two are from each other on X; None if they are equal."""
    rows = safe_indexing(X, choose_rows(X))
    features = parts.transform(rows)
    reference = parts.with_routing("mixture")
    mixture = parts.predict(reference, features)
    top = parts.predict(parts.with_routing("top_expert"), features)
    errors = np.abs(mixture - top)
    is_classifier = hasattr(reference, "classes_")
    scale = 1.0 if is_classifier else parts.deviation(reference, features)
    if (errors <= TOLERANCE * scale).all():
        return None
    what = "predictions"
    labels = ""
    if is_classifier:
        what = "probabilities"
        other = np.mean(parts.choose(mixture) != parts.choose(top))
        labels = f", and {other:.1%} of the labels differ"
    return (
        f"On {len(errors):,} rows of X, {what} differ by {errors.max():.3g} at most and "
        f"{errors.mean():.3g} on average{labels}."
    )
