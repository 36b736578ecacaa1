"""Converter of TransformedTargetRegressor."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import TransformedTargetRegressor
from sklearn.utils.validation import check_is_fitted

from skmode.onnx._skl2onnx.containers import set_number_type
from skmode.onnx._skl2onnx.models.nested import Combination
from skmode.onnx._skl2onnx.models.outputs import declare
from skmode.onnx._skl2onnx.replacements import add_converter, refuse_routing
from skmode.onnx._skl2onnx.steps.inverses import check_inverse, emit_inverse


def add_targets() -> None:
    """Add a converter of TransformedTargetRegressor."""
    add_converter(TransformedTargetRegressor, _infer, _convert, _parse)


def _parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    check_is_fitted(model)
    refuse_routing(scope, model)
    check_inverse(model.transformer_)
    operator = declare(scope, model, inputs, "SkmodeTransformedTargetRegressor")
    operator.outputs.append(scope.declare_local_variable("variable", FloatTensorType()))
    return list(operator.outputs)


def _infer(operator: Any) -> None:
    transformer = operator.raw_operator.transformer_
    width = getattr(transformer, "n_features_in_", None)
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    combination = Combination(scope, operator, container)
    value = combination.add_regressor(model.regressor_)
    value = emit_inverse(combination.graph, model.transformer_, value)
    combination.finish((value, TensorProto.DOUBLE, ["n", None]))
