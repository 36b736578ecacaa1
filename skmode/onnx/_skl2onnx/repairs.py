"""Converters of steps before an estimator that skl2onnx cannot convert or converts wrongly for
tables: columns of several numeric types, missing strings, fractional categories.
"""

from __future__ import annotations

from typing import Any

from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import set_number_type
from skmode.onnx._skl2onnx.encoders import (
    convert_one_hot,
    convert_ordinal,
    infer_one_hot,
    infer_ordinal,
)
from skmode.onnx._skl2onnx.numbers import check_numbers, insert_on_numbers, numbers_input
from skmode.onnx._skl2onnx.replacements import add_converter, replace_converter
from skmode.onnx._skl2onnx.steps.column_transformer import replace_column_transformer
from skmode.onnx._skl2onnx.steps.functions import replace_functions
from skmode.onnx._skl2onnx.steps.imputers import (
    convert_imputer,
    convert_indicator,
    infer_imputer,
    infer_indicator,
)
from skmode.onnx._skl2onnx.steps.quantiles import replace_quantiles
from skmode.onnx._skl2onnx.steps.selectors import replace_selectors
from skmode.onnx._skl2onnx.steps.splines import add_splines


def replace_steps() -> None:
    """Replace skl2onnx's converters of some steps."""
    replace_column_transformer()
    for alias, model, infer, convert in (
        ("SklearnScaler", StandardScaler, _infer_scaler, _convert_scaler),
        ("SklearnSimpleImputer", SimpleImputer, infer_imputer, convert_imputer),
        ("SklearnOneHotEncoder", OneHotEncoder, infer_one_hot, convert_one_hot),
        ("SklearnOrdinalEncoder", OrdinalEncoder, infer_ordinal, convert_ordinal),
    ):
        replace_converter(alias, model, infer, convert)
    add_converter(MissingIndicator, infer_indicator, convert_indicator)
    add_splines()
    replace_functions()
    replace_quantiles()
    replace_selectors()


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
