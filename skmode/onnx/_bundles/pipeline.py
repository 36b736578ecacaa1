"""From a Pipeline to what the graphs of a bundle need of it.

:func:`read_pipeline` splits what a user passes to ``export`` into the estimator and a
:class:`Preprocessing`, which

- describes the raw columns for the manifest (`columns`, `one_input_per_column`, `from_table`),
- declares the inputs of a graph and computes what the estimator reads (`emit`).

:func:`attach` puts both together again. :mod:`skmode.onnx._bundles.parity` compares the finished
bundle with the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import skl2onnx
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skmode.onnx._bundles.categories import known_categories
from skmode.onnx._bundles.source import Source, on_array
from skmode.onnx._graphs.builder import ML_OPSET, OPSET, GraphBuilder
from skmode.onnx._graphs.trunk import ARRAY_INPUT, emit_column_inputs
from skmode.onnx._skl2onnx.registry import holds, holds_estimator, steps_of_a_bundle
from skmode_deploy import bundle

PREFIX = "preprocessing"


@dataclass(frozen=True)
class Preprocessing:
    """The steps of a Pipeline before its estimator.

    Attributes
    ----------
    graph : onnx.GraphProto
        Their graph; its inputs are the columns in order, or one array of all of them.
    dtype : int
        Element type of its numbers, of ``onnx.TensorProto``.
    columns : tuple of skmode_deploy.bundle.Column
        The raw columns.
    one_input_per_column : bool
        Whether each column is an input of its own.
    from_table : bool
        Whether the pipeline was trained on a table.
    """

    graph: onnx.GraphProto
    dtype: int
    columns: tuple[bundle.Column, ...]
    one_input_per_column: bool
    from_table: bool

    def emit(self, graph: GraphBuilder) -> str:
        """Declare the inputs and compute what the estimator reads."""
        if self.one_input_per_column:
            values = emit_column_inputs(graph, self.columns)
        else:
            width = len(self.columns)
            values = [graph.add_input(ARRAY_INPUT, TensorProto.FLOAT, ["n", width])]
        casted = []
        for value, column in zip(values, self.columns, strict=False):
            if column.dtype != "string":
                value = graph.add("Cast", [value], f"{PREFIX}/{value}", to=self.dtype)
            casted.append(value)
        names = [value.name for value in self.graph.input]
        if len(names) < len(casted):
            casted = [graph.add("Concat", casted, f"{PREFIX}/numbers", axis=1)]
        outputs = graph.inline(self.graph, dict(zip(names, casted, strict=True)), PREFIX)
        (value,) = outputs.values()
        return graph.add("Cast", [value], f"{PREFIX}/features", to=TensorProto.FLOAT)


def read_pipeline(estimator: Any, X: Any) -> tuple[Any, Preprocessing | None]:
    """Split a model into its estimator and what comes before it."""
    if isinstance(estimator, type):
        raise TypeError(
            f"estimator must be a fitted object, got the class {estimator.__name__}: pass "
            f"{estimator.__name__}(...).fit(X, y)."
        )
    steps, last = split_model(estimator)
    parts = hasattr(last, "estimators_") or hasattr(last, "calibrated_classifiers_")
    if parts and holds_estimator(last):
        raise TypeError(
            "A bundle holds one MoDEClassifier or MoDERegressor, got a "
            f"{type(last).__name__}, which holds several: convert it with "
            "skl2onnx.to_onnx(model, X[:1]), which skmode.onnx has taught to."
        )
    if not steps or not hasattr(last, "net_"):
        return last, None
    if X is None:
        raise ValueError(
            "X must be given to export a Pipeline, got None: pass the training table, from which "
            "the bundle takes types and ranges of the columns and on which its answers are checked."
        )
    return last, _convert_steps(Pipeline(steps), X)


def attach(source: Source, preprocessing: Preprocessing) -> Source:
    """Let the graphs of an estimator begin with what comes before it."""
    source = on_array(source)
    if source.one_input_per_column:
        raise ValueError(
            "Categories that come out of the steps before the estimator must differ as float32 "
            "numbers, got some that do not: encode them by an OrdinalEncoder."
        )
    return replace(source, preprocessing=preprocessing)


def split_model(model: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Split a model into the steps before its last one, and the last one."""
    steps: list[tuple[str, Any]] = []
    while True:
        if isinstance(model, FrozenEstimator):
            model = model.estimator
        elif isinstance(model, BaseSearchCV):
            if not hasattr(model, "best_estimator_"):
                raise NotFittedError(
                    f"A search must be fitted with refit=True to be exported, and this "
                    f"{type(model).__name__} has no best_estimator_: call fit before export."
                )
            model = model.best_estimator_
        elif isinstance(model, Pipeline):
            before = [(name, step) for name, step in model.steps[:-1] if step is not None]
            steps += [(name, step) for name, step in before if step != "passthrough"]
            model = model.steps[-1][1]
        else:
            break
    names = [name for name, _ in steps]
    if len(set(names)) < len(names):  # of nested pipelines
        steps = [(f"{name}_{i}", step) for i, (name, step) in enumerate(steps)]
    return steps, model


