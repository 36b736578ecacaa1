"""What a fitted mixture makes of some rows: gate, each expert alone and all together, in one pass.

Only public attributes and methods of the estimator are used. Anything serves that has
`gate_proba`, `expert_predict` and `predict`; where there is a network beside these, in
``net_.module_``, one forward pass of it yields all three.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from skmode.inspection import _measures

Array = NDArray[Any]

METHODS = ("gate_proba", "expert_predict", "predict")


class Outputs(NamedTuple):
    """What a mixture makes of some rows.

    Attributes
    ----------
    gate : ndarray of float64 of shape (n_samples, n_experts)
        Weight of each expert.
    route : ndarray of int64 of shape (n_samples,)
        Expert with the largest weight.
    experts : ndarray of shape (n_samples, n_experts) or (n_samples, n_experts, n_outputs)
        Each expert alone: positions of classes, or values.
    mixture : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        All together.
    expert_log_proba : ndarray of shape (n_samples, n_experts, n_classes), or None
        Log-probabilities of each expert alone, where they were asked for.
    mixture_log_proba : ndarray of shape (n_samples, n_classes), or None
        The same of all together.
    """

    gate: Array
    route: Array
    experts: Array
    mixture: Array
    expert_log_proba: Array | None = None
    mixture_log_proba: Array | None = None


class Target(NamedTuple):
    """True values beside their weights.

    Attributes
    ----------
    values : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Positions of classes, -1 for one that training did not see; or values.
    weight : ndarray of float64 of shape (n_samples,)
        Weights of the rows.
    scale : ndarray of shape (n_outputs,), or None
        Regression: standard deviation of each output.
    """

    values: Array
    weight: Array
    scale: Array | None


def unwrap(estimator: Any, X: Any, *, name: str = "estimator") -> tuple[Any, Any]:
    """Find the mixture in a Pipeline or a search, and what it reads of the rows, if there are."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if X is not None and len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator[-1]
        else:
            break
    if is_search(estimator):
        raise NotFittedError(_why_without_best(estimator, name))
    check_methods(estimator, name)
    check_is_fitted(estimator)
    return estimator, X


def is_search(estimator: Any) -> bool:
    """Whether it tries parameters of another estimator, as GridSearchCV does."""
    return all(hasattr(estimator, name) for name in ("estimator", "refit", "error_score"))


def _why_without_best(search: Any, name: str) -> str:
    kind = type(search).__name__
    if hasattr(search, "cv_results_"):
        return (
            f"{name} must keep its best estimator, got {kind} with refit={search.refit!r}: fit it "
            "with refit=True, or pass a mixture fitted with the best parameters."
        )
    return f"{name} must be fitted, got {kind} that is not fitted: call its fit first."


def check_methods(estimator: Any, name: str = "estimator") -> None:
    """It is a mixture, by what it can do."""
    missing = [method for method in METHODS if not hasattr(estimator, method)]
    if missing:
        raise TypeError(
            f"{name} must be a fitted MoDEClassifier or MoDERegressor, or a Pipeline or search "
            f"that ends with one, got {type(estimator).__name__} without {', '.join(missing)}: "
            "pass the mixture itself, on the rows that it reads."
        )


def domains_of(domains: Any, X: Any) -> Array | None:
    """Which expert of another model each row belongs to; None for ``"own"``."""
    if isinstance(domains, str) or domains is None:
        if domains != "own":
            raise ValueError(
                f'domains must be "own" or a fitted estimator, got {domains!r}: choose one of '
                "these."
            )
        return None
    mixture, rows = unwrap(domains, X, name="domains")
    return np.asarray(np.argmax(mixture.gate_proba(rows), axis=1))


def check_weight(sample_weight: Any, n_samples: int) -> Array | None:
    """Weights as an array, at least one of them positive, or None where there are none."""
    if sample_weight is None:
        return None
    if not np.any(sample_weight):
        raise ValueError(
            "At least one row needs a positive sample_weight, got zeros only: pass weights above "
            "zero for the rows to judge by."
        )
    weight: Array = _check_sample_weight(
        sample_weight, np.empty((n_samples, 1)), dtype=np.float64, ensure_non_negative=True
    )
    return weight


