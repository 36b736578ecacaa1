"""Which features each expert needs for its rows, and which ones the gate looks at."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from skmode.inspection import _measures, _outputs

Array = NDArray[Any]

# Rows that are differentiated at once.
BLOCK_ROWS = 1024

# Attributions that miss more of an output say too little of it: of a probability or weight, or of
# a standard deviation of the target.
COMPLETE = 0.05


@dataclass(frozen=True, repr=False, eq=False)
class ExpertAttention:
    """What :func:`expert_attention` found.

    Attributes
    ----------
    importances : DataFrame
        One row a feature; one column an expert, counted from 0, and one for the gate, ``"gate"``.
        An expert without rows has missing values.
    deviations : DataFrame
        Standard deviation of each: over the repetitions of the permutation, or over the rows.
    n_samples : Series
        Number of rows that each column was measured on.
    method : {"permutation", "integrated_gradients"}
        What the importances are.
    unit : str
        Their unit, for experts.
    completeness_error : float or None
        Integrated gradients: by how much the attributions of a row miss what the expert's output
        there is above that of the baseline, in `unit`; the largest of all rows. None for
        permutation.
    gate_completeness_error : float or None
        The same for the gate, in its weight.
    """

    importances: pd.DataFrame
    deviations: pd.DataFrame
    n_samples: pd.Series
    method: str
    unit: str
    completeness_error: float | None = None
    gate_completeness_error: float | None = None

    def __repr__(self) -> str:
        known = self.importances.dropna(axis=1, how="all")
        most = ", ".join(
            f"{who}: {importance.idxmax() if importance.max() > 0 else 'none'}"
            for who, importance in known.items()
        )
        return f"<ExpertAttention by {self.method}. Most important feature of {most}>"

    def shares(self) -> pd.DataFrame:
        """Divide importances by their column's sum.

        Returns
        -------
        shares : DataFrame
            What is negative, by chance, counts as zero; columns sum to one. A column without any
            importance stays zero.
        """
        positive = self.importances.clip(lower=0)
        total = positive.sum()
        return positive / total.where(total > 0, 1.0)


def expert_attention(
    estimator: Any,
    X: Any,
    y: Any,
    method: str = "permutation",
    *,
    sample_weight: Any = None,
    n_repeats: int = 5,
    n_steps: int = 32,
    random_state: Any = None,
) -> ExpertAttention:
    r"""Measure how important each feature is for each expert on its domain, and for the gate.

    *Permutation*: by how much the expert alone gets worse on the rows of its domain when a
    feature is shuffled among these rows, in accuracy or in root mean squared error. The gate: the
    share of all rows that are sent elsewhere when the feature is shuffled among all.

    *Integrated gradients*: the output along the straight line from a baseline to the row, where
    the gate and the experts read it (behind the embeddings); the gradients there, times the way,
    summed up for each column and averaged in absolute value over the rows. The output is the
    probability of the class that the expert predicts, the value that it predicts, or the gate's
    weight of the expert that it chooses (for a sparse gate that in the softmax over all). The
    baseline has the medians of training in the number columns and an unknown category elsewhere.
    Per row the attributions sum to the output less that of the baseline, but for the error of a
    finite number of steps, which is measured (`completeness_error`). It is largest where an output
    turns steeply between baseline and row, or has kinks, as with ReLU.

    Parameters
    ----------
    estimator : object
        A fitted :class:`skmode.MoDEClassifier` or :class:`skmode.MoDERegressor`, or a Pipeline or
        search that ends with one. In a Pipeline, permutation shuffles the columns of `X`,
        integrated gradients tell of the columns that the last step reads.
    X : {array-like, DataFrame} of shape (n_samples, n_features)
        Rows, best such that training did not see.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True classes or values. Integrated gradients do not look at them.
    method : {"permutation", "integrated_gradients"}, default="permutation"
        How to measure.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    n_repeats : int, default=5
        Shufflings of each feature; each is a forward pass.
    n_steps : int, default=32
        Points on the line from the baseline, by Gauss and Legendre. More of them lessen
        `completeness_error`.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffling.

    Returns
    -------
    attention : ExpertAttention
        Importances of features for experts and gate.

    Raises
    ------
    TypeError
        If there is no mixture in `estimator`, or none of torch modules where one is needed.
    ValueError
        If the input is malformed.

    Warns
    -----
    UserWarning
        If integrated gradients miss more than 0.05 of a probability, of a gate's weight or of a
        standard deviation of the target.

    See Also
    --------
    skmode.inspection.ExpertAttentionDisplay : A picture of it.
    sklearn.inspection.permutation_importance : The same for a model as a whole.

    References
    ----------
    Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmode import MoDEClassifier
    >>> from skmode.inspection import expert_attention
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> classifier = MoDEClassifier(n_experts=2, random_state=0).fit(X, y)
    >>> attention = expert_attention(classifier, X, y, random_state=0)
    >>> attention.importances.columns.tolist()
    [0, 1, 'gate']
    """
    _outputs.check_rows(X, y)
    if method not in ("permutation", "integrated_gradients"):
        raise ValueError(
            'method must be "permutation" or "integrated_gradients", got '
            f"{method!r}: choose one of these."
        )
    if not all(
        isinstance(count, int | np.integer) and count >= 1 for count in (n_repeats, n_steps)
    ):
        raise ValueError(
            "n_repeats and n_steps must be whole numbers of at least 1, got "
            f"{n_repeats!r} and {n_steps!r}: change them."
        )
    mixture, rows = _outputs.unwrap(estimator, X)
    target = _outputs.check_target(mixture, y, sample_weight)
    if method == "permutation":
        return _by_permutation(estimator, X, target, n_repeats, random_state)
    names = None if rows is X else _names_behind(estimator)
    return _by_gradients(mixture, rows, target, n_steps, names)


# Permutation.


def _by_permutation(
    estimator: Any, X: Any, target: _outputs.Target, n_repeats: int, random_state: Any
) -> ExpertAttention:
    random_state = check_random_state(random_state)
    mixture, rows = _outputs.unwrap(estimator, X)
    outputs = _outputs.look(mixture, rows)
    domain, n_experts = outputs.route, outputs.gate.shape[1]
    base = _scores_on_domains(outputs, domain, target)
    sign = 1 if target.scale is None else -1
    table = _Table(X)
    drops = np.full((len(table.names), n_experts + 1, n_repeats), np.nan)
    for feature in range(len(table.names)):
        for repeat in range(n_repeats):
            inside = _permute_within(domain, random_state)
            shuffled = _outputs.look(mixture, _read(estimator, table.shuffled(feature, inside)))
            drops[feature, :n_experts, repeat] = sign * (
                base - _scores_on_domains(shuffled, domain, target)
            )
            everywhere = random_state.permutation(len(domain))
            gate = mixture.gate_proba(_read(estimator, table.shuffled(feature, everywhere)))
            moved = np.asarray(gate).argmax(axis=1) != domain
            drops[feature, n_experts, repeat] = np.average(moved, weights=target.weight)
    return _attention(
        drops.mean(axis=2),
        drops.std(axis=2),
        table.names,
        np.bincount(domain, minlength=n_experts),
        "permutation",
        "drop in accuracy" if target.scale is None else "rise of the RMSE, in units of the target",
    )


def _read(estimator: Any, X: Any) -> Any:
    return _outputs.unwrap(estimator, X)[1]


def _permute_within(domain: Array, random_state: Any) -> Array:
    """A permutation of the rows that leaves each in its domain."""
    index = np.arange(len(domain))
    for one in np.unique(domain):
        members = np.flatnonzero(domain == one)
        index[members] = random_state.permutation(members)
    return index


def _scores_on_domains(outputs: _outputs.Outputs, domain: Array, target: _outputs.Target) -> Array:
    """Accuracy or root mean squared error of each expert alone on its domain."""
    found = np.full(outputs.gate.shape[1], np.nan)
    for expert in range(len(found)):
        members = domain == expert
        weight = target.weight[members]
        if not weight.sum() > 0:
            continue
        predicted, true = outputs.experts[members, expert], target.values[members]
        if target.scale is None:
            found[expert] = np.average(predicted == true, weights=weight)
        else:
            found[expert] = _measures.root_mean_squared_error((predicted - true) ** 2, weight)
    return found


class _Table:
    """Rows of which one column at a time is shuffled."""

    def __init__(self, X: Any) -> None:
        frame = nw.from_native(X, eager_only=True, pass_through=True)
        self.frame = frame if isinstance(frame, nw.DataFrame) else None
        if self.frame is None:
            self.array = np.asarray(X)
            self.names = [f"x{i}" for i in range(self.array.shape[1])]
        else:
            self.names = list(self.frame.columns)

    def shuffled(self, feature: int, order: Array) -> Any:
        """Put a column into another order, with the type that it has."""
        if self.frame is None:
            array = self.array.copy()
            array[:, feature] = array[order, feature]
            return array
        native = self.frame.to_native()
        if isinstance(native, pd.DataFrame):  # whose index would put the values back in order
            native = native.copy()
            column = native.iloc[:, feature].take(order)
            native.isetitem(feature, column.set_axis(native.index))
            return native
        column = self.frame[self.names[feature]]
        return self.frame.with_columns(column[order.tolist()]).to_native()


# Integrated gradients.


def _by_gradients(
    estimator: Any, X: Any, target: _outputs.Target, n_steps: int, names: list[str] | None
) -> ExpertAttention:
    attributions = integrated_gradients(estimator, X, n_steps)
    domain = attributions.route
    n_experts = estimator.net_.module_.n_experts
    n_features = attributions.experts.shape[1]
    mean, deviation = (np.full((n_features, n_experts + 1), np.nan) for _ in range(2))
    parts = [(domain == k, attributions.experts) for k in range(n_experts)]
    parts.append((np.ones(len(domain), dtype=bool), attributions.gate))
    for column, (members, values) in enumerate(parts):
        weight = target.weight[members]
        if weight.sum() > 0:
            sizes = np.abs(values[members])
            average = np.average(sizes, axis=0, weights=weight)
            mean[:, column] = average
            deviation[:, column] = np.sqrt(
                np.average((sizes - average) ** 2, axis=0, weights=weight)
            )
    if names is None or len(names) != n_features:
        names = [column.name for column in estimator.encoder_.columns_]
    unit, scale = _unit_and_scale(estimator)
    errors = float(attributions.experts_error.max()), float(attributions.gate_error.max())
    _warn_of_errors(errors[0], errors[1], unit, scale, n_steps)
    return _attention(
        mean,
        deviation,
        names,
        np.bincount(domain, minlength=n_experts),
        "integrated_gradients",
        unit,
        *errors,
    )


def _unit_and_scale(estimator: Any) -> tuple[str, float]:
    """Unit of what is attributed, and how much of it is one standard deviation or all."""
    if is_classifier(estimator):
        return "probability", 1.0
    if len(estimator.target_scale_) == 1:
        return "units of the target", float(estimator.target_scale_[0])
    return "standard deviations of the target", 1.0


def _warn_of_errors(
    of_experts: float, of_gate: float, unit: str, scale: float, n_steps: int
) -> None:
    if of_experts <= COMPLETE * scale and of_gate <= COMPLETE:
        return
    warnings.warn(
        "The attributions of a row should sum to what its output is above the baseline's, but miss "
        f"it by up to {of_experts:.2g} ({unit}) for an expert and by up to {of_gate:.2g} for the "
        f"gate's weight, with n_steps={n_steps}: raise n_steps.",
        stacklevel=4,
    )


@dataclass(frozen=True)
class Attributions:
    """Attributions of rows, one by one.

    Attributes
    ----------
    experts : ndarray of shape (n_samples, n_features)
        To the output of each row's top expert.
    gate : ndarray of shape (n_samples, n_features)
        To the gate's weight of that expert.
    route : ndarray of int64 of shape (n_samples,)
        That expert.
    experts_error : ndarray of shape (n_samples,)
        By how much the sum of `experts` misses that output less the baseline's.
    gate_error : ndarray of shape (n_samples,)
        By how much the sum of `gate` misses that weight less the baseline's.
    """

    experts: Array
    gate: Array
    route: Array
    experts_error: Array
    gate_error: Array


def integrated_gradients(estimator: Any, X: Any, n_steps: int = 32) -> Attributions:
    """Attribute the outputs of gate and top expert to the columns, row by row."""
    module: Any = getattr(getattr(estimator, "net_", None), "module_", None)
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            'method="integrated_gradients" needs the network in net_.module_, got '
            f'{type(estimator).__name__} without one: use method="permutation".'
        )
    read: list[torch.Tensor] = []
    trunk: Any = module.trunk
    gate: Any = module.gate
    with _outputs.hooked(trunk, read.append):
        estimator.gate_proba(X)
    features = torch.cat(read).clone()  # inference tensors cannot be differentiated
    with torch.no_grad():
        baseline = _baseline(estimator, module)
        route = gate.logits(features).argmax(dim=1)
    column_of = _column_of_feature(estimator, module)
    n_columns = len(estimator.encoder_.columns_)
    parts: list[list[Array]] = [[], []]
    errors: list[list[Array]] = [[], []]
    for start in range(0, len(features), BLOCK_ROWS):
        rows = features[start : start + BLOCK_ROWS]
        chosen = route[start : start + BLOCK_ROWS]
        functions = _scalars(estimator, module, rows, chosen)
        for part, error, function in zip(parts, errors, functions, strict=True):
            by_feature = _integrate(function, rows, baseline, n_steps)
            by_column = rows.new_zeros(len(rows), n_columns)
            by_column.index_add_(1, column_of.to(rows.device), by_feature)
            part.append(by_column.double().cpu().numpy())
            error.append(_miss(function, rows, baseline, by_feature))
    experts, gate_weight = (np.concatenate(part) for part in parts)
    experts_error, gate_error = (np.concatenate(error) for error in errors)
    return Attributions(experts, gate_weight, route.cpu().numpy(), experts_error, gate_error)


def _miss(
    function: Any, rows: torch.Tensor, baseline: torch.Tensor, attributions: torch.Tensor
) -> Array:
    """How far each row's attributions are from summing to what they should."""
    with torch.no_grad():
        change = function(rows) - function(baseline.expand_as(rows))
    missing = change.double().flatten() - attributions.double().sum(dim=1)
    return np.asarray(missing.abs().cpu().numpy())


