"""Converters of our estimators for skl2onnx."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import skl2onnx
from onnx import TensorProto
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.utils.validation import check_is_fitted

from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx._graphs.columns import ARRAY_INPUT, ELEMENT_TYPES
from skmode.onnx._graphs.models import build_model
from skmode.onnx._graphs.source import Source, read_estimator, with_array_input
from skmode.onnx._skl2onnx.compat import apply_zipmap
from skmode.onnx._skl2onnx.containers import (
    check_opset,
    class_labels,
    column_widths,
    connect_output,
    insert_model,
    join_columns,
    keep_outputs,
    set_number_type,
    split_columns,
)
from skmode.onnx._skl2onnx.ensembles import register_frozen_estimator, replace_ensembles
from skmode.onnx._skl2onnx.numbers import NUMBERS, is_float32
from skmode.onnx._skl2onnx.repairs import replace_steps
from skmode.onnx._skl2onnx.replacements import watch_conversions

ROUTINGS = ["top_expert", "mixture"]


def register_converters() -> None:
    """Register converters of MoDEClassifier and MoDERegressor with skl2onnx.

    Importing :mod:`skmode.onnx` calls it; another call changes nothing. Afterwards
    ``skl2onnx.to_onnx`` converts these estimators, and a Pipeline, GridSearchCV,
    CalibratedClassifierCV, voting or stacking ensemble that contains one.

    Notes
    -----
    Options, as ``skl2onnx.to_onnx(model, X[:1], options={MoDEClassifier: {...}})``:

    - ``routing``: ``"top_expert"`` or ``"mixture"``. The default is the estimator's parameter
      `inference`;
    - ``zipmap``, ``nocl`` and ``output_class_labels`` as for scikit-learn's own classifiers.

    Set options for the estimator or its class, not for the model around it. Options that are set
    for a Pipeline, a search or a FrozenEstimator do not reach the estimator, except ``zipmap`` and
    ``output_class_labels``.

    The graph needs opset 18 or above, and computes the experts in float32. skl2onnx takes the types
    of the inputs from the first row of X: pass a row without missing strings, or pass
    ``initial_types=[("age", FloatTensorType([None, 1])), ("city", StringTensorType([None, 1]))]``.
    In the graph a missing string is ``""``, whether it is None or NaN in Python. A step that treats
    None and NaN differently, such as a SimpleImputer for NaN on a column with None, is converted as
    if all were NaN.

    skl2onnx does not check what it converts. :func:`skmode.onnx.compare_with_onnx` compares the
    graph with the model on rows of yours.

    skl2onnx fails on tables with missing strings or several numeric types and on isotonic
    calibration, or its graphs do not compute what scikit-learn computes. While it converts a model
    that contains one of these estimators, skmode therefore replaces its converters of
    ColumnTransformer, StandardScaler, SimpleImputer, OneHotEncoder, OrdinalEncoder,
    KBinsDiscretizer, Binarizer, CalibratedClassifierCV, VotingClassifier and VotingRegressor. The
    replacements compute in float64 and ignore option ``div``. Other models are converted as if
    skmode were not imported, except that a FrozenEstimator, which skl2onnx does not support, now
    has a converter. If an encoder has ``handle_unknown="error"``, the runtime raises at an unseen
    category.

    Not supported: calibration with ``method="temperature"``, calibration of the decision function
    of an estimator in a Pipeline or a search, FixedThresholdClassifier and
    TunedThresholdClassifierCV.
    """
    options: dict[str, list[Any]] = {
        "zipmap": [True, False, "columns"],
        "nocl": [True, False],
        "output_class_labels": [False, True],
        "routing": ROUTINGS,
    }
    skl2onnx.update_registered_converter(
        MoDEClassifier,
        "SkmodeMoDEClassifier",
        _infer_classifier,
        _convert_classifier,
        parser=_parse_classifier,
        options=options,
    )
    skl2onnx.update_registered_converter(
        MoDERegressor,
        "SkmodeMoDERegressor",
        _infer_regressor,
        _convert_regressor,
        parser=_parse_regressor,
        options={"routing": ROUTINGS},
    )
    _replace_converters()


@functools.cache  # once for the process
def _replace_converters() -> None:
    register_frozen_estimator()
    replace_steps()
    replace_ensembles()
    watch_conversions(MoDEClassifier, MoDERegressor)


def _parse_classifier(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Parse as skl2onnx does classifiers, but with float32 probabilities for any inputs."""
    options = scope.get_options(model, {"zipmap": True})
    operator = _declare(scope, model, inputs, "SkmodeMoDEClassifier")
    operator.outputs.append(scope.declare_local_variable("label", Int64TensorType()))
    operator.outputs.append(scope.declare_local_variable("probabilities", FloatTensorType()))
    outputs = list(operator.outputs)
    with_classes = options.get("output_class_labels", False)
    if options["zipmap"]:
        if with_classes:
            raise RuntimeError(
                "Option output_class_labels needs zipmap=False, got zipmap="
                f"{options['zipmap']!r}: use only one of the two."
            )
        return apply_zipmap(options["zipmap"], scope, model, FloatTensorType(), outputs)
    if with_classes:
        operator = scope.declare_local_operator("SklearnClassLabels")
        operator.classes = class_labels(model, scope.get_options(model, {"nocl": False})["nocl"])
        strings = operator.classes.dtype.kind in "OU"
        kind = StringTensorType if strings else Int64TensorType
        variable = scope.declare_local_variable("class_labels", kind([len(operator.classes)]))
        operator.outputs.append(variable)
        outputs.append(variable)
    return outputs