def takes_weight(function: Callable[..., Any], *, by_name: bool = False) -> bool:
    """Whether a function has an argument `sample_weight`, or any that it passes on."""
    parameters = inspect.signature(function).parameters
    passes_on = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return "sample_weight" in parameters or (passes_on and not by_name)


def weight_arguments(estimator: Any, weight: Array) -> dict[str, Array]:
    """What to give to `fit` so that the weights come to the last step."""
    prefix = ""
    while isinstance(estimator, Pipeline) or is_search(estimator):
        if isinstance(estimator, Pipeline):
            step, estimator = estimator.steps[-1]
            prefix += f"{step}__"
        else:
            estimator = estimator.estimator
    if not takes_weight(estimator.fit):
        raise TypeError(
            "fit must take sample_weight where there are weights, that of "
            f"{type(estimator).__name__} takes none: choose another estimator, or leave the "
            "weights out."
        )
    return {f"{prefix}sample_weight": weight}


def check_target(estimator: Any, y: Any, sample_weight: Any) -> Target:
    """Read targets as the estimator does, and check the weights."""
    if is_classifier(estimator):
        return make_target(y, sample_weight, classes=estimator.classes_)
    return make_target(y, sample_weight, scale=getattr(estimator, "target_scale_", None))


def make_target(
    y: Any, sample_weight: Any, *, classes: Array | None = None, scale: Any = None
) -> Target:
    """Check targets and weights."""
    weight = check_weight(sample_weight, len(y))
    weight = np.ones(len(y)) if weight is None else weight
    if classes is not None:
        positions = _positions(column_or_1d(y), classes, "y")
        if len(positions) and (positions < 0).all():
            raise ValueError(
                f"y must hold one of the classes {_some(classes)} at least, got {_some(y)}: pass "
                "the labels that the estimator was fitted to."
            )
        return Target(positions, weight, None)
    values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    values = values.reshape(len(values), -1)
    if scale is None:
        mean = np.average(values, axis=0, weights=weight)
        scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
        scale = np.where(scale > 0, scale, 1.0)
    return Target(values, weight, np.asarray(scale))


def look(estimator: Any, X: Any, *, log_proba: bool = False) -> Outputs:
    """Evaluate gate, experts and mixture on rows."""
    module = getattr(getattr(estimator, "net_", None), "module_", None)
    if isinstance(module, torch.nn.Module):
        return _one_pass(estimator, module, X, log_proba)
    return _by_methods(estimator, X, log_proba)


def judge(outputs: Outputs, target: Target, tolerance: float | None = None) -> _measures.Judgement:
    """Tell which predictions are right."""
    if target.scale is None:
        if tolerance is not None:
            raise ValueError(
                "tolerance is for regression, where no prediction is exact, got "
                f"{tolerance!r} for a classifier: leave it out."
            )
        return _measures.judge_classes(outputs.experts, outputs.mixture, target.values)
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(
            f"tolerance must be a distance, zero or more, got {tolerance!r}: pass one in units of "
            "the target."
        )
    return _measures.judge_values(
        outputs.experts,
        outputs.mixture,
        target.values,
        scale=target.scale,
        weight=target.weight,
        tolerance=tolerance,
    )


def consistency(outputs: Outputs, target: Target) -> Array:
    """Agreement of each pair of experts."""
    if target.scale is None:
        return _measures.consistency_of_classes(outputs.experts, target.weight)
    return _measures.consistency_of_values(outputs.experts, target.scale, target.weight)


