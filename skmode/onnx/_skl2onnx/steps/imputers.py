"""Converters of SimpleImputer and MissingIndicator, for numbers in float64 and for strings, where
``""`` is missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx.common.data_types import StringTensorType

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import (
    column_widths,
    connect_output,
    insert_model,
    set_number_type,
    split_columns,
)
from skmode.onnx._skl2onnx.numbers import check_numbers, insert_on_numbers, numbers_input


def infer_imputer(operator: Any) -> None:
    """Set type and shape of the output of a SimpleImputer."""
    model, output = operator.raw_operator, operator.outputs[0]
    column_widths("SimpleImputer", operator.inputs, model.n_features_in_)
    shape = [operator.inputs[0].get_first_dimension(), len(_kept(model)) + len(_indicated(model))]
    if not isinstance(operator.inputs[0].type, StringTensorType):
        check_numbers(operator)
        set_number_type(output, shape)
        return
    for variable in operator.inputs:
        if not isinstance(variable.type, StringTensorType):
            raise TypeError(
                "A SimpleImputer of strings must get strings only, got "
                f"{type(variable.type).__name__} from {variable.raw_name!r}: impute numbers and "
                "strings separately."
            )
    if len(_indicated(model)):
        raise NotImplementedError(
            "add_indicator of a SimpleImputer must be False for strings, got True: use a separate "
            "MissingIndicator, because a graph cannot hold strings and numbers in one array."
        )
    output.set_type(StringTensorType(shape))


def _kept(model: Any) -> NDArray[np.int64]:
    """Find the columns that had values in training; the imputer drops the other columns."""
    if model.keep_empty_features:
        return np.arange(len(model.statistics_))
    return np.flatnonzero(~pd.isna(model.statistics_))


def _indicated(model: Any) -> NDArray[np.int64]:
    return np.asarray(model.indicator_.features_ if model.add_indicator else [], dtype=np.int64)


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Fill missing numbers or strings."""
    if isinstance(operator.inputs[0].type, StringTensorType):
        _convert_string_imputer(scope, operator, container)
        return
    model = operator.raw_operator
    graph = GraphBuilder()
    value = numbers_input(graph, model.n_features_in_)
    missing = _emit_missing_numbers(graph, model, value)
    fill = graph.add_weight(np.asarray(model.statistics_, dtype=np.float64)[None], "fill")
    filled = graph.add("Where", [missing, fill, value], "filled")
    filled = graph.add("Gather", [filled, graph.constant(_kept(model), "kept")], "filled", axis=1)
    if len(_indicated(model)):
        features = graph.constant(_indicated(model), "indicated")
        missing = graph.add("Gather", [missing, features], "indicator", axis=1)
        missing = graph.add("Cast", [missing], "indicator", to=TensorProto.DOUBLE)
        filled = graph.add("Concat", [filled, missing], "filled", axis=1)
    insert_on_numbers(scope, operator, container, graph, filled)


def _emit_missing_numbers(graph: GraphBuilder, model: Any, value: str) -> str:
    if pd.isna(model.missing_values):
        return graph.add("IsNaN", [value], "missing")
    marker = graph.constant(model.missing_values, "marker", np.float64)
    return graph.add("Equal", [value, marker], "missing")


def _emit_missing_string(graph: GraphBuilder, model: Any, value: str) -> str:
    marker = "" if pd.isna(model.missing_values) else str(model.missing_values)
    missing = graph.add(
        "LabelEncoder",
        [value],
        "missing",
        domain="ai.onnx.ml",
        keys_strings=[marker.encode()],
        values_int64s=[1],
        default_int64=0,
    )
    return graph.add("Cast", [missing], "missing", to=TensorProto.BOOL)


def _convert_string_imputer(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    graph = GraphBuilder()
    names = [f"column_{i}" for i in range(model.n_features_in_)]
    values = [graph.add_input(name, TensorProto.STRING, ["n", 1]) for name in names]
    filled = []
    for i in _kept(model):
        fill = graph.add_weight(np.array([[str(model.statistics_[i])]], dtype=object), "fill")
        missing = _emit_missing_string(graph, model, values[i])
        filled.append(graph.add("Where", [missing, fill, values[i]], "filled"))
    output = graph.add("Concat", filled, "output", axis=1)
    graph.add_output(output, TensorProto.STRING, ["n", len(filled)])
    columns = split_columns(scope, container, operator.inputs, [TensorProto.STRING] * len(names))
    inputs = dict(zip(names, columns, strict=True))
    model_proto = graph.to_model("SimpleImputer", {})
    results = insert_model(scope, container, model_proto, inputs, "SimpleImputer")
    connect_output(container, results[output], operator.outputs[0])


def infer_indicator(operator: Any) -> None:
    """Set type and shape of the output of a MissingIndicator."""
    model = operator.raw_operator
    column_widths("MissingIndicator", operator.inputs, model.n_features_in_)
    shape = [operator.inputs[0].get_first_dimension(), len(model.features_)]
    set_number_type(operator.outputs[0], shape)


def convert_indicator(scope: Any, operator: Any, container: Any) -> None:
    """Mark missing numbers and strings, column by column."""
    model = operator.raw_operator
    strings = [
        isinstance(variable.type, StringTensorType)
        for variable in operator.inputs
        for _ in range(variable.get_second_dimension())
    ]
    dtypes = [TensorProto.STRING if one else TensorProto.DOUBLE for one in strings]
    graph = GraphBuilder()
    flags = []
    for i, is_string in enumerate(strings):
        value = graph.add_input(f"column_{i}", dtypes[i], ["n", 1])
        emit = _emit_missing_string if is_string else _emit_missing_numbers
        flags.append(emit(graph, model, value))
    flag = graph.add("Concat", flags, "flags", axis=1)
    flag = graph.add("Cast", [flag], "flags", to=TensorProto.INT64)
    if model.features == "missing-only" and model.error_on_new:
        flag = _emit_error_on_new(graph, model, flag)
    chosen = graph.constant(model.features_, "chosen")
    flag = graph.add("Gather", [flag, chosen], "chosen", axis=1)
    output = graph.add("Cast", [flag], "output", to=TensorProto.DOUBLE)
    graph.add_output(output, TensorProto.DOUBLE, ["n", None])
    values = split_columns(scope, container, operator.inputs, dtypes)
    names = [f"column_{i}" for i in range(len(values))]
    proto = graph.to_model("MissingIndicator", {})
    inputs = dict(zip(names, values, strict=True))
    results = insert_model(scope, container, proto, inputs, "MissingIndicator")
    connect_output(container, results[output], operator.outputs[0])


def _emit_error_on_new(graph: GraphBuilder, model: Any, flag: str) -> str:
    """Make the runtime raise where scikit-learn does, by an index past the end of one entry: a
    value is missing in a column that had none missing in training.
    """
    known = np.isin(np.arange(model.n_features_in_), model.features_)
    new = graph.constant([~known], "new")
    index = graph.add("Mul", [flag, new], "index")
    zero = graph.add("Gather", [graph.constant([0], "new_missing_is_an_error"), index], "check")
    return graph.add("Add", [flag, zero], "checked")
