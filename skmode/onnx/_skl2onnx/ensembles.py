"""Converters of models around an estimator that skl2onnx cannot convert or converts wrongly:
calibration, voting, FrozenEstimator, and dicts of probabilities.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import skl2onnx
from onnx import TensorProto
from skl2onnx.common.data_types import (
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skmode._unwrap import is_search
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.compat import find_alias, parse_model
from skmode.onnx._skl2onnx.containers import (
    class_labels,
    connect_output,
    insert_model,
    set_number_type,
)
from skmode.onnx._skl2onnx.replacements import (
    contains,
    original_converter,
    original_shapes,
    refuse_routing,
    replace_converter,
)


def replace_ensembles() -> None:
    """Replace skl2onnx's converters of calibration, voting and dicts of probabilities."""
    replace_converter(
        "SklearnCalibratedClassifierCV",
        CalibratedClassifierCV,
        _infer_calibrated,
        _convert_calibrated,
        # skl2onnx cannot reach their decision functions, and would convert without them.
        also_for=lambda model: contains(model.calibrated_classifiers_, FrozenEstimator),
    )
    replace_converter("SklearnVotingClassifier", VotingClassifier, None, _convert_voting)
    replace_converter("SklearnVotingRegressor", VotingRegressor, None, _convert_voting)
    replace_converter("SklearnZipMap", type(None), _infer_zip_map, _convert_zip_map)


def register_frozen_estimator() -> None:
    """Register a converter of FrozenEstimator, unless skl2onnx has one."""
    if find_alias(FrozenEstimator) is not None:
        return
    skl2onnx.update_registered_converter(
        FrozenEstimator,
        "SkmodeFrozenEstimator",
        _infer_frozen,
        _convert_frozen,
        parser=_parse_frozen,
        options={
            "zipmap": [True, False, "columns"],
            "nocl": [True, False],
            "output_class_labels": [False, True],
            "raw_scores": [True, False],
        },
    )


def _infer_zip_map(operator: Any) -> None:
    """Infer as skl2onnx does, but with float32 values, the only type that ZipMap supports."""
    original_shapes(operator.type)(operator)
    element = operator.outputs[-1].type.element_type
    element.value_type = FloatTensorType([])


def _convert_zip_map(scope: Any, operator: Any, container: Any) -> None:
    """Cast probabilities to float32; skl2onnx passes float64, which ONNX does not allow."""
    probabilities = operator.inputs[-1].full_name
    name = scope.get_unique_variable_name(f"{probabilities}_float32")
    node_name = scope.get_unique_operator_name("Cast")
    container.add_node("Cast", [probabilities], [name], name=node_name, to=TensorProto.FLOAT)
    labels = ("classlabels_int64s", "classlabels_strings")
    stand_in = SimpleNamespace(
        inputs=[*operator.inputs[:-1], SimpleNamespace(full_name=name)],
        outputs=operator.outputs,
        **{key: getattr(operator, key) for key in labels if hasattr(operator, key)},
    )
    original_converter(operator.type)(scope, stand_in, container)


def _convert_voting(scope: Any, operator: Any, container: Any) -> None:
    """Convert a copy that suits skl2onnx: weights as an array, without dropped estimators, and
    `flatten_transform`, whose default it does not support, turned off; it affects only `transform`.
    """
    model = copy.copy(operator.raw_operator)
    if isinstance(model, VotingClassifier):
        if _has_nocl(operator):  # skl2onnx would not see it on the copy
            raise NotImplementedError(
                "Option nocl must be False for a VotingClassifier, got True: convert it without "
                "nocl, and look up the positions of the labels in classes_."
            )
        model.flatten_transform = False
    if model.weights is not None:
        pairs = zip(model.estimators, model.weights, strict=True)
        model.weights = np.asarray([weight for (_, part), weight in pairs if part != "drop"])
    alias = operator.type
    patched = operator.new_raw_operator(model, alias)
    original_converter(alias)(scope, patched, container)


def _has_nocl(operator: Any) -> bool:
    model = operator.raw_operator
    return bool(operator.scope_inst.get_options(model, {"nocl": False})["nocl"])


def _infer_calibrated(operator: Any) -> None:
    labels = class_labels(operator.raw_operator, _has_nocl(operator))
    n_rows = operator.inputs[0].get_first_dimension()
    kind = StringTensorType if labels.dtype.kind == "O" else Int64TensorType
    operator.outputs[0].set_type(kind([n_rows]))
    set_number_type(operator.outputs[1], [n_rows, len(labels)])