@contextlib.contextmanager
def hooked(module: torch.nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Call ``hook(output)`` after each forward pass of this thread, and then no more."""
    thread = threading.get_ident()  # others may predict with the same module meanwhile

    def after(_: torch.nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            hook(output)

    handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _all_experts(module: torch.nn.Module) -> Iterator[None]:
    """Have a sparse mixture compute all of its experts, in this thread."""
    thread = threading.get_ident()

    def before(_: torch.nn.Module, arguments: Any, options: dict[str, Any]) -> Any:
        if threading.get_ident() != thread:
            return None
        return arguments, {**options, "all_experts": True}

    handle = module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def as_mixture(estimator: Any) -> Any:
    """A copy whose `predict` runs the whole mixture; it shares the network."""
    estimator = copy.copy(estimator)
    estimator.inference = "mixture"
    return estimator


def _one_pass(estimator: Any, module: Any, X: Any, log_proba: bool) -> Outputs:
    classifies = is_classifier(estimator)
    gates: list[Array] = []
    blocks: list[tuple[Array, ...]] = []

    def of_mixture(output: Any) -> None:
        parts = output.expert_outputs, output.prediction
        if not classifies or log_proba:
            blocks.append(tuple(part.double().cpu().numpy() for part in parts))
        else:
            # Of the log-probabilities of many rows, experts and classes only the largest is kept.
            blocks.append(tuple(part.argmax(dim=-1).cpu().numpy() for part in parts))

    with (
        _all_experts(module),
        hooked(module, of_mixture),
        hooked(module.gate, lambda output: gates.append(output.log_probabilities.double().cpu())),
    ):
        as_mixture(estimator).predict(X)
    log_gate = np.concatenate(gates)
    experts, mixture = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    gate = np.exp(log_gate)
    gate /= gate.sum(axis=1, keepdims=True)
    route = log_gate.argmax(axis=1)
    if not classifies:
        scale, mean = estimator.target_scale_, estimator.target_mean_
        return Outputs(gate, route, experts * scale + mean, mixture * scale + mean)
    if not log_proba:
        return Outputs(gate, route, experts, mixture)
    experts, mixture = _normalize(experts), _normalize(mixture)
    return Outputs(gate, route, experts.argmax(axis=2), mixture.argmax(axis=1), experts, mixture)


def _by_methods(estimator: Any, X: Any, log_proba: bool) -> Outputs:
    outputs = make_outputs(
        estimator.gate_proba(X),
        estimator.expert_predict(X),
        estimator.predict(X),
        classes=estimator.classes_ if is_classifier(estimator) else None,
    )
    if not (log_proba and is_classifier(estimator)):
        return outputs
    with np.errstate(divide="ignore"):
        return outputs._replace(
            expert_log_proba=np.log(estimator.expert_predict_proba(X)),
            mixture_log_proba=np.log(estimator.predict_proba(X)),
        )


def make_outputs(gate: Any, experts: Any, mixture: Any, *, classes: Array | None = None) -> Outputs:
    """Bring predictions into the form that all instruments read."""
    gate = np.asarray(gate, dtype=np.float64)
    experts, mixture = np.asarray(experts), np.asarray(mixture)
    if experts.shape[:2] != gate.shape:
        raise ValueError(
            "There must be one prediction of each expert for each row, got shape "
            f"{experts.shape} beside {gate.shape} of the gate: pass those of the same rows."
        )
    route = gate.argmax(axis=1)
    if classes is not None:
        of_experts = _positions(experts.ravel(), classes, "experts").reshape(experts.shape)
        return Outputs(gate, route, of_experts, _positions(mixture, classes, "mixture"))
    return Outputs(
        gate,
        route,
        experts.reshape(*gate.shape, -1).astype(np.float64),
        mixture.reshape(len(gate), -1).astype(np.float64),
    )


def _normalize(log_proba: Array) -> Array:
    """Sums of one in double precision, as the estimators' own probabilities have."""
    return np.asarray(log_proba - np.logaddexp.reduce(log_proba, axis=-1, keepdims=True))


def _positions(labels: Any, classes: Array, name: str) -> Array:
    """Position of each label among the sorted classes, -1 where it is none of them."""
    codes, found = pd.factorize(np.asarray(labels))
    if (codes < 0).any():
        raise ValueError(
            f"{name} must hold a label for each row, got {(codes < 0).sum()} missing: leave out "
            "these rows."
        )
    if len({isinstance(label, str) for label in (*found, *classes)}) > 1:
        raise ValueError(
            f"{name} must hold labels of one kind, that of the classes {_some(classes)}, got "
            f"{_some(found)}: convert them."
        )
    places = np.searchsorted(classes, found).clip(max=len(classes) - 1)
    return np.asarray(np.where(classes[places] == found, places, -1)[codes])


def _some(labels: Any) -> str:
    """A few of them, in the order in which they come."""
    different = pd.unique(np.asarray(labels)).tolist()
    return f"{different[:4]}"[:-1] + (", ...]" if len(different) > 4 else "]")


def check_rows(X: Any, y: Any) -> None:
    """Rows and targets are as many, and there are some."""
    check_consistent_length(X, y)
