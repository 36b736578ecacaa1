"""Parser of ColumnTransformer for tables whose columns have several types."""

from __future__ import annotations

import copy
from itertools import groupby
from typing import Any

from skl2onnx.common.data_types import StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

from skmode.onnx._graphs.builder import OPSET
from skmode.onnx._skl2onnx.compat import fetch_columns, get_column_indices, parse_model
from skmode.onnx._skl2onnx.containers import main_opset
from skmode.onnx._skl2onnx.numbers import NUMBERS, declare_step, join_variables, to_double
from skmode.onnx._skl2onnx.replacements import replace_parser

# Steps that get each column apart.
_READ_COLUMNS = (ColumnTransformer, OneHotEncoder, OrdinalEncoder)


def replace_column_transformer() -> None:
    """Replace skl2onnx's parser of ColumnTransformer."""
    replace_parser(ColumnTransformer, _parse)


def _parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any) -> Any:
    """Give number columns one type, and return strings apart from numbers.

    skl2onnx assumes that all columns of a step have the type of the first.
    """
    if main_opset(scope.target_opset) < OPSET:
        return original(scope, model, inputs, custom_parsers)
    kinds = {type(variable.type) for variable in inputs if isinstance(variable.type, NUMBERS)}
    if len(kinds) > 1:
        inputs = [to_double(scope, variable) for variable in inputs]
    if not any(map(_is_string, inputs)):
        return original(scope, model, inputs, custom_parsers)
    outputs: list[Any] = []
    for part in model.transformers_:
        found = _parse_part(scope, part, inputs, custom_parsers)
        if found is None:
            alone = copy.copy(model)
            alone.transformers_ = [part]
            found = original(scope, alone, inputs, custom_parsers)
        outputs += found
    if len(outputs) > 1 and not any(map(_is_string, outputs)):
        return [join_variables(scope, outputs)]
    return outputs


def _parse_part(
    scope: Any, part: tuple[str, Any, Any], inputs: Any, custom_parsers: Any
) -> list[Any] | None:
    """Parse a part that skl2onnx would give strings and numbers in one array, as strings."""
    name, step, columns = part
    if step == "drop":
        return None
    chosen = [
        fetch_columns(scope, [inputs[i]], positions)[0]
        for i, positions in _find_columns(columns, inputs)
    ]
    strings = set(map(_is_string, chosen))
    identity = isinstance(step, FunctionTransformer) and step.func is None
    if (step == "passthrough" or identity) and True in strings:
        return _pass_on(scope, chosen)
    first = step.steps[0][1] if isinstance(step, Pipeline) else step
    if len(strings) < 2 or isinstance(first, _READ_COLUMNS):
        return None
    if not isinstance(step, MissingIndicator):
        raise NotImplementedError(
            "Each part of a ColumnTransformer must get either strings or numbers to be converted, "
            f"got both for {name!r} ({type(first).__name__}): split it into two parts."
        )
    return list(parse_model(scope, step, chosen, custom_parsers=custom_parsers))


def _pass_on(scope: Any, columns: list[Any]) -> list[Any]:
    """Pass columns on: strings one by one, neighbouring numbers together."""
    outputs = []
    for strings, neighbours in groupby(columns, _is_string):
        group = list(neighbours)
        outputs += group if strings else [join_variables(scope, group)]
    return [_copy(scope, variable) for variable in outputs]


def _find_columns(columns: Any, inputs: Any) -> list[tuple[int, list[int]]]:
    """Find the columns of a part, in their order: an input of each, and the position in it."""
    if isinstance(columns, slice):
        columns = range(columns.start or 0, columns.stop, columns.step or 1)
    elif isinstance(columns, int | str):
        columns = [columns]
    found: list[tuple[int, list[int]]] = []
    for column in columns:
        found += get_column_indices([column], inputs, multiple=True).items()
    return found


def _is_string(variable: Any) -> bool:
    return isinstance(variable.type, StringTensorType)


def _copy(scope: Any, variable: Any) -> Any:
    """Copy a variable, because an input cannot be an output as well."""
    kind = type(variable.type)(list(variable.type.shape))
    return declare_step(scope, "SklearnIdentity", [variable], kind)
