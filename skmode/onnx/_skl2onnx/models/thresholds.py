"""Converters of classifiers with a threshold on the probability of one class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.utils.validation import check_is_fitted

from skmode._common.sklearn import positive_label
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.models.nested import Combination
from skmode.onnx._skl2onnx.models.outputs import (
    CLASSIFIER_OPTIONS,
    declare,
    declare_classifier_outputs,
    has_nocl,
    infer_classifier,
)
from skmode.onnx._skl2onnx.replacements import (
    add_converter,
    refuse_routing,
    replace_converter,
    replace_parser,
)

THRESHOLDS = (FixedThresholdClassifier, TunedThresholdClassifierCV)
_TUNED = "SklearnTunedThresholdClassifierCV"


@dataclass(frozen=True)
class Threshold:
    """Where a binary classifier switches to its positive class."""

    # Position in `classes_` of the class whose probability is compared.
    positive: int
    # The smallest probability for which this class is predicted.
    value: float

    def emit(self, graph: GraphBuilder, probabilities: str) -> str:
        """Compute the positions of the labels in float64, the type of the threshold."""
        column = graph.constant(self.positive, "threshold/class")
        score = graph.add("Gather", [probabilities, column], "threshold/score", axis=1)
        score = graph.add("Cast", [score], "threshold/score", to=TensorProto.DOUBLE)
        value = graph.constant(self.value, "threshold/value", np.float64)
        passed = graph.add("GreaterOrEqual", [score, value], "threshold/passed")
        positions = [
            graph.constant(position, "threshold/position")
            for position in (self.positive, 1 - self.positive)
        ]
        return graph.add("Where", [passed, *positions], "threshold/choice")


def read_threshold(model: Any) -> tuple[Any, Threshold]:
    """Split a fitted threshold classifier into its classifier and its threshold."""
    name = type(model).__name__
    if isinstance(model, FixedThresholdClassifier):
        # It may be around a classifier that was fitted before.
        estimator = getattr(model, "estimator_", model.estimator)
        value = 0.5 if model.threshold == "auto" else model.threshold
    else:
        check_is_fitted(model, "estimator_")
        estimator, value = model.estimator_, model.best_threshold_
    check_is_fitted(estimator)
    if model.response_method == "decision_function" or not hasattr(estimator, "predict_proba"):
        raise NotImplementedError(
            f"{name} must compare probabilities to be converted, got one that compares the "
            f"decision function of {type(estimator).__name__}: set "
            'response_method="predict_proba", and choose the threshold again.'
        )
    label, classes = positive_label(model), np.asarray(estimator.classes_)
    positive = 1 if label is None else int(np.flatnonzero(classes == label)[0])
    return estimator, Threshold(positive, float(value))


def add_thresholds() -> None:
    """Convert threshold classifiers; skl2onnx ignores the threshold or does not know the class."""
    replace_parser(TunedThresholdClassifierCV, _parse_tuned)
    replace_converter(_TUNED, TunedThresholdClassifierCV, infer_classifier, _convert)
    add_converter(
        FixedThresholdClassifier, infer_classifier, _convert, _parse_fixed, CLASSIFIER_OPTIONS
    )


def _parse_tuned(scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any) -> Any:
    return _parse(scope, model, inputs, _TUNED)


def _parse_fixed(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    return _parse(scope, model, inputs, "SkmodeFixedThresholdClassifier")


def _parse(scope: Any, model: Any, inputs: Any, alias: str) -> Any:
    refuse_routing(scope, model)
    read_threshold(model)  # before skl2onnx fails on an estimator that is not fitted
    return declare_classifier_outputs(scope, model, declare(scope, model, inputs, alias))


def _convert(scope: Any, operator: Any, container: Any) -> None:
    estimator, threshold = read_threshold(operator.raw_operator)
    combination = Combination(scope, operator, container)
    probabilities = combination.add_probabilities(estimator)
    position = threshold.emit(combination.graph, probabilities)
    combination.finish_classifier(position, probabilities, has_nocl(operator))
