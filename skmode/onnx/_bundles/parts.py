"""A model taken apart: the steps before its estimator, the estimator, and what follows it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RANSACRegressor
from sklearn.pipeline import Pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.validation import check_is_fitted

from skmode._common.unwrap import is_search, nested_estimators
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.models.thresholds import THRESHOLDS, Threshold, read_threshold
from skmode.onnx._skl2onnx.steps.inverses import check_inverse, emit_inverse


@dataclass
class Parts:
    """The parts of a model that predicts by one estimator."""

    steps: list[tuple[str, Any]] = field(default_factory=list)
    estimator: Any = None
    threshold: Threshold | None = None
    # Transformers of the target, the outermost first.
    targets: list[Any] = field(default_factory=list)

    def transform(self, X: Any) -> Any:
        """Apply the steps before the estimator."""
        return Pipeline(self.steps).transform(X) if self.steps else X

    def with_routing(self, routing: str) -> Any:
        """Copy the estimator with another kind of inference."""
        return copy.copy(self.estimator).set_params(inference=routing)

    def predict(self, estimator: Any, features: Any) -> NDArray[Any]:
        """Predict what a bundle should: probabilities, or values of shape (n_rows, n_outputs)."""
        if hasattr(estimator, "predict_proba"):
            return np.asarray(estimator.predict_proba(features))
        return self._invert(np.asarray(estimator.predict(features)).reshape(len(features), -1))

    def choose(self, probabilities: NDArray[Any]) -> NDArray[np.int64]:
        """Choose the position of each row's label."""
        if self.threshold is None:
            return np.asarray(probabilities.argmax(axis=1))
        positive = self.threshold.positive
        passed = probabilities[:, positive] >= self.threshold.value
        positions: NDArray[np.int64] = np.where(passed, positive, 1 - positive)
        return positions

    def margin(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """How far each row is from another label: the difference between two probabilities."""
        if self.threshold is not None:
            score = probabilities[:, self.threshold.positive]
            return 2 * np.abs(score - self.threshold.value)
        return margin(probabilities)

    def deviation(self, estimator: Any, features: Any) -> NDArray[Any]:
        """Get the standard deviation of the target, for a transformed one near the predictions."""
        scale = np.asarray(self.estimator.target_scale_, dtype=float).reshape(-1)
        if not self.targets:
            return scale
        values = np.asarray(estimator.predict(features)).reshape(len(features), -1)
        moved = np.abs(self._invert(values + scale) - self._invert(values))
        found: NDArray[Any] = np.maximum(np.nanmean(moved, axis=0), np.finfo(np.float32).tiny)
        return found

    def emit_inverse(self, graph: GraphBuilder, value: str) -> str:
        """Turn values of the estimator into values of the target."""
        for transformer in reversed(self.targets):
            value = emit_inverse(graph, transformer, value)
        return value

    def _invert(self, values: NDArray[Any]) -> NDArray[Any]:
        for transformer in reversed(self.targets):
            values = np.asarray(transformer.inverse_transform(values))
        return values


def read_parts(model: Any) -> Parts:
    """Take a model apart."""
    parts, inside = Parts(), model
    while inside is not None:
        for part in nested_estimators(inside):
            if isinstance(part, Pipeline):
                before = [(name, step) for name, step in part.steps[:-1] if step is not None]
                parts.steps += [(name, step) for name, step in before if step != "passthrough"]
        parts.estimator = part
        inside = _open(parts, part)
    if is_search(part):
        raise NotFittedError(
            f"A search must be fitted with refit=True to be exported, but this "
            f"{type(part).__name__} has no best_estimator_: call fit before export."
        )
    names = [name for name, _ in parts.steps]
    if len(set(names)) < len(names):  # nested pipelines may use a name twice
        parts.steps = [(f"{name}_{i}", step) for i, (name, step) in enumerate(parts.steps)]
    return parts


def _open(parts: Parts, model: Any) -> Any:
    """Get what a model is around, and note what it does to predictions; None if it is the last."""
    kind = type(model)
    if kind in THRESHOLDS:
        estimator, threshold = read_threshold(model)
        parts.threshold = parts.threshold or threshold  # the outermost decides
        return estimator
    if kind is TransformedTargetRegressor:
        check_is_fitted(model)
        check_inverse(model.transformer_)
        parts.targets.append(model.transformer_)
        return model.regressor_
    if kind in (RANSACRegressor, SelfTrainingClassifier):
        check_is_fitted(model)
        return model.estimator_
    return None


def margin(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Get the difference between the two highest values of each row."""
    if probabilities.shape[1] == 1:
        return np.ones(len(probabilities))
    ordered = np.sort(probabilities, axis=1)
    difference: NDArray[Any] = ordered[:, -1] - ordered[:, -2]
    return difference
