"""Converters of preprocessing steps, where skl2onnx refuses a table or answers otherwise than
scikit-learn: columns of several number types, missing strings, categories that are no integers.

A missing string is ``""``, a missing number NaN. Numbers are computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import skl2onnx
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx._parse import sklearn_parsers_map
from skl2onnx.common._registration import _converter_pool, _shape_calculator_pool
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int32TensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from skmode.onnx._builder import OPSET, GraphBuilder
from skmode.onnx._containers import (
    give,
    insert,
    main_opset,
    set_number_type,
    side_by_side,
    single_columns,
    total_width,
)
from skmode.onnx._trunk import emit_codes, emit_column_inputs
from skmode_deploy import bundle

NUMBERS = (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int32TensorType,
    Int64TensorType,
)
# Converters, shape calculators and parser of skl2onnx, by alias.
_originals: dict[str, tuple[Any, Any]] = {}
_original_parser: list[Any] = []


def register_repairs() -> None:
    """Replace skl2onnx's converters by those of this module; another call changes nothing.

    Below opset 18 skl2onnx's own remain in use.
    """
    if _original_parser:
        return
    _original_parser.append(sklearn_parsers_map[ColumnTransformer])
    skl2onnx.update_registered_parser(ColumnTransformer, _parse_column_transformer)
    replace_converter("SklearnScaler", StandardScaler, _infer_scaler, _convert_scaler)
    replace_converter("SklearnSimpleImputer", SimpleImputer, _infer_imputer, _convert_imputer)
    replace_converter("SklearnOneHotEncoder", OneHotEncoder, _infer_one_hot, _convert_one_hot)
    replace_converter("SklearnOrdinalEncoder", OrdinalEncoder, _infer_ordinal, _convert_ordinal)


def replace_converter(
    alias: str, model: type, infer: Callable[[Any], None], convert: Callable[..., None]
) -> None:
    """Replace a converter and shape calculator of skl2onnx from opset 18 on.

    Parameters
    ----------
    alias : str
        Name that skl2onnx has for the model.
    model : type
        The only class to convert otherwise; others with this alias stay as they are.
    infer : callable
        Sets types and shapes of an operator's outputs.
    convert : callable
        Adds its nodes, called with scope, operator and container.
    """
    known = _converter_pool[alias]
    _originals[alias] = (known, _shape_calculator_pool[alias])

    def applies(operator: Any) -> bool:
        is_known = type(operator.raw_operator) is model
        return is_known and main_opset(operator.target_opset) >= OPSET

    def infer_either(operator: Any) -> None:
        (infer if applies(operator) else _originals[alias][1])(operator)

    def convert_either(scope: Any, operator: Any, container: Any) -> None:
        chosen = convert if applies(operator) else _originals[alias][0]._fct
        chosen(scope, operator, container)

    _shape_calculator_pool[alias] = infer_either
    _converter_pool[alias] = type(known)(convert_either, known.get_allowed_options())


def original_converter(alias: str) -> Callable[..., None]:
    """What :func:`replace_converter` has replaced.

    Parameters
    ----------
    alias : str
        Name that skl2onnx has for the model.

    Returns
    -------
    callable
        skl2onnx's own converter.
    """
    function: Callable[..., None] = _originals[alias][0]._fct
    return function


def _parse_column_transformer(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> Any:
    """Give all number columns one type: skl2onnx takes the type of the first for that of all."""
    kinds = {type(variable.type) for variable in inputs if isinstance(variable.type, NUMBERS)}
    if len(kinds) > 1 and main_opset(scope.target_opset) >= OPSET:
        inputs = [_to_double(scope, variable) for variable in inputs]
    return _original_parser[0](scope, model, inputs, custom_parsers)


def _to_double(scope: Any, variable: Any) -> Any:
    if not isinstance(variable.type, NUMBERS) or isinstance(variable.type, DoubleTensorType):
        return variable
    operator = scope.declare_local_operator("SklearnCast")
    operator.inputs = [variable]
    kind = DoubleTensorType(list(variable.type.shape))
    operator.outputs.append(scope.declare_local_variable(variable.raw_name, kind))
    return operator.outputs[0]


def _check_numbers(operator: Any) -> None:
    name = type(operator.raw_operator).__name__
    for variable in operator.inputs:
        if not isinstance(variable.type, NUMBERS):
            raise TypeError(
                f"{name} must get numbers, got {type(variable.type).__name__} from "
                f"{variable.raw_name!r}: give skl2onnx the types of the training table."
            )


def _n_rows(operator: Any) -> Any:
    return operator.inputs[0].get_first_dimension()


def _infer_scaler(operator: Any) -> None:
    _check_numbers(operator)
    model = operator.raw_operator
    set_number_type(operator.outputs[0], [_n_rows(operator), model.n_features_in_])


def _convert_scaler(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    graph = GraphBuilder()
    value = _numbers_input(graph, model.n_features_in_)
    if model.with_mean:
        value = graph.add("Sub", [value, graph.add_weight(model.mean_, "mean")], "centered")
    if model.with_std:
        value = graph.add("Div", [value, graph.add_weight(model.scale_, "scale")], "scaled")
    _insert_on_numbers(scope, operator, container, graph, value)


def _numbers_input(graph: GraphBuilder, width: int) -> str:
    return graph.add_input("X", TensorProto.DOUBLE, ["n", width])


def _insert_on_numbers(
    scope: Any, operator: Any, container: Any, graph: GraphBuilder, value: str
) -> None:
    """Insert a graph with the input of :func:`_numbers_input` and one output."""
    name = type(operator.raw_operator).__name__
    output = graph.add("Identity", [value], "output")
    graph.add_output(output, TensorProto.DOUBLE, ["n", None])
    numbers = side_by_side(scope, container, operator.inputs, TensorProto.DOUBLE)
    results = insert(scope, container, graph.to_model(name, {}), {"X": numbers}, name)
    give(container, results[output], operator.outputs[0])


def _infer_imputer(operator: Any) -> None:
    model, output = operator.raw_operator, operator.outputs[0]
    total_width("SimpleImputer", operator.inputs, model.n_features_in_)
    shape = [_n_rows(operator), len(_kept(model)) + len(_indicated(model))]
    if not isinstance(operator.inputs[0].type, StringTensorType):
        _check_numbers(operator)
        set_number_type(output, shape)
        return
    for variable in operator.inputs:
        if not isinstance(variable.type, StringTensorType):
            raise TypeError(
                "A SimpleImputer of strings must get strings only, got "
                f"{type(variable.type).__name__} from {variable.raw_name!r}: impute numbers and "
                "strings apart."
            )
    if len(_indicated(model)):
        raise NotImplementedError(
            "add_indicator of a SimpleImputer must be False for strings, got True: a graph cannot "
            "hold strings and numbers in one array; use a MissingIndicator beside it."
        )
    output.set_type(StringTensorType(shape))


def _kept(model: Any) -> NDArray[np.int64]:
    """Columns that had values in training; the imputer drops the others."""
    if model.keep_empty_features:
        return np.arange(len(model.statistics_))
    return np.flatnonzero(~pd.isna(model.statistics_))


def _indicated(model: Any) -> NDArray[np.int64]:
    return np.asarray(model.indicator_.features_ if model.add_indicator else [], dtype=np.int64)


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    if isinstance(operator.inputs[0].type, StringTensorType):
        _convert_string_imputer(scope, operator, container)
        return
    model = operator.raw_operator
    graph = GraphBuilder()
    value = _numbers_input(graph, model.n_features_in_)
    if pd.isna(model.missing_values):
        missing = graph.add("IsNaN", [value], "missing")
    else:
        marker = graph.constant(model.missing_values, "marker", np.float64)
        missing = graph.add("Equal", [value, marker], "missing")
    fill = graph.add_weight(np.asarray(model.statistics_, dtype=np.float64)[None], "fill")
    filled = graph.add("Where", [missing, fill, value], "filled")
    filled = graph.add("Gather", [filled, graph.constant(_kept(model), "kept")], "filled", axis=1)
    if len(_indicated(model)):
        features = graph.constant(_indicated(model), "indicated")
        missing = graph.add("Gather", [missing, features], "indicator", axis=1)
        missing = graph.add("Cast", [missing], "indicator", to=TensorProto.DOUBLE)
        filled = graph.add("Concat", [filled, missing], "filled", axis=1)
    _insert_on_numbers(scope, operator, container, graph, filled)


def _convert_string_imputer(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    marker = "" if pd.isna(model.missing_values) else str(model.missing_values)
    graph = GraphBuilder()
    names = [f"column_{i}" for i in range(model.n_features_in_)]
    values = [graph.add_input(name, TensorProto.STRING, ["n", 1]) for name in names]
    filled = []
    for i in _kept(model):
        fill = graph.add_weight(np.array([[str(model.statistics_[i])]], dtype=object), "fill")
        missing = graph.add(
            "LabelEncoder",
            [values[i]],
            "missing",
            domain="ai.onnx.ml",
            keys_strings=[marker.encode()],
            values_int64s=[1],
            default_int64=0,
        )
        missing = graph.add("Cast", [missing], "missing", to=TensorProto.BOOL)
        filled.append(graph.add("Where", [missing, fill, values[i]], "filled"))
    output = graph.add("Concat", filled, "output", axis=1)
    graph.add_output(output, TensorProto.STRING, ["n", len(filled)])
    columns = single_columns(scope, container, operator.inputs, [TensorProto.STRING] * len(names))
    inputs = dict(zip(names, columns, strict=True))
    model_proto = graph.to_model("SimpleImputer", {})
    results = insert(scope, container, model_proto, inputs, "SimpleImputer")
    give(container, results[output], operator.outputs[0])


def _infer_one_hot(operator: Any) -> None:
    model = operator.raw_operator
    _check_category_inputs(operator)
    shape = [_n_rows(operator), sum(_widths(model))]
    if np.issubdtype(model.dtype, np.integer):
        operator.outputs[0].set_type(Int64TensorType(shape))
    else:
        operator.outputs[0].set_type(FloatTensorType(shape))


def _infer_ordinal(operator: Any) -> None:
    model = operator.raw_operator
    _check_category_inputs(operator)
    integers = np.issubdtype(model.dtype, np.integer)
    kind = Int64TensorType if integers else FloatTensorType
    operator.outputs[0].set_type(kind([_n_rows(operator), len(model.categories_)]))


def _check_category_inputs(operator: Any) -> None:
    model = operator.raw_operator
    name = type(model).__name__
    widths = total_width(name, operator.inputs, len(model.categories_))
    pairs = zip(operator.inputs, widths, strict=True)
    variables = [variable for variable, width in pairs for _ in range(width)]
    for column, variable in zip(_columns(model), variables, strict=True):
        wanted = StringTensorType if column.dtype == "string" else NUMBERS
        if not isinstance(variable.type, wanted):
            raise TypeError(
                f"Categories of {name} are of type {column.dtype} and so must its input be, got "
                f"{type(variable.type).__name__} from {variable.raw_name!r}: give skl2onnx the "
                "types of the training table."
            )


def _columns(encoder: Any) -> list[bundle.Column]:
    """Known categories in the order of the encoder, of which missing ones come last."""
    columns = []
    for i, categories in enumerate(encoder.categories_):
        missing = pd.isna(categories)
        known = categories[~missing]
        strings = len(known) > 0 and all(isinstance(value, str) for value in known)
        if missing[:-1].any() or (strings and missing.any() and "" in known):
            raise NotImplementedError(
                "A missing category must be the last and the only one of its column, got "
                f"{categories.tolist()}: replace them by one of None, NaN and '' before fit."
            )
        if (
            not strings
            and known.dtype == object
            and not all(isinstance(value, int | float | np.number) for value in known)
        ):
            raise NotImplementedError(
                f"Categories must be strings only or numbers only, got {known.tolist()}: convert "
                "the column before fit."
            )
        dtype: Literal["string", "float64"] = "string" if strings else "float64"
        known = known if strings else known.astype(np.float64)
        columns.append(
            bundle.Column(
                str(i), f"column_{i}", "category", dtype, tuple(known.tolist()), bool(missing.any())
            )
        )
    return columns


def _transform_categories(encoder: Any) -> NDArray[Any]:
    """What the encoder makes of its categories: row i holds the i-th of each column."""
    n_rows = max(map(len, encoder.categories_))
    columns = [
        values[np.minimum(np.arange(n_rows), len(values) - 1)] for values in encoder.categories_
    ]
    names = getattr(encoder, "feature_names_in_", range(len(columns)))
    table = pd.DataFrame(dict(zip(names, columns, strict=True)))
    encoded = encoder.transform(
        table if hasattr(encoder, "feature_names_in_") else table.to_numpy()
    )
    return np.asarray(encoded.toarray() if hasattr(encoded, "toarray") else encoded)


def _widths(encoder: Any) -> list[int]:
    """Number of outputs of each column of a OneHotEncoder."""
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


def _convert_one_hot(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    widths = _widths(model)
    rows = _transform_categories(model)
    table, first = [], 0
    for j, width in enumerate(widths):
        block = rows[: len(model.categories_[j]), first : first + width]
        # Its position among all outputs, or -1 for none of them.
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


def _convert_ordinal(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    rows = _transform_categories(model)
    unseen = np.nan if model.unknown_value is None else float(model.unknown_value)
    table = []
    for j, categories in enumerate(model.categories_):
        table += [unseen, *rows[: len(categories), j]]
    graph = GraphBuilder()
    output = _emit_lookup(graph, model, np.array(table, dtype=np.float64))
    _insert_lookup(scope, operator, container, graph, output)


def _emit_lookup(graph: GraphBuilder, encoder: Any, table: NDArray[Any]) -> str:
    """Look up the categories of each column.

    For each column the table holds what a category becomes: first an unseen one, then the known
    ones. With ``handle_unknown="error"`` an unseen one leads outside of a small table, at which
    the runtime stops, as scikit-learn does.
    """
    columns = _columns(encoder)
    codes = emit_codes(graph, columns, emit_column_inputs(graph, columns))
    assert codes is not None
    if encoder.handle_unknown == "error":
        sizes = [1 + len(values) for values in encoder.categories_]
        refused = np.zeros(len(table), dtype=np.int64)
        refused[np.cumsum([0, *sizes[:-1]])] = 1
        steps = graph.add("Gather", [graph.add_weight(refused, "unseen"), codes], "is_unseen")
        nothing = graph.add("Gather", [graph.constant([0], "unseen_is_an_error"), steps], "check")
        codes = graph.add("Add", [codes, nothing], "checked")
    return graph.add("Gather", [graph.add_weight(table, "table"), codes], "found")


def _insert_lookup(
    scope: Any, operator: Any, container: Any, graph: GraphBuilder, value: str
) -> None:
    name, columns = type(operator.raw_operator).__name__, _columns(operator.raw_operator)
    output = graph.add("Cast", [value], "output", to=TensorProto.DOUBLE)
    graph.add_output(output, TensorProto.DOUBLE, ["n", None])
    dtypes = {"string": TensorProto.STRING, "float64": TensorProto.DOUBLE}
    values = single_columns(
        scope, container, operator.inputs, [dtypes[column.dtype] for column in columns]
    )
    inputs = {column.input: value for column, value in zip(columns, values, strict=True)}
    results = insert(scope, container, graph.to_model(name, {}), inputs, name)
    give(container, results[output], operator.outputs[0])
