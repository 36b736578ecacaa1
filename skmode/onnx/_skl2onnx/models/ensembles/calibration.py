"""Converter of CalibratedClassifierCV around estimators without a decision function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.models.nested import Combination
from skmode.onnx._skl2onnx.models.outputs import has_nocl, infer_classifier
from skmode.onnx._skl2onnx.models.wrappers import is_wrapper, unfreeze
from skmode.onnx._skl2onnx.replacements import contains, original_converter, replace_converter


def replace_calibration() -> None:
    """Replace skl2onnx's converter of CalibratedClassifierCV."""
    replace_converter(
        "SklearnCalibratedClassifierCV",
        CalibratedClassifierCV,
        infer_classifier,
        _convert_calibrated,
        # skl2onnx cannot reach their decision functions, and would convert without them.
        also_for=lambda model: contains(model.calibrated_classifiers_, FrozenEstimator),
    )


def _convert_calibrated(scope: Any, operator: Any, container: Any) -> None:
    """Calibrate the probabilities of estimators that have no decision function."""
    model = operator.raw_operator
    fitted = model.calibrated_classifiers_
    if any(hasattr(part.estimator, "decision_function") for part in fitted):
        for part in fitted:
            _check_decision_function(part, container)
        original_converter(operator.type)(scope, operator, container)
        return
    combination = Combination(scope, operator, container)
    graph = combination.graph
    answers = [
        _emit_calibration(graph, part, combination.add_probabilities(part.estimator))
        for part in fitted
    ]
    total = graph.add("Sum", answers, "total")
    count = graph.constant(len(answers), "count", np.float64)
    mean = graph.add("Div", [total, count], "probabilities")
    index = graph.add("ArgMax", [mean], "index", axis=1, keepdims=0)
    combination.finish_classifier(index, mean, has_nocl(operator))


def _check_decision_function(part: Any, container: Any) -> None:
    """Raise if skl2onnx would not calibrate an estimator as scikit-learn does."""
    estimator = unfreeze(part.estimator)
    if part.method != "sigmoid":
        raise NotImplementedError(
            "Calibration of an estimator with a decision function must be sigmoid to be converted, "
            f'got method={part.method!r}: fit with method="sigmoid".'
        )
    name = type(estimator).__name__
    if is_wrapper(estimator):
        raise NotImplementedError(
            f"Calibration of {name} must use probabilities, got an estimator with a decision "
            "function: calibrate only the last estimator, and move the steps before it out of the "
            "calibration."
        )
    if not container.has_options(estimator, "raw_scores"):
        raise NotImplementedError(
            "Calibration needs an estimator whose decision function skl2onnx converts, got "
            f"{name}: choose one with option raw_scores, or one without decision_function."
        )


def _emit_calibration(graph: GraphBuilder, part: Any, value: str) -> str:
    """Calibrate the probabilities of one fitted classifier, in float64."""
    n_classes = len(part.classes)
    if part.method not in ("sigmoid", "isotonic"):
        raise NotImplementedError(
            f'method must be "sigmoid" or "isotonic" to be converted, got {part.method!r}: choose '
            "one of these."
        )
    if not np.array_equal(part.estimator.classes_, part.classes):
        raise NotImplementedError(
            "Each fold must hold rows of all classes, got one with "
            f"{np.asarray(part.estimator.classes_).tolist()}: use fewer folds."
        )
    positions = [1] if n_classes == 2 else range(n_classes)
    emit = _emit_sigmoid if part.method == "sigmoid" else _emit_isotonic
    columns = []
    for position, calibrator in zip(positions, part.calibrators, strict=True):
        column = graph.constant([position], "position")
        column = graph.add("Gather", [value, column], "uncalibrated", axis=1)
        columns.append(emit(graph, calibrator, column))
    one = graph.constant(1, "one", np.float64)
    if n_classes == 2:
        columns.insert(0, graph.add("Sub", [one, columns[0]], "other_class"))
        return graph.add("Concat", columns, "calibrated", axis=1)
    return _emit_normalization(graph, columns)


def _emit_normalization(graph: GraphBuilder, columns: Sequence[str]) -> str:
    """Scale the probabilities of a row to sum to one; if all are zero, they become equal."""
    value = graph.add("Concat", columns, "calibrated", axis=1)
    zero = graph.constant(0, "zero", np.float64)
    total = graph.add("ReduceSum", [value, graph.constant([1], "axis")], "sum")
    empty = graph.add("Equal", [total, zero], "is_empty")
    share = graph.constant(1 / len(columns), "share", np.float64)
    one = graph.constant(1, "one", np.float64)
    value = graph.add("Where", [empty, share, value], "calibrated")
    return graph.add("Div", [value, graph.add("Where", [empty, one, total], "sum")], "normalized")


def _emit_sigmoid(graph: GraphBuilder, calibrator: Any, value: str) -> str:
    slope = graph.constant(-calibrator.a_, "slope", np.float64)
    offset = graph.constant(-calibrator.b_, "offset", np.float64)
    value = graph.add("Mul", [value, slope], "scaled")
    return graph.add("Sigmoid", [graph.add("Add", [value, offset], "shifted")], "calibrated")


def _emit_isotonic(graph: GraphBuilder, calibrator: Any, value: str) -> str:
    """Interpolate between the thresholds; outside of them the value is constant."""
    x, y = calibrator.X_thresholds_, calibrator.y_thresholds_
    if len(x) == 1:
        x, y = np.array([x[0], x[0] + 1]), np.repeat(y, 2)
    bounds = [graph.constant(side, "bound", np.float64) for side in (x[0], x[-1])]
    value = graph.add("Clip", [value, *bounds], "clipped")
    inner = graph.constant(x[None, 1:-1], "thresholds", np.float64)
    passed = graph.add("GreaterOrEqual", [value, inner], "passed")
    passed = graph.add("Cast", [passed], "passed", to=TensorProto.INT64)
    axis = graph.constant([1], "axis")
    segment = graph.add("ReduceSum", [passed, axis], "segment")
    slopes = np.diff(y) / np.diff(x)
    parts = {"start": x[:-1], "height": y[:-1], "slope": slopes}
    start, height, slope = (
        graph.add("Gather", [graph.constant(array, name, np.float64), segment], name)
        for name, array in parts.items()
    )
    value = graph.add("Mul", [graph.add("Sub", [value, start], "step"), slope], "rise")
    return graph.add("Add", [value, height], "calibrated")
