"""Which models around an estimator can be converted, checked before skl2onnx converts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    RandomTreesEmbedding,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RANSACRegressor
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.semi_supervised import SelfTrainingClassifier

from skmode._common.unwrap import is_search
from skmode.onnx._skl2onnx import compat
from skmode.onnx._skl2onnx.models.thresholds import THRESHOLDS, read_threshold
from skmode.onnx._skl2onnx.models.wrappers import SEARCHES, add_search, wrapped
from skmode.onnx._skl2onnx.replacements import contains_estimator, is_estimator

# Parts of the models that predict by what is in them. A test enumerates scikit-learn's models, so
# that each is here or refused.
_PREDICTORS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((*SEARCHES, FrozenEstimator, SelfTrainingClassifier), wrapped),
    **dict.fromkeys(THRESHOLDS, lambda model: read_threshold(model)[0]),
    CalibratedClassifierCV: lambda model: [
        part.estimator for part in model.calibrated_classifiers_
    ],
    StackingClassifier: lambda model: [*model.estimators_, model.final_estimator_],
    StackingRegressor: lambda model: [*model.estimators_, model.final_estimator_],
    RANSACRegressor: lambda model: model.estimator_,
    TransformedTargetRegressor: lambda model: model.regressor_,
    **dict.fromkeys(
        (
            AdaBoostClassifier,
            AdaBoostRegressor,
            BaggingClassifier,
            BaggingRegressor,
            ClassifierChain,
            MultiOutputClassifier,
            MultiOutputRegressor,
            OneVsOneClassifier,
            OneVsRestClassifier,
            RegressorChain,
            VotingClassifier,
            VotingRegressor,
        ),
        lambda model: model.estimators_,
    ),
}
_WRONG_STEPS = {
    LinearDiscriminantAnalysis: (
        "of which skl2onnx converts the predictions alone",
        "replace it, for example by PCA",
    ),
    RandomTreesEmbedding: (
        "whose graph gets outputs of its own",
        "replace it, for example by KBinsDiscretizer",
    ),
}
# Steps that use an estimator only to choose columns.
_SELECTORS = (RFE, RFECV, SelectFromModel, SequentialFeatureSelector)


def check_supported(model: Any, *, transforms: bool = False) -> None:
    """Raise if a model is around an estimator in a way that cannot be converted."""
    if transforms and type(model) in _PREDICTORS and not isinstance(model, FrozenEstimator):
        raise _refuse(
            model,
            "before the last step of a Pipeline",
            "convert it alone, or use it as the last step",
        )
    if transforms:
        _check_step(model)
    holds_steps = transforms and isinstance(model, Pipeline | ColumnTransformer | FeatureUnion)
    if not contains_estimator(model) and not holds_steps:
        return
    for part, part_transforms in _parts(model, transforms):
        check_supported(part, transforms=part_transforms)


def _parts(model: Any, transforms: bool) -> Iterator[tuple[Any, bool]]:
    """Get the parts of a model, and whether each transforms or predicts."""
    kind = type(model)
    if isinstance(model, Pipeline):
        yield from ((step, True) for _, step in model.steps[:-1])
        yield model.steps[-1][1], transforms
    elif kind is ColumnTransformer:
        fitted = getattr(model, "transformers_", model.transformers)
        yield from ((part, True) for _, part, _ in fitted)
    elif kind is FeatureUnion:
        yield from ((part, True) for _, part in model.transformer_list)
    elif kind in _SELECTORS:
        _check_selector(model, transforms)
    elif kind is FrozenEstimator:
        yield model.estimator, transforms
    elif kind in _PREDICTORS:
        _check_ensemble(model)
        parts = _PREDICTORS[kind](model)
        yield from (
            (part, False) for part in (parts if isinstance(parts, list | tuple) else [parts])
        )
    elif is_search(model):  # of another package
        add_search(kind)
        yield wrapped(model), transforms
    elif not _has_converter(model):
        raise _refuse(
            model,
            "around a MoDE estimator",
            "convert the estimator in it, or use a model that can be converted, such as a "
            "Pipeline, a search, CalibratedClassifierCV, or a voting or stacking ensemble",
        )


def _has_converter(model: Any) -> bool:
    """Whether it is one of our estimators, or of a class that a user registered a converter for."""
    alias = compat.aliases.get(type(model))
    return is_estimator(model) or (alias is not None and not alias.startswith("Sklearn"))


def _check_step(model: Any) -> None:
    """Raise for a step of which skl2onnx converts another form only."""
    for kind, (how, cure) in _WRONG_STEPS.items():
        if isinstance(model, kind):
            raise NotImplementedError(
                "Steps before a MoDEClassifier or MoDERegressor must be of a kind that skmode.onnx "
                f"can convert, got {type(model).__name__}, {how}: {cure}."
            )


def _check_selector(model: Any, transforms: bool) -> None:
    if not transforms:
        name = type(model).__name__
        raise _refuse(
            model,
            "as the model that predicts",
            f"convert sklearn.pipeline.make_pipeline(model, model.estimator_), in which the fitted "
            f"{name} selects columns and its estimator predicts",
        )


def _check_ensemble(model: Any) -> None:
    """Raise for forms of some ensembles that skl2onnx converts wrongly or fails on."""
    kind = type(model)
    if kind is StackingClassifier and "predict" in model.stack_method_:
        raise _refuse(
            model, "with stack_method='predict'", "fit it with stack_method='predict_proba'"
        )
    one_versus = kind in (OneVsOneClassifier, OneVsRestClassifier)
    if one_versus and not all(map(is_classifier, model.estimators_)):
        raise _refuse(
            model,
            "of regressors, or with a class that all rows have or none has",
            "fit it with a classifier, on targets with rows of both kinds",
        )
    if kind in (AdaBoostClassifier, BaggingClassifier):
        sizes = {len(part.classes_) for part in model.estimators_}
        if sizes != {len(model.classes_)}:
            raise _refuse(
                model,
                f"of estimators that know only {min(sizes)} of {len(model.classes_)} classes",
                "fit it so that each estimator sees rows of all classes",
            )


def _refuse(model: Any, how: str, cure: str) -> NotImplementedError:
    return NotImplementedError(
        "Models around a MoDEClassifier or MoDERegressor must be of a kind that skmode.onnx can "
        f"convert, got {type(model).__name__} {how}: {cure}."
    )
