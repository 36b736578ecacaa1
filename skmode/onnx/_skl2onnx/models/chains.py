"""Converters of ClassifierChain and RegressorChain, whose links read what earlier links predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType
from sklearn.base import is_classifier
from sklearn.multioutput import ClassifierChain, RegressorChain
from sklearn.utils.validation import check_is_fitted

from skmode.onnx._skl2onnx.containers import (
    add_integers,
    add_node,
    cast,
    class_labels,
    connect_output,
    join_columns,
    set_number_type,
)
from skmode.onnx._skl2onnx.models.nested import declare_nested
from skmode.onnx._skl2onnx.models.outputs import declare
from skmode.onnx._skl2onnx.numbers import check_numbers
from skmode.onnx._skl2onnx.replacements import add_converter, refuse_routing


def add_chains() -> None:
    """Add converters of both chains."""
    add_converter(
        ClassifierChain, _infer, _convert, _parse_classifiers, {"zipmap": [True, False, "columns"]}
    )
    add_converter(RegressorChain, _infer, _convert, _parse_regressors)


def _parse_classifiers(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    operator = _declare(scope, model, inputs)
    operator.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    if all(len(link.classes_) == 2 for link in model.estimators_):
        operator.outputs.append(scope.declare_local_variable("probabilities", FloatTensorType()))
    return list(operator.outputs)


def _parse_regressors(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    operator = _declare(scope, model, inputs)
    operator.outputs.append(scope.declare_local_variable("variable", FloatTensorType()))
    return list(operator.outputs)


def _declare(scope: Any, model: Any, inputs: Any) -> Any:
    check_is_fitted(model, "estimators_")
    refuse_routing(scope, model)
    if _method(model) == "decision_function":
        raise NotImplementedError(
            "The links of a ClassifierChain must pass on labels or probabilities to be converted, "
            'got chain_method="decision_function": set chain_method="predict_proba".'
        )
    return declare(scope, model, inputs, f"Skmode{type(model).__name__}")


def _method(model: Any) -> str:
    return getattr(model, "chain_method_", "predict")


def _infer(operator: Any) -> None:
    check_numbers(operator)
    shape = [operator.inputs[0].get_first_dimension(), len(operator.raw_operator.estimators_)]
    if isinstance(operator.raw_operator, ClassifierChain):
        operator.outputs[0].set_type(Int64TensorType(shape))
    if len(operator.outputs) > 1 or isinstance(operator.raw_operator, RegressorChain):
        set_number_type(operator.outputs[-1], shape)


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Convert link by link, and put the predictions into the order of the targets."""
    model = operator.raw_operator
    features = join_columns(scope, container, operator.inputs, TensorProto.DOUBLE)
    predicted: list[list[str]] = []
    for i, link in enumerate(model.estimators_):
        kind = DoubleTensorType([None, model.n_features_in_ + i])
        inputs = scope.declare_local_variable("chain", kind)
        connect_output(container, features, inputs)
        columns = _predict_link(scope, container, link, inputs)
        predicted.append(columns)
        passed = columns[-1 if _method(model) == "predict_proba" else 0]
        passed = cast(scope, container, passed, TensorProto.DOUBLE)
        features = add_node(scope, container, "Concat", [features, passed], axis=1)
    for kind, output in enumerate(operator.outputs):
        values = [predicted[i][kind] for i in np.argsort(model.order_)]
        connect_output(container, add_node(scope, container, "Concat", values, axis=1), output)


def _predict_link(scope: Any, container: Any, link: Any, inputs: Any) -> list[str]:
    """Get the label and the probability of the second class, or the value, each as one column."""
    classes = class_labels(link) if is_classifier(link) else None
    labels, numbers = declare_nested(scope, link, [inputs], classes)
    shape = add_integers(scope, container, [-1, 1])
    if labels is None:
        return [add_node(scope, container, "Reshape", [numbers.full_name, shape])]
    second = add_integers(scope, container, [1])
    return [
        add_node(scope, container, "Reshape", [labels.full_name, shape]),
        add_node(scope, container, "Gather", [numbers.full_name, second], axis=1),
    ]
