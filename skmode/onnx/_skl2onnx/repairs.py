"""Converters of steps before an estimator that skl2onnx cannot convert or converts wrongly for
tables: columns of several numeric types, missing strings, fractional categories.
"""

from __future__ import annotations

from typing import Any

from skl2onnx.common.data_types import DoubleTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from skmode.onnx._graphs.builder import OPSET, GraphBuilder
from skmode.onnx._skl2onnx.containers import main_opset, set_number_type
from skmode.onnx._skl2onnx.encoders import (
    convert_one_hot,
    convert_ordinal,
    infer_one_hot,
    infer_ordinal,
)
from skmode.onnx._skl2onnx.imputers import convert_imputer, infer_imputer
from skmode.onnx._skl2onnx.numbers import NUMBERS, check_numbers, insert_on_numbers, numbers_input
from skmode.onnx._skl2onnx.replacements import replace_converter, replace_parser


def replace_steps() -> None:
    """Replace skl2onnx's converters of some steps."""
    replace_parser(ColumnTransformer, _parse_column_transformer)
    for alias, model, infer, convert in (
        ("SklearnScaler", StandardScaler, _infer_scaler, _convert_scaler),
        ("SklearnSimpleImputer", SimpleImputer, infer_imputer, convert_imputer),
        ("SklearnOneHotEncoder", OneHotEncoder, infer_one_hot, convert_one_hot),
        ("SklearnOrdinalEncoder", OrdinalEncoder, infer_ordinal, convert_ordinal),
    ):
        replace_converter(alias, model, infer, convert)


def _parse_column_transformer(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any
) -> Any:
    """Cast number columns to one type: skl2onnx assumes that all have the type of the first."""
    kinds = {type(variable.type) for variable in inputs if isinstance(variable.type, NUMBERS)}
    if len(kinds) > 1 and main_opset(scope.target_opset) >= OPSET:
        inputs = [_to_double(scope, variable) for variable in inputs]
    return original(scope, model, inputs, custom_parsers)


def _to_double(scope: Any, variable: Any) -> Any:
    if not isinstance(variable.type, NUMBERS) or isinstance(variable.type, DoubleTensorType):
        return variable
    operator = scope.declare_local_operator("SklearnCast")
    operator.inputs = [variable]
    kind = DoubleTensorType(list(variable.type.shape))
    operator.outputs.append(scope.declare_local_variable(variable.raw_name, kind))
    return operator.outputs[0]


def _infer_scaler(operator: Any) -> None:
    check_numbers(operator)
    model = operator.raw_operator
    set_number_type(
        operator.outputs[0], [operator.inputs[0].get_first_dimension(), model.n_features_in_]
    )


def _convert_scaler(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    graph = GraphBuilder()
    value = numbers_input(graph, model.n_features_in_)
    if model.with_mean:
        value = graph.add("Sub", [value, graph.add_weight(model.mean_, "mean")], "centered")
    if model.with_std:
        value = graph.add("Div", [value, graph.add_weight(model.scale_, "scale")], "scaled")
    insert_on_numbers(scope, operator, container, graph, value)