def _convert_calibrated(scope: Any, operator: Any, container: Any) -> None:
    """Calibrate the probabilities of estimators that have no decision function."""
    model = operator.raw_operator
    fitted = model.calibrated_classifiers_
    if any(hasattr(part.estimator, "decision_function") for part in fitted):
        for part in fitted:
            _check_decision_function(part, container)
        original_converter(operator.type)(scope, operator, container)
        return
    graph = GraphBuilder()
    inputs, answers = {}, []
    for i, part in enumerate(fitted):
        name = f"probabilities_{i}"
        inputs[name] = _declare_probabilities(scope, operator, part.estimator)
        value = graph.add_input(name, TensorProto.FLOAT, ["n", len(part.estimator.classes_)])
        value = graph.add("Cast", [value], f"{name}/double", to=TensorProto.DOUBLE)
        answers.append(_emit_calibration(graph, part, value))
    total = graph.add("Sum", answers, "total")
    count = graph.constant(len(answers), "count", np.float64)
    mean = graph.add("Div", [total, count], "probabilities")
    index = graph.add("ArgMax", [mean], "index", axis=1, keepdims=0)
    classes = class_labels(model, _has_nocl(operator))
    label = graph.add("Gather", [graph.add_weight(classes, "classes"), index], "label")
    strings = classes.dtype.kind == "O"
    graph.add_output(label, TensorProto.STRING if strings else TensorProto.INT64, ["n"])
    graph.add_output(mean, TensorProto.DOUBLE, ["n", len(model.classes_)])
    proto = graph.to_model("CalibratedClassifierCV", {})
    results = insert_model(scope, container, proto, inputs, "CalibratedClassifierCV")
    for output, variable in zip((label, mean), operator.outputs, strict=True):
        connect_output(container, results[output], variable)


def _check_decision_function(part: Any, container: Any) -> None:
    """Raise if skl2onnx would not calibrate an estimator as scikit-learn does."""
    estimator = _unfreeze(part.estimator)
    if part.method != "sigmoid":
        raise NotImplementedError(
            "Calibration of an estimator with a decision function must be sigmoid to be converted, "
            f'got method={part.method!r}: fit with method="sigmoid".'
        )
    name = type(estimator).__name__
    if _is_wrapper(estimator):
        raise NotImplementedError(
            f"Calibration of a {name} must use probabilities, got an estimator with a decision "
            "function: calibrate only the last estimator, and move the steps before it out of the "
            "calibration."
        )
    if not container.has_options(estimator, "raw_scores"):
        raise NotImplementedError(
            "Calibration needs an estimator whose decision function skl2onnx converts, got "
            f"{name}: choose one with option raw_scores, or one without decision_function."
        )


def _declare_probabilities(scope: Any, operator: Any, estimator: Any) -> str:
    """Declare an estimator for skl2onnx to convert, and get the name of its probabilities."""
    nested = scope.declare_local_operator(_alias(estimator), estimator)
    nested.inputs = operator.inputs
    nested.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    probabilities = scope.declare_local_variable("uncalibrated", FloatTensorType())
    nested.outputs.append(probabilities)
    name: str = probabilities.full_name
    return name


def _alias(estimator: Any) -> str:
    alias = find_alias(type(estimator))
    if alias is None:
        raise NotImplementedError(
            "skl2onnx must have a converter for every part of a model, got a "
            f"{type(estimator).__name__} without one: replace it, or register a converter with "
            "skl2onnx.update_registered_converter."
        )
    return alias


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


def _parse_frozen(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Parse a FrozenEstimator as the estimator in it."""
    refuse_routing(scope, model)
    options = scope.get_options(model)
    if options:
        scope.add_options(id(model.estimator), options)
    return parse_model(scope, model.estimator, inputs, custom_parsers=custom_parsers)


def _infer_frozen(operator: Any) -> None:
    """Set the types that an outer model reads; skl2onnx does not infer them for a Pipeline."""
    estimator = operator.raw_operator.estimator
    n_rows = operator.inputs[0].get_first_dimension()
    if not is_classifier(estimator):
        set_number_type(operator.outputs[0], [n_rows, None])
        return
    labels = class_labels(estimator)
    kind = StringTensorType if labels.dtype.kind == "O" else Int64TensorType
    operator.outputs[0].set_type(kind([n_rows]))
    set_number_type(operator.outputs[1], [n_rows, len(labels)])


def _convert_frozen(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    if is_classifier(model):
        _pass_raw_scores(scope, container, model)
    nested = scope.declare_local_operator(_alias(model.estimator), model.estimator)
    nested.inputs = operator.inputs
    for output in operator.outputs:
        variable = scope.declare_local_variable(output.raw_name, type(output.type)())
        nested.outputs.append(variable)
        connect_output(container, variable.full_name, output)


def _pass_raw_scores(scope: Any, container: Any, model: Any) -> None:
    """Pass option raw_scores on to the estimator if the outer model reads its decision function."""
    estimator = _unfreeze(model)
    name = type(estimator).__name__
    if container.get_options(model, {"raw_scores": False})["raw_scores"]:
        if _is_wrapper(estimator) or not container.has_options(estimator, "raw_scores"):
            raise NotImplementedError(
                "A decision function can be converted only if skl2onnx has option raw_scores for "
                f"its estimator, got a FrozenEstimator of a {name}: freeze an estimator that has "
                "it, or let the outer model use predict_proba."
            )
        for options in (scope, container):
            options.add_options(id(model.estimator), {"raw_scores": True})
    elif not hasattr(estimator, "predict_proba"):
        raise NotImplementedError(
            "A FrozenEstimator in another model must have predict_proba to be converted, got one "
            f"of a {name}: use a classifier with predict_proba."
        )


def _is_wrapper(estimator: Any) -> bool:
    return isinstance(estimator, Pipeline) or is_search(estimator)


def _unfreeze(model: Any) -> Any:
    while isinstance(model, FrozenEstimator):
        model = model.estimator
    return model
