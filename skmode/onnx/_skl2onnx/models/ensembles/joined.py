"""Parsers of ensembles that skl2onnx converts only for one array, not for a table's columns."""

from __future__ import annotations

from typing import Any

from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import RANSACRegressor
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor

from skmode.onnx._skl2onnx.numbers import NUMBERS, join_variables, to_double
from skmode.onnx._skl2onnx.replacements import contains, contains_estimator, replace_parser

# Their converters read the first input only.
_OF_ARRAYS = (
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RANSACRegressor,
)
# Some of their parts may want one array, and some the columns of a table.
_OF_EITHER = (
    OneVsRestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)


def replace_parsers_of_ensembles() -> None:
    """Let ensembles read a table of numbers as one array."""
    for model in _OF_ARRAYS:
        replace_parser(model, _parse_of_array)
    for model in _OF_EITHER:
        replace_parser(model, _parse_of_either)


def _parse_of_array(scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any) -> Any:
    if contains_estimator(model):
        inputs = [_join(scope, type(model).__name__, inputs)]
    return original(scope, model, inputs, custom_parsers)


def _parse_of_either(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any
) -> Any:
    numbers = all(isinstance(variable.type, NUMBERS) for variable in inputs)
    # A ColumnTransformer may choose columns by their names.
    join = numbers and not contains(model, ColumnTransformer)
    if join or getattr(model, "passthrough", False):
        return _parse_of_array(scope, model, inputs, custom_parsers, original)
    return original(scope, model, inputs, custom_parsers)


def _join(scope: Any, name: str, inputs: Any) -> Any:
    """Make one array of floats of all inputs; probabilities get its type."""
    for variable in inputs:
        if not isinstance(variable.type, NUMBERS):
            raise NotImplementedError(
                f"{name} around a MoDE estimator must get numbers only to be converted from a "
                f"table, got {type(variable.type).__name__} for {variable.raw_name!r}: encode it "
                "before, or convert the estimators in it one by one."
            )
    kinds = {type(variable.type) for variable in inputs}
    if kinds != {FloatTensorType}:
        inputs = [to_double(scope, variable) for variable in inputs]
    return join_variables(scope, list(inputs))