def _integrate(
    function: Any, rows: torch.Tensor, baseline: torch.Tensor, n_steps: int
) -> torch.Tensor:
    """Mean gradient on the line from the baseline to each row, times the way."""
    points, weights = np.polynomial.legendre.leggauss(n_steps)
    way = rows - baseline
    total = torch.zeros_like(rows)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        at = (baseline + float(point) * way).requires_grad_()
        (gradient,) = torch.autograd.grad(function(at).sum(), at)
        total += float(weight) * gradient
    return total * way


def _scalars(estimator: Any, module: Any, rows: torch.Tensor, route: torch.Tensor) -> Iterator[Any]:
    """Functions of features to one number a row: the top expert's output, the gate's weight."""
    groups = [(k, (route == k).nonzero().squeeze(1)) for k in sorted(set(route.tolist()))]

    def outputs(features: torch.Tensor) -> torch.Tensor:
        parts = [
            module.task_loss.finalize(module.head(module.experts.forward_one(features[index], k)))
            for k, index in groups
        ]
        order = torch.cat([index for _, index in groups]).argsort()
        found: torch.Tensor = torch.cat(parts)[order]
        return found

    if is_classifier(estimator):
        with torch.no_grad():
            predicted = outputs(rows).argmax(dim=1, keepdim=True)
        yield lambda features: outputs(features).gather(1, predicted).exp()
    elif len(estimator.target_scale_) == 1:
        scale = float(estimator.target_scale_[0])
        yield lambda features: outputs(features) * scale
    else:
        yield lambda features: outputs(features).mean(dim=1)
    yield lambda features: module.gate.logits(features).softmax(dim=1).gather(1, route[:, None])


