"""Converter of steps that choose columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.containers import column_widths, set_number_type
from skmode.onnx._skl2onnx.numbers import check_numbers, insert_on_numbers, numbers_input
from skmode.onnx._skl2onnx.replacements import add_converter, replace_converter

# skl2onnx fails if only the first column is chosen.
_SELECTORS = (
    GenericUnivariateSelect,
    RFE,
    RFECV,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    VarianceThreshold,
)


def replace_selectors() -> None:
    """Replace or add converters of steps that choose columns."""
    for selector in _SELECTORS:
        # skl2onnx sets this option for all steps that scikit-learn counts as classifiers, such as
        # an RFE around one, and then refuses it.
        options = {"zipmap": [True, False, "columns"]}
        alias = f"Sklearn{selector.__name__}"
        replace_converter(alias, selector, _infer, _convert, options=options)
    add_converter(SequentialFeatureSelector, _infer, _convert)


def _infer(operator: Any) -> None:
    check_numbers(operator)
    model = operator.raw_operator
    column_widths(type(model).__name__, operator.inputs, model.n_features_in_)
    n_rows = operator.inputs[0].get_first_dimension()
    set_number_type(operator.outputs[0], [n_rows, int(model.get_support().sum())])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    model = operator.raw_operator
    graph = GraphBuilder()
    chosen = graph.constant(np.flatnonzero(model.get_support()), "chosen")
    numbers = numbers_input(graph, model.n_features_in_)
    value = graph.add("Gather", [numbers, chosen], "chosen", axis=1)
    insert_on_numbers(scope, operator, container, graph, value)
