"""Split a model into its parts, and make of the steps before its estimator a
:class:`~skmode.onnx._graphs.source.Preprocessing` with the graph of the steps before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import onnx
import onnxruntime
import skl2onnx
from onnx import TensorProto
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skmode.onnx._bundles.categories import with_known_categories
from skmode.onnx._bundles.columns import read_columns
from skmode.onnx._bundles.parts import Parts, read_parts
from skmode.onnx._graphs.builder import ML_OPSET, OPSET
from skmode.onnx._graphs.columns import ARRAY_INPUT
from skmode.onnx._graphs.source import Preprocessing, Source, has_strings, with_array_input
from skmode.onnx._skl2onnx.models.support import check_supported
from skmode.onnx._skl2onnx.replacements import (
    as_before_an_estimator,
    can_convert,
    contains,
    contains_estimator,
    is_estimator,
)
from skmode.onnx._skl2onnx.steps.functions import has_operators
from skmode_deploy import bundle


def read_pipeline(estimator: Any, X: Any) -> tuple[Parts, Preprocessing | None]:
    """Split a model into its parts, and convert the steps before its estimator."""
    if isinstance(estimator, type):
        raise TypeError(
            f"estimator must be a fitted object, got the class {estimator.__name__}: pass "
            f"{estimator.__name__}(...).fit(X, y)."
        )
    check_supported(estimator)
    parts = read_parts(estimator)
    steps, last = parts.steps, parts.estimator
    if contains_estimator(last) and not is_estimator(last):
        raise TypeError(
            "A bundle holds one MoDEClassifier or MoDERegressor, got "
            f"{type(last).__name__}, which may hold several: convert it with "
            "skl2onnx.to_onnx(model, X[:1]), which uses the converters of skmode.onnx."
        )
    if not steps or not hasattr(last, "net_"):
        return parts, None
    for attribute, rows in (("image_shape_", "images"), ("tokenizer_json_", "texts")):
        if hasattr(last, attribute):
            raise TypeError(
                f"A model of {rows} must be exported without steps before it, got "
                f"{name_steps(Pipeline(steps))}: apply these to the {rows}, and pass the last step "
                "of the Pipeline."
            )
    encoder = last.encoder_
    if getattr(encoder, "text_columns", []) or getattr(encoder, "image_columns", []):
        kind = "texts" if encoder.text_columns else "images"
        raise TypeError(
            f"A model with columns of {kind} must be exported without steps before it, got "
            f"{name_steps(Pipeline(steps))}: apply these to the table, and pass the last step of "
            "the Pipeline."
        )
    if X is None:
        raise ValueError(
            "X must be given to export a Pipeline, got None: pass the training table. The bundle "
            "takes the types and ranges of its columns, and its predictions are checked on it."
        )
    return parts, _convert_steps(Pipeline(steps), last, X)


def prepend_steps(source: Source, preprocessing: Preprocessing) -> Source:
    """Let the graphs of an estimator begin with the steps before it."""
    if has_strings(preprocessing.graph):
        return replace(source, preprocessing=preprocessing)
    source = with_array_input(source)
    if source.one_input_per_column:
        raise ValueError(
            "Categories that the steps before the estimator return must differ as float32 "
            "numbers, got some that do not: encode them with an OrdinalEncoder."
        )
    return replace(source, preprocessing=preprocessing)


def _convert_steps(steps: Pipeline, last: Any, X: Any) -> Preprocessing:
    columns, from_table = read_columns(X)
    _check_names(steps, columns, from_table)
    columns = with_known_categories(steps, last, columns)
    errors: list[Exception] = []
    # Some converters of skl2onnx support only float32.
    for kind, dtype in (
        (DoubleTensorType, TensorProto.DOUBLE),
        (FloatTensorType, TensorProto.FLOAT),
    ):
        try:
            with as_before_an_estimator(float32_input=not from_table):
                graph = _convert(steps, _input_types(steps, columns, from_table, kind))
        except Exception as error:
            errors.append(error)
            continue
        return Preprocessing(graph, dtype, columns, from_table, from_table)
    reasons = dict.fromkeys(map(_shorten, errors))
    raise NotImplementedError(
        "Each step before the estimator must be one that skl2onnx converts, got "
        f"{name_steps(steps)}: {'; in float32: '.join(reasons)}. Replace it, register a converter "
        "with skl2onnx.update_registered_converter, or leave the work to the estimator, which "
        "takes raw numbers, strings and missing values, and texts in text_features."
    ) from errors[0]


def _input_types(
    steps: Pipeline, columns: Sequence[bundle.Column], from_table: bool, kind: Any
) -> list[tuple[str, Any]]:
    """Name and type the inputs of the steps.

    Most converters of skl2onnx want one array. With strings, or for a ColumnTransformer, which may
    select columns by name, there is one input per column.
    """
    strings = any(column.dtype == "string" for column in columns)
    if from_table and (strings or contains(steps, ColumnTransformer)):
        return [
            (column.name, (StringTensorType if column.dtype == "string" else kind)([None, 1]))
            for column in columns
        ]
    return [(ARRAY_INPUT, kind([None, len(columns)]))]


def _convert(steps: Pipeline, types: list[tuple[str, Any]]) -> onnx.GraphProto:
    """Convert the steps, and check that a plain onnxruntime opens the graph."""
    target = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    model: onnx.ModelProto = skl2onnx.convert_sklearn(
        steps, "preprocessing", types, target_opset=target
    )
    domains = {opset.domain for opset in model.opset_import}
    if model.functions or not domains <= {"", "ai.onnx", "ai.onnx.ml"}:
        raise NotImplementedError(f"its graph uses operators of {sorted(domains)}")
    _open(model.SerializeToString())
    graph: onnx.GraphProto = model.graph
    if len(graph.output) != 1 and not has_strings(graph):
        raise NotImplementedError(f"its graph has {len(graph.output)} outputs")
    return graph


def _open(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def name_steps(steps: Pipeline) -> str:
    """Name the steps that skl2onnx cannot convert, or all steps if it has a converter for each."""
    leaves = list(_leaves(steps, ""))
    unknown = [
        (name, step)
        for name, step in leaves
        if not can_convert(type(step))
        or isinstance(step, CountVectorizer)  # by operators that only some runtimes have
        or (isinstance(step, FunctionTransformer) and not has_operators(step.func, step.kw_args))
    ]
    return ", ".join(f"{name} ({type(step).__name__})" for name, step in unknown or leaves)


def _leaves(step: Any, name: str) -> Iterator[tuple[str, Any]]:
    parts = (
        getattr(step, "transformers_", None)
        or getattr(step, "transformer_list", None)
        or getattr(step, "steps", None)
    )
    if parts is None:
        if isinstance(step, BaseEstimator):
            yield name, step
        return
    for part in parts:
        yield from _leaves(part[1], f"{name}__{part[0]}" if name else part[0])


def _shorten(error: Exception | None) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:300]


def _check_names(steps: Pipeline, columns: Sequence[bundle.Column], from_table: bool) -> None:
    first = steps.steps[0][1]
    known = getattr(first, "feature_names_in_", None)
    names = [column.name for column in columns]
    if known is not None and (not from_table or names != list(known)):
        raise ValueError(
            f"X must have the columns of training in their order, {list(known)[:10]}, got "
            f"{names[:10] if from_table else 'an array'}: pass the training table."
        )
    expected = getattr(first, "n_features_in_", len(columns))
    if expected != len(columns):
        raise ValueError(
            f"X must have {expected} columns as in training, got {len(columns)}: pass the "
            "training table."
        )
