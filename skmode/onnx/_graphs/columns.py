"""The inputs of a graph: raw columns, one by one or in one array, to numbers and category codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from skmode.onnx._graphs.builder import GraphBuilder

ARRAY_INPUT = "X"
ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "string": TensorProto.STRING,
}


def emit_column_inputs(graph: GraphBuilder, columns: Sequence[Any]) -> list[str]:
    """Declare one input per column."""
    return [
        graph.add_input(column.input, ELEMENT_TYPES[column.dtype], ["n", 1]) for column in columns
    ]


def emit_array_input(graph: GraphBuilder, columns: Sequence[Any]) -> str:
    """Declare one input for all columns."""
    return graph.add_input(ARRAY_INPUT, TensorProto.FLOAT, ["n", len(columns)])


def emit_columns_of_array(graph: GraphBuilder, array: str, columns: Sequence[Any]) -> list[str]:
    """Split an array into its numbers, as one value, and its category columns."""
    numbers = [i for i, column in enumerate(columns) if column.kind == "number"]
    if len(numbers) == len(columns):
        return [array]
    parts = [numbers] if numbers else []
    parts += [[i] for i, column in enumerate(columns) if column.kind == "category"]
    return [
        graph.add(
            "Gather", [array, graph.constant(part, "columns/positions")], "columns/part", axis=1
        )
        for part in parts
    ]


def emit_numbers(graph: GraphBuilder, values: Sequence[str]) -> str | None:
    """Put number columns side by side, if there are any."""
    return graph.concatenate(values, "columns/numbers") if values else None


def emit_codes(graph: GraphBuilder, columns: Sequence[Any], values: Sequence[str]) -> str | None:
    """Look up the codes of categories: rows of the embedding table, which all columns share."""
    codes, offset = [], 0
    for column, value in zip(columns, values, strict=True):
        emit = _emit_string_code if column.dtype == "string" else _emit_number_code
        codes.append(emit(graph, column, value, offset))
        offset += 1 + len(column.categories) + column.has_missing
    return graph.concatenate(codes, "columns/codes") if codes else None


def _emit_string_code(graph: GraphBuilder, column: Any, value: str, offset: int) -> str:
    """Look up a string; a missing one is empty, an unseen one gets the column's first row."""
    keys = [*column.categories, ""] if column.has_missing else list(column.categories)
    return graph.add(
        "LabelEncoder",
        [value],
        f"columns/code/{column.name}",
        domain="ai.onnx.ml",
        keys_strings=[key.encode() for key in keys],
        values_int64s=[offset + 1 + i for i in range(len(keys))],
        default_int64=offset,
    )


def _emit_number_code(graph: GraphBuilder, column: Any, value: str, offset: int) -> str:
    """Compare with every known number, because lookup by floating-point keys is not portable."""
    name = f"columns/code/{column.name}"
    dtype = np.dtype(column.dtype)
    n_known = len(column.categories)
    unseen = graph.constant([[offset]], f"{name}/unseen")
    code = unseen
    if n_known:
        known = graph.constant([column.categories], f"{name}/known", dtype)
        # A value equals at most one category, so the product is its exact position; 0 means none.
        numbers = graph.constant(np.arange(1, n_known + 1)[:, None], f"{name}/numbers", np.float32)
        equal = graph.add("Equal", [value, known], f"{name}/equal")
        equal = graph.add("Cast", [equal], f"{name}/equal", to=TensorProto.FLOAT)
        position = graph.add("MatMul", [equal, numbers], f"{name}/position")
        position = graph.add("Cast", [position], f"{name}/position", to=TensorProto.INT64)
        code = graph.add("Add", [position, unseen], name)
    if not column.has_missing:
        return code
    missing = graph.add("IsNaN", [value], f"{name}/is_missing")
    missing_code = graph.constant([[offset + 1 + n_known]], f"{name}/missing")
    return graph.add("Where", [missing, missing_code, code], name)
