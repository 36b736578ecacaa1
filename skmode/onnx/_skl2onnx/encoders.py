"""Converters of OneHotEncoder, OrdinalEncoder and TargetEncoder that support missing strings and
compare numbers in float64.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.columns import ELEMENT_TYPES, emit_codes, emit_column_inputs
from skmode.onnx._skl2onnx.containers import (
    column_widths,
    connect_output,
    insert_model,
    set_number_type,
    split_columns,
)
from skmode.onnx._skl2onnx.numbers import NUMBERS, is_float32
from skmode.onnx._skl2onnx.replacements import reads_float32
from skmode_deploy import bundle


def infer_one_hot(operator: Any) -> None:
    """Set type and shape of the output of a OneHotEncoder."""
    model = operator.raw_operator
    _check_category_inputs(operator)
    shape = [operator.inputs[0].get_first_dimension(), sum(_widths(model))]
    if np.issubdtype(model.dtype, np.integer):
        operator.outputs[0].set_type(Int64TensorType(shape))
    else:
        operator.outputs[0].set_type(FloatTensorType(shape))


def infer_ordinal(operator: Any) -> None:
    """Set type and shape of the output of an OrdinalEncoder."""
    model = operator.raw_operator
    _check_category_inputs(operator)
    integers = np.issubdtype(model.dtype, np.integer)
    kind = Int64TensorType if integers else FloatTensorType
    operator.outputs[0].set_type(
        kind([operator.inputs[0].get_first_dimension(), len(model.categories_)])
    )


def infer_target(operator: Any) -> None:
    """Set type and shape of the output of a TargetEncoder."""
    _check_category_inputs(operator)
    width = len(operator.raw_operator.encodings_)
    set_number_type(operator.outputs[0], [operator.inputs[0].get_first_dimension(), width])


def _check_category_inputs(operator: Any) -> None:
    model = operator.raw_operator
    name = type(model).__name__
    widths = column_widths(name, operator.inputs, len(model.categories_))
    pairs = zip(operator.inputs, widths, strict=True)
    variables = [variable for variable, width in pairs for _ in range(width)]
    for column, variable in zip(_columns(model), variables, strict=True):
        wanted = StringTensorType if column.dtype == "string" else NUMBERS
        if not isinstance(variable.type, wanted) or _is_too_coarse(column, variable):
            raise TypeError(
                f"The input of {name} must have the type of its categories, {column.dtype}, got "
                f"{type(variable.type).__name__} from {variable.raw_name!r}: pass skl2onnx the "
                "types of the training table."
            )


def _is_too_coarse(column: bundle.Column, variable: Any) -> bool:
    """Whether some float64 categories have no equal among float32 inputs."""
    if column.dtype != "float64" or not is_float32(variable):
        return False
    known = np.array(column.categories)
    return not np.array_equal(known, known.astype(np.float32))


def _columns(encoder: Any) -> list[bundle.Column]:
    """Describe the known categories of each column; a missing one is the last."""
    columns = []
    for i, categories in enumerate(encoder.categories_):
        missing = pd.isna(categories)
        known = categories[~missing]
        strings = len(known) > 0 and all(isinstance(value, str) for value in known)
        if missing[:-1].any() or (strings and missing.any() and "" in known):
            raise NotImplementedError(
                "A column must have one kind of missing category at most, and it must come last, "
                f"got {categories.tolist()}: use only one of None, NaN and '' before fit."
            )
        if (
            not strings
            and known.dtype == object
            and not all(isinstance(value, int | float | np.number) for value in known)
        ):
            raise NotImplementedError(
                f"Categories must be only strings or only numbers, got {known.tolist()}: convert "
                "the column before fit."
            )
        dtype: Literal["string", "float32", "float64"] = "string"
        if not strings:
            dtype, known = "float64", _to_float64(known)
            if reads_float32():
                dtype, known = "float32", _to_float32(known)
        columns.append(
            bundle.Column(
                str(i), f"column_{i}", "category", dtype, tuple(known.tolist()), bool(missing.any())
            )
        )
    return columns


def _to_float64(known: NDArray[Any]) -> NDArray[np.float64]:
    # From 2**53 on float64 rounds integers, so an input could equal the wrong category.
    if any(
        isinstance(value, int | np.integer) and abs(int(value)) >= 2**53 for value in known.tolist()
    ):
        raise NotImplementedError(
            "Integer categories must be smaller than 2**53, because the graph compares float64 "
            f"numbers, got {max(known.tolist(), key=abs)}: encode them as strings before fit."
        )
    return known.astype(np.float64)


def _to_float32(known: NDArray[np.float64]) -> NDArray[np.float32]:
    rounded = known.astype(np.float32)
    if len(np.unique(rounded)) < len(known):
        raise NotImplementedError(
            "Categories in an array must differ as float32 numbers, the type of the graph's input, "
            f"got {known.tolist()[:10]}: fit on a DataFrame, whose numbers stay float64."
        )
    return rounded


def _transform_categories(encoder: Any) -> NDArray[Any]:
    """Encode the categories themselves: row i holds the i-th category of each column."""
    n_rows = max(map(len, encoder.categories_))
    columns = [
        values[np.minimum(np.arange(n_rows), len(values) - 1)] for values in encoder.categories_
    ]
    names = getattr(encoder, "feature_names_in_", range(len(columns)))
    # Typed, or pandas would turn None into NaN, which is a different category.
    dtypes = [object if values.dtype.kind in "OU" else values.dtype for values in columns]
    table = pd.DataFrame(
        {
            name: pd.Series(values, dtype=dtype)
            for name, values, dtype in zip(names, columns, dtypes, strict=True)
        }
    )
    encoded = encoder.transform(
        table if hasattr(encoder, "feature_names_in_") else table.to_numpy()
    )
    return np.asarray(encoded.toarray() if hasattr(encoded, "toarray") else encoded)


def _widths(encoder: Any) -> list[int]:
    """Count the outputs of each column of a OneHotEncoder."""
    dropped = encoder.drop_idx_
    if dropped is None:
        dropped = [None] * len(encoder.categories_)
    rare = [None] * len(encoder.categories_)
    if encoder.max_categories is not None or encoder.min_frequency is not None:
        rare = encoder.infrequent_categories_
    return [
        len(values) - (0 if few is None else len(few) - 1) - (gone is not None)
        for values, few, gone in zip(encoder.categories_, rare, dropped, strict=True)
    ]


def convert_one_hot(scope: Any, operator: Any, container: Any) -> None:
    """Look up the output that each category sets, and compare it with all output positions."""
    model = operator.raw_operator
    widths = _widths(model)
    rows = _transform_categories(model)
    table, first = [], 0
    for j, width in enumerate(widths):
        block = rows[: len(model.categories_[j]), first : first + width]
        # Position of the category among all outputs, -1 if it sets none.
        positions = (
            np.where(block.any(axis=1), first + block.argmax(axis=1), -1)
            if width
            else (np.full(len(block), -1))
        )
        table += [_position_of_unseen(model, j, positions), *positions]
        first += width
    graph = GraphBuilder()
    found = _emit_lookup(graph, model, np.array(table, dtype=np.int64))
    column_of = graph.constant(np.repeat(np.arange(len(widths)), widths), "column_of_output")
    found = graph.add("Gather", [found, column_of], "found", axis=1)
    every = graph.constant(np.arange(first), "outputs")
    output = graph.add("Equal", [found, every], "is_category")
    _insert_lookup(scope, operator, container, graph, output)


def _position_of_unseen(encoder: Any, column: int, positions: NDArray[np.int64]) -> int:
    if encoder.handle_unknown in ("infrequent_if_exist", "warn") and (
        encoder.max_categories is not None or encoder.min_frequency is not None
    ):
        few = encoder.infrequent_categories_[column]
        if few is not None:
            is_rare = pd.Series(encoder.categories_[column]).isin(pd.Series(few))
            return int(positions[is_rare.to_numpy().argmax()])
    return -1


def convert_ordinal(scope: Any, operator: Any, container: Any) -> None:
    """Look up the number of each category."""
    model = operator.raw_operator
    rows = _transform_categories(model)
    unseen = np.nan if model.unknown_value is None else float(model.unknown_value)
    table = []
    for j, categories in enumerate(model.categories_):
        table += [unseen, *rows[: len(categories), j]]
    graph = GraphBuilder()
    output = _emit_lookup(graph, model, np.array(table, dtype=np.float64))
    _insert_lookup(scope, operator, container, graph, output)


def convert_target(scope: Any, operator: Any, container: Any) -> None:
    """Look up the mean target of each category, for several classes one of each."""
    model = operator.raw_operator
    unseen = np.atleast_1d(np.asarray(model.target_mean_, dtype=np.float64))
    n_classes = len(unseen)
    rows = []
    for i in range(0, len(model.encodings_), n_classes):
        rows += [unseen[None], np.stack(model.encodings_[i : i + n_classes], axis=1)]
    graph, columns = GraphBuilder(), _columns(model)
    codes = emit_codes(graph, columns, emit_column_inputs(graph, columns))
    assert codes is not None
    table = graph.add_weight(np.concatenate(rows), "table")
    value = graph.add("Gather", [table, codes], "found")
    shape = graph.constant([0, len(model.encodings_)], "shape")
    output = graph.add("Reshape", [value, shape], "encoded")
    _insert_lookup(scope, operator, container, graph, output)


def _emit_lookup(graph: GraphBuilder, encoder: Any, table: NDArray[Any]) -> str:
    """Look up the code of each category.

    The table holds the codes column by column, first the code of unseen categories, then the codes
    of the known ones. With ``handle_unknown="error"`` an unseen category indexes past the end of
    another table, so that the runtime raises an error, as scikit-learn does.
    """
    columns = _columns(encoder)
    codes = emit_codes(graph, columns, emit_column_inputs(graph, columns))
    assert codes is not None
    if encoder.handle_unknown == "error":
        sizes = [1 + len(values) for values in encoder.categories_]
        unseen = np.zeros(len(table), dtype=np.int64)
        unseen[np.cumsum([0, *sizes[:-1]])] = 1
        is_unseen = graph.add("Gather", [graph.add_weight(unseen, "unseen"), codes], "is_unseen")
        # One entry, which is zero: position 0 changes nothing, position 1 is out of bounds.
        zero = graph.add("Gather", [graph.constant([0], "unseen_is_an_error"), is_unseen], "check")
        codes = graph.add("Add", [codes, zero], "checked")
    return graph.add("Gather", [graph.add_weight(table, "table"), codes], "found")


def _insert_lookup(
    scope: Any, operator: Any, container: Any, graph: GraphBuilder, value: str
) -> None:
    name, columns = type(operator.raw_operator).__name__, _columns(operator.raw_operator)
    output = graph.add("Cast", [value], "output", to=TensorProto.DOUBLE)
    graph.add_output(output, TensorProto.DOUBLE, ["n", None])
    dtypes = [ELEMENT_TYPES[column.dtype] for column in columns]
    values = split_columns(scope, container, operator.inputs, dtypes)
    inputs = {column.input: value for column, value in zip(columns, values, strict=True)}
    results = insert_model(scope, container, graph.to_model(name, {}), inputs, name)
    connect_output(container, results[output], operator.outputs[0])