def _convert_steps(steps: Pipeline, X: Any) -> Preprocessing:
    columns, from_table = _read_columns(X)
    _check_names(steps, columns, from_table)
    known = known_categories(steps) if from_table else {}
    columns = tuple(_with_known(column, known.get(column.name, set())) for column in columns)
    errors: list[Exception] = []
    # Some converters of skl2onnx know float32 only.
    for kind, dtype in (
        (DoubleTensorType, TensorProto.DOUBLE),
        (FloatTensorType, TensorProto.FLOAT),
    ):
        try:
            with steps_of_a_bundle(float32_input=not from_table):
                graph = _convert(steps, _input_types(steps, columns, from_table, kind))
        except Exception as error:
            errors.append(error)
            continue
        if graph.output[0].type.tensor_type.elem_type == TensorProto.STRING:
            raise TypeError(
                "The steps before the estimator must leave numbers only, got strings among the "
                "columns that they pass on: encode these too, or leave the whole table to the "
                "estimator, which takes raw numbers, strings and missing values."
            )
        return Preprocessing(graph, dtype, columns, from_table, from_table)
    reasons = dict.fromkeys(map(_shorten, errors))
    raise NotImplementedError(
        "Each step before the estimator must be one that skl2onnx converts, got "
        f"{name_steps(steps)}: {'; in float32: '.join(reasons)}. Replace it, register a converter "
        "with skl2onnx.update_registered_converter, or leave the work to the estimator, which "
        "takes raw numbers, strings and missing values."
    ) from errors[0]


def _input_types(
    steps: Pipeline, columns: Sequence[bundle.Column], from_table: bool, kind: Any
) -> list[tuple[str, Any]]:
    """What the graph of the steps reads.

    Most converters of skl2onnx want one array, but a ColumnTransformer may look for names.
    """
    strings = any(column.dtype == "string" for column in columns)
    if from_table and (strings or holds(steps, ColumnTransformer)):
        return [
            (column.name, (StringTensorType if column.dtype == "string" else kind)([None, 1]))
            for column in columns
        ]
    return [(ARRAY_INPUT, kind([None, len(columns)]))]


def _convert(steps: Pipeline, types: list[tuple[str, Any]]) -> onnx.GraphProto:
    """Convert, and see that the outcome runs."""
    target = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    model: onnx.ModelProto = skl2onnx.convert_sklearn(steps, PREFIX, types, target_opset=target)
    domains = {opset.domain for opset in model.opset_import}
    if model.functions or not domains <= {"", "ai.onnx", "ai.onnx.ml"}:
        raise NotImplementedError(f"its graph uses operators of {sorted(domains)}")
    if len(model.graph.output) != 1:
        raise NotImplementedError(f"its graph has {len(model.graph.output)} outputs")
    _open(model.SerializeToString())
    graph: onnx.GraphProto = model.graph
    return graph


def _open(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def name_steps(steps: Pipeline) -> str:
    """Name the steps that skl2onnx does not know, or all where it knows them."""
    leaves = list(_leaves(steps, ""))
    unknown = [
        (name, step)
        for name, step in leaves
        if type(step) not in sklearn_operator_name_map
        or (isinstance(step, FunctionTransformer) and step.func is not None)
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


def _read_columns(X: Any) -> tuple[tuple[bundle.Column, ...], bool]:
    """Describe the columns of a table or an array."""
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    if isinstance(frame, nw.DataFrame):
        names = [str(name) for name in frame.columns]
        if "" in names:
            raise ValueError(
                "Columns of a table for a Pipeline must have names, got '' for column "
                f"{names.index('')}: rename it before fit."
            )
        inputs = bundle.input_names(names)
        return tuple(map(_read_column, names, inputs, frame.iter_columns())), True
    array = np.asarray(X)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            "X must be a table or an array of numbers of shape (n_samples, n_features), got "
            f"shape {array.shape} of type {array.dtype}: fit on a DataFrame and pass it."
        )
    return tuple(
        _number_column(f"x{i}", ARRAY_INPUT, array[:, i], "float32") for i in range(array.shape[1])
    ), False


def _read_column(name: str, input_name: str, values: Any) -> bundle.Column:
    converted = _to_array(name, values)
    if converted.dtype == object:
        known = tuple(sorted({value for value in converted if value}))
        has_missing = any(not value for value in converted)
        return bundle.Column(name, input_name, "category", "string", known, has_missing)
    dtype: Literal["float32", "float64"] = "float64"
    if values.dtype == nw.Float32:
        dtype = "float32"
    return _number_column(name, input_name, converted, dtype)


def _with_known(column: bundle.Column, known: set[str]) -> bundle.Column:
    """Add what encoders know: X may hold a part of the training rows only."""
    if column.dtype != "string" or column.categories is None:
        return column
    return replace(column, categories=tuple(sorted({*column.categories, *known})))


def _number_column(
    name: str, input_name: str, values: NDArray[Any], dtype: Literal["float32", "float64"]
) -> bundle.Column:
    numbers = values.astype(np.float64)
    known = numbers[~np.isnan(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (None, None)
    has_missing = len(known) < len(numbers)
    return bundle.Column(name, input_name, "number", dtype, None, has_missing, low, high)


def _to_array(name: str, values: Any) -> NDArray[Any]:
    """Numbers as float64 with NaN, strings as objects with ``""`` for missing ones."""
    if values.dtype.is_numeric() or values.dtype == nw.Boolean:
        numbers: NDArray[Any] = values.cast(nw.Float64).to_numpy().astype(np.float64)
        return numbers
    objects = np.empty(len(values), dtype=object)
    objects[:] = values.to_list()
    objects[pd.isna(objects)] = None
    known = [value for value in objects if value is not None]
    if known and all(isinstance(value, str) for value in known):
        objects[[value is None for value in objects]] = ""
        return objects
    if all(isinstance(value, bool | int | float | np.number | np.bool_) for value in known):
        return objects.astype(np.float64)
    raise TypeError(
        f"Columns must hold numbers or strings, column {name!r} has type {values.dtype}: convert "
        "it before the pipeline, for example a date to the days since some origin."
    )