def _baseline(estimator: Any, module: Any) -> torch.Tensor:
    """What gate and experts read of a row of medians and unknown categories."""
    encoder, weight = estimator.encoder_, module.head.weight
    numbers = [[column.center for column in encoder.numeric_columns]]
    codes = torch.zeros(1, len(encoder.categorical_columns), dtype=torch.int64)
    numbers_tensor = torch.tensor(numbers, dtype=weight.dtype, device=weight.device)
    found: torch.Tensor = module.trunk(numbers_tensor, codes.to(weight.device))
    return found


def _column_of_feature(estimator: Any, module: Any) -> torch.Tensor:
    """Which input column each feature behind the trunk comes from.

    They stand in the trunk's order: embedded numbers, indicators of missing values, categories.
    """
    columns = estimator.encoder_.columns_
    numeric, categorical = (
        np.array([i for i, column in enumerate(columns) if column.kind == kind], dtype=np.int64)
        for kind in ("number", "category")
    )
    missing: Array = np.empty(0, dtype=np.int64)
    if module.trunk.scaler is not None:
        missing = numeric[module.trunk.scaler.missing_columns.cpu().numpy()]
    of_categories = 0 if module.trunk.categorical is None else module.trunk.categorical.out_features
    of_numbers = module.trunk.out_features - of_categories - len(missing)
    return torch.as_tensor(
        np.concatenate(
            [
                np.repeat(numeric, of_numbers // max(len(numeric), 1)),
                missing,
                np.repeat(categorical, of_categories // max(len(categorical), 1)),
            ]
        )
    )


def _names_behind(estimator: Any) -> list[str] | None:
    """Names of the columns that the mixture reads, if all steps before it tell."""
    names: list[str] | None = None
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if len(estimator) > 1:
                try:
                    names = list(estimator[:-1].get_feature_names_out(names))
                except (AttributeError, TypeError, ValueError):
                    return None
            estimator = estimator[-1]
        else:
            return names


def _attention(
    mean: Array,
    deviation: Array,
    names: list[str],
    counts: Array,
    method: str,
    unit: str,
    completeness_error: float | None = None,
    gate_completeness_error: float | None = None,
) -> ExpertAttention:
    columns = pd.Index([*range(len(counts)), "gate"], name="expert", dtype=object)
    index = pd.Index(names, name="feature")
    return ExpertAttention(
        pd.DataFrame(mean, index=index, columns=columns),
        pd.DataFrame(deviation, index=index, columns=columns),
        pd.Series([*counts.tolist(), int(counts.sum())], index=columns, name="n_samples"),
        method,
        unit,
        completeness_error,
        gate_completeness_error,
    )
