"""Warn where a bundle predicts by the top expert and its estimator by the mixture."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from skmode._common.sklearn import safe_indexing
from skmode.onnx._bundles.checks.parity import TOLERANCE, choose_rows
from skmode.onnx._bundles.parts import Parts
from skmode_deploy.bundle import RoutingDifference
from skmode_deploy.bundle.card import describe_difference


class RoutingDifferenceWarning(UserWarning):
    """A bundle predicts by the top expert of each row, and its estimator by the mixture."""


class _Finding(NamedTuple):
    """What some rows show."""

    difference: RoutingDifference
    fact: str
    differs: bool


def compare_routing(parts: Parts, X: Any) -> RoutingDifference | None:
    """Warn, with what is known of the difference, unless the estimator predicts as the bundle.

    What is returned was measured on the validation rows, or else on X.
    """
    last = parts.estimator
    if last.inference != "mixture" or len(last.expert_usage_) == 1:
        return None
    found = [each for each in (_recall(parts), _measure(parts, X)) if each is not None]
    if found and not any(each.differs for each in found):
        return None
    facts = [each.fact for each in found]
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
    # The inverse of a transformed target may overflow, and the manifest's numbers are finite.
    finite = found and np.isfinite([*found[0].difference.mean, *found[0].difference.max]).all()
    return found[0].difference if finite else None


def _recall(parts: Parts) -> _Finding | None:
    """Read what fit measured; pickles of older releases do not have it."""
    known = getattr(parts.estimator, "routing_difference_", None)
    if known is None or parts.targets:  # of a transformed target it has the wrong unit
        return None
    mean, largest = (np.atleast_1d(known[name]) for name in ("mean", "max"))
    scale = 1.0 if _classifies(parts) else parts.estimator.target_scale_
    difference = RoutingDifference("validation", tuple(mean.tolist()), tuple(largest.tolist()))
    fact = f"On the validation rows of fit, {describe_difference(difference, _classifies(parts))}."
    return _Finding(difference, fact, bool((largest > TOLERANCE * scale).any()))


def _measure(parts: Parts, X: Any) -> _Finding | None:
    """Say how far the two are from each other on X."""
    if X is None:
        return None
    features = parts.transform(safe_indexing(X, choose_rows(X)))
    reference = parts.with_routing("mixture")
    mixture = parts.predict(reference, features)
    top = parts.predict(parts.with_routing("top_expert"), features)
    errors = np.abs(mixture - top)
    labels, scale = "", np.ones(1)
    if _classifies(parts):
        other = np.mean(parts.choose(mixture) != parts.choose(top))
        labels = f", and {other:.1%} of the labels differ"
        errors = errors.reshape(-1, 1)
    else:
        scale = parts.deviation(reference, features)
    mean, largest = errors.mean(axis=0), errors.max(axis=0)
    difference = RoutingDifference("export", tuple(mean.tolist()), tuple(largest.tolist()))
    fact = f"On {len(mixture):,} rows of X, {describe_difference(difference, _classifies(parts))}"
    return _Finding(difference, f"{fact}{labels}.", not (largest <= TOLERANCE * scale).all())


def _classifies(parts: Parts) -> bool:
    return hasattr(parts.estimator, "classes_")