def _parse_regressor(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    operator = _declare(scope, model, inputs, "SkmodeMoDERegressor")
    operator.outputs.append(scope.declare_local_variable("variable", FloatTensorType()))
    return list(operator.outputs)


def _declare(scope: Any, model: Any, inputs: Any, alias: str) -> Any:
    check_is_fitted(model, "net_")
    operator = scope.declare_local_operator(alias, model)
    operator.inputs = inputs
    return operator


def _infer_classifier(operator: Any) -> None:
    labels = class_labels(operator.raw_operator, _option(operator, "nocl", False))
    kind = StringTensorType if labels.dtype.kind == "O" else Int64TensorType
    n_rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].set_type(kind([n_rows]))
    set_number_type(operator.outputs[1], [n_rows, len(labels)])


def _infer_regressor(operator: Any) -> None:
    n_rows = operator.inputs[0].get_first_dimension()
    set_number_type(operator.outputs[0], [n_rows, len(operator.raw_operator.target_scale_)])


def _option(operator: Any, name: str, default: Any) -> Any:
    return operator.scope_inst.get_options(operator.raw_operator, {name: default})[name]


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    source = read_estimator(operator.raw_operator)
    labels = class_labels(operator.raw_operator, _option(operator, "nocl", False))
    names = ("label", "probabilities")
    _convert(scope, operator, container, replace(source, classes=labels), names)


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    source = read_estimator(operator.raw_operator)
    _convert(scope, operator, container, source, ("variable",))


def _convert(
    scope: Any, operator: Any, container: Any, source: Source, outputs: tuple[str, ...]
) -> None:
    name = type(operator.raw_operator).__name__
    check_opset(container, name)
    default = operator.raw_operator.inference
    routing = _option(operator, "routing", default) or default
    source = with_array_input(source)
    model = build_model(source, routing).to_model(name, {})
    keep_outputs(model, outputs)
    inputs = _connect_inputs(scope, operator, container, source)
    results = insert_model(scope, container, model, inputs, name)
    for value, variable in zip(outputs, operator.outputs, strict=True):
        connect_output(container, results[value], variable)


def _connect_inputs(scope: Any, operator: Any, container: Any, source: Source) -> dict[str, str]:
    """Get the value for each input of the graph, cast to its type."""
    name, columns = type(operator.raw_operator).__name__, source.columns
    widths = column_widths(name, operator.inputs, len(columns))
    pairs = zip(operator.inputs, widths, strict=True)
    variables = [variable for variable, width in pairs for _ in range(width)]
    for column, variable in zip(columns, variables, strict=True):
        _check_type(name, column, variable)
    if not source.one_input_per_column:
        value = join_columns(scope, container, operator.inputs, TensorProto.FLOAT)
        return {ARRAY_INPUT: value}
    dtypes = [ELEMENT_TYPES[column.dtype] for column in columns]
    values = split_columns(scope, container, operator.inputs, dtypes)
    return {column.input: value for column, value in zip(columns, values, strict=True)}


def _check_type(name: str, column: Any, variable: Any) -> None:
    strings = column.dtype == "string"
    if isinstance(variable.type, StringTensorType if strings else NUMBERS):
        coarse = column.dtype == "float64" and is_float32(variable)
        if not coarse or np.array_equal(column.categories, np.float32(column.categories)):
            return
    raise TypeError(
        f"Column {column.name!r} of {name} must be of type {column.dtype}, as in training, got "
        f"{type(variable.type).__name__} from {variable.raw_name!r}: pass skl2onnx one input per "
        "column (X as a DataFrame without missing strings in its first row, or initial_types), and "
        "use no step before the estimator that puts strings and numbers into one array."
    )
