"""Converters of steps before an estimator that skl2onnx cannot convert or converts wrongly:
columns of several numeric types, missing strings, fractional categories, edges of bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import set_number_type
from skmode.onnx._skl2onnx.encoders import (
    convert_one_hot,
    convert_ordinal,
    convert_target,
    infer_one_hot,
    infer_ordinal,
    infer_target,
)
from skmode.onnx._skl2onnx.numbers import (
    check_numbers,
    insert_on_numbers,
    is_float32,
    numbers_input,
    split_at_float32,
)
from skmode.onnx._skl2onnx.replacements import add_converter, reads_float32, replace_converter
from skmode.onnx._skl2onnx.steps.adapted import adapt_steps
from skmode.onnx._skl2onnx.steps.column_transformer import replace_column_transformer
from skmode.onnx._skl2onnx.steps.functions import replace_functions
from skmode.onnx._skl2onnx.steps.imputers import (
    convert_imputer,
    convert_indicator,
    infer_imputer,
    infer_indicator,
)
from skmode.onnx._skl2onnx.steps.powers import replace_powers
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
        ("SklearnTargetEncoder", TargetEncoder, infer_target, convert_target),
        ("SklearnKBinsDiscretizer", KBinsDiscretizer, _infer_bins, _convert_bins),
        ("SklearnBinarizer", Binarizer, _infer_binarizer, _convert_binarizer),
    ):
        replace_converter(alias, model, infer, convert)
    add_converter(MissingIndicator, infer_indicator, convert_indicator)
    adapt_steps()
    add_splines()
    replace_functions()
    replace_powers()
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


def _infer_bins(operator: Any) -> None:
    check_numbers(operator)
    model = operator.raw_operator
    width = len(model.n_bins_) if model.encode == "ordinal" else sum(model.n_bins_)
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), int(width)])


def _convert_bins(scope: Any, operator: Any, container: Any) -> None:
    """Count the inner edges of each column up to a value."""
    model = operator.raw_operator
    inner = [np.asarray(edges[1:-1], dtype=np.float64) for edges in model.bin_edges_]
    if _reads_float32(operator):
        inner = [split_at_float32(edges) for edges in inner]
    edges = np.full((len(inner), max(1, *map(len, inner))), np.inf)
    for row, found in zip(edges, inner, strict=True):
        row[: len(found)] = found
    graph = GraphBuilder()
    value = numbers_input(graph, len(inner))
    value = graph.add("Unsqueeze", [value, graph.constant([2], "axes")], "column")
    value = graph.add("GreaterOrEqual", [value, graph.add_weight(edges, "edges")], "is_above")
    value = graph.add("Cast", [value], "above", to=TensorProto.DOUBLE)
    value = graph.add("ReduceSum", [value, graph.constant([2], "axes")], "bins", keepdims=0)
    if model.encode != "ordinal":
        columns = np.repeat(np.arange(len(inner)), model.n_bins_)
        bins = np.concatenate([np.arange(n, dtype=np.float64) for n in model.n_bins_])
        value = graph.add(
            "Gather", [value, graph.constant(columns, "columns")], "bin_of_output", axis=1
        )
        value = graph.add("Equal", [value, graph.add_weight(bins, "bin")], "is_bin")
        value = graph.add("Cast", [value], "one_hot", to=TensorProto.DOUBLE)
    insert_on_numbers(scope, operator, container, graph, value)


def _infer_binarizer(operator: Any) -> None:
    check_numbers(operator)
    width = operator.raw_operator.n_features_in_
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), width])


def _convert_binarizer(scope: Any, operator: Any, container: Any) -> None:
    """Compare with the threshold: what equals it is 0, which skl2onnx's own converter makes 1."""
    # Larger than the threshold is at least the next number.
    edge = np.nextafter(np.array([operator.raw_operator.threshold], dtype=np.float64), np.inf)
    if _reads_float32(operator):
        edge = split_at_float32(edge)
    graph = GraphBuilder()
    value = numbers_input(graph, operator.raw_operator.n_features_in_)
    value = graph.add("GreaterOrEqual", [value, graph.add_weight(edge, "edge")], "is_above")
    value = graph.add("Cast", [value], "above", to=TensorProto.DOUBLE)
    insert_on_numbers(scope, operator, container, graph, value)


def _reads_float32(operator: Any) -> bool:
    """Whether the numbers were rounded to float32 on their way from the table or array."""
    return reads_float32() or any(is_float32(variable) for variable in operator.inputs)
