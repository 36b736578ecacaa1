"""Converters of models that predict as one estimator in them does: searches, FrozenEstimator,
SelfTrainingClassifier.
"""

from __future__ import annotations

from typing import Any

import skl2onnx
from skl2onnx.common.data_types import Int64TensorType, StringTensorType
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.validation import check_is_fitted

from skmode._common.sklearn import HalvingGridSearchCV, HalvingRandomSearchCV
from skmode._common.unwrap import is_search
from skmode.onnx._skl2onnx.compat import find_alias, parse_model
from skmode.onnx._skl2onnx.containers import class_labels, connect_output, set_number_type
from skmode.onnx._skl2onnx.models.nested import known_alias
from skmode.onnx._skl2onnx.models.outputs import CLASSIFIER_OPTIONS
from skmode.onnx._skl2onnx.replacements import (
    add_converter,
    refuse_routing,
    replace_converter,
    replace_parser,
)

SEARCHES = (GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV, HalvingRandomSearchCV)
_OPTIONS = CLASSIFIER_OPTIONS | {"raw_scores": [True, False]}


def add_wrappers() -> None:
    """Add converters of models that predict as one estimator in them does."""
    register_frozen_estimator()
    replace_parser(GridSearchCV, _parse)
    replace_converter("SklearnGridSearchCV", GridSearchCV, _infer, _convert)
    for model in (*SEARCHES[1:], SelfTrainingClassifier):
        add_converter(model, _infer, _convert, _parse, _OPTIONS)


def add_search(kind: type) -> None:
    """Add a converter of another package's search."""
    add_converter(kind, _infer, _convert, _parse, _OPTIONS)


def register_frozen_estimator() -> None:
    """Register a converter of FrozenEstimator, unless skl2onnx has one."""
    if find_alias(FrozenEstimator) is not None:
        return
    skl2onnx.update_registered_converter(
        FrozenEstimator,
        "SkmodeFrozenEstimator",
        _infer,
        _convert,
        parser=lambda scope, model, inputs, custom_parsers=None: _parse(
            scope, model, inputs, custom_parsers
        ),
        options=_OPTIONS,
    )


def wrapped(model: Any) -> Any:
    """Get the estimator that predicts for a model."""
    if isinstance(model, FrozenEstimator):
        return model.estimator
    if not is_search(model):
        check_is_fitted(model)
        return model.estimator_
    # An earlier fit may have left one, by which the search no longer predicts.
    if not model.refit or not hasattr(model, "best_estimator_"):
        raise NotFittedError(
            f"A search must be fitted with refit=True to be converted, but this "
            f"{type(model).__name__} has no best_estimator_: set refit, and call fit before."
        )
    return model.best_estimator_


def _parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any, original: Any = None) -> Any:
    """Parse the estimator in a model, with the options of the model."""
    refuse_routing(scope, model)
    estimator = wrapped(model)
    options = scope.get_options(model)
    if options:
        scope.add_options(id(estimator), options)
    return parse_model(scope, estimator, inputs, custom_parsers=custom_parsers)


def _infer(operator: Any) -> None:
    """Set the types that an outer model reads; skl2onnx does not infer them for a Pipeline."""
    estimator = wrapped(operator.raw_operator)
    n_rows = operator.inputs[0].get_first_dimension()
    if not is_classifier(estimator):
        set_number_type(operator.outputs[0], [n_rows, None])
        return
    labels = class_labels(estimator)
    kind = StringTensorType if labels.dtype.kind == "O" else Int64TensorType
    operator.outputs[0].set_type(kind([n_rows]))
    set_number_type(operator.outputs[1], [n_rows, len(labels)])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    estimator = wrapped(operator.raw_operator)
    if is_classifier(estimator):
        _pass_raw_scores(scope, container, operator.raw_operator)
    nested = scope.declare_local_operator(known_alias(estimator), estimator)
    nested.inputs = operator.inputs
    for output in operator.outputs:
        variable = scope.declare_local_variable(output.raw_name, type(output.type)())
        nested.outputs.append(variable)
        connect_output(container, variable.full_name, output)


def _pass_raw_scores(scope: Any, container: Any, model: Any) -> None:
    """Pass option raw_scores on to the estimator if the outer model reads its decision function."""
    estimator = unfreeze(model)
    name, outer = type(estimator).__name__, type(model).__name__
    if container.get_options(model, {"raw_scores": False})["raw_scores"]:
        if is_wrapper(estimator) or not container.has_options(estimator, "raw_scores"):
            raise NotImplementedError(
                "A decision function can be converted only if skl2onnx has option raw_scores for "
                f"its estimator, got {outer} of {name}: freeze an estimator that has "
                "it, or let the outer model use predict_proba."
            )
        for options in (scope, container):
            options.add_options(id(wrapped(model)), {"raw_scores": True})
    elif not hasattr(estimator, "predict_proba"):
        raise NotImplementedError(
            f"{outer} in another model must have predict_proba to be converted, got one "
            f"of {name}: use a classifier with predict_proba."
        )


def is_wrapper(estimator: Any) -> bool:
    """Whether skl2onnx does not reach the decision function of an estimator."""
    return isinstance(estimator, Pipeline) or is_search(estimator)


def unfreeze(model: Any) -> Any:
    """Get the estimator in a FrozenEstimator."""
    while isinstance(model, FrozenEstimator):
        model = model.estimator
    return model
