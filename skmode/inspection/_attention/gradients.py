"""Integrated gradients: what each feature adds to an output on the way from a baseline."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import is_classifier

from skmode.inspection._attention.result import ExpertAttention, make_attention
from skmode.inspection._evaluation import forward, mixtures, targets

Array = NDArray[Any]

# The trunk reads numbers first, then categories, then texts, then images.
KINDS = ("number", "category", "text", "image")

# Rows that are differentiated at once.
BLOCK_ROWS = 1024

# Attributions that miss an output by more are reported: in units of a probability, of a gate's
# weight, or of a standard deviation of the target.
MAX_ERROR = 0.05


def attend_by_gradients(
    estimator: Any,
    attributions: Attributions,
    target: targets.Target,
    n_steps: int,
    names: list[str] | None,
) -> ExpertAttention:
    """Average the absolute attributions of the rows, within domains for experts."""
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
    unit, scale = unit_and_scale(estimator)
    errors = float(attributions.experts_error.max()), float(attributions.gate_error.max())
    warn_of_errors(errors[0], errors[1], unit, scale, n_steps)
    return make_attention(
        mean,
        deviation,
        names,
        np.bincount(domain, minlength=n_experts),
        "integrated_gradients",
        unit,
        *errors,
        kinds=kinds_of(estimator, n_features),
    )


def kinds_of(mixture: Any, n_features: int) -> list[str] | None:
    """Return the kind of each feature; None if features are not the columns of a table."""
    columns = getattr(getattr(mixture, "encoder_", None), "columns_", [])
    return [column.kind for column in columns] if len(columns) == n_features else None


def unit_and_scale(estimator: Any) -> tuple[str, float]:
    """Return the unit of the experts' outputs, and how much of it a standard deviation is.

    Probabilities have no such deviation: their scale is 1.
    """
    if is_classifier(estimator):
        return "probability", 1.0
    if len(estimator.target_scale_) == 1:
        return "units of the target", float(estimator.target_scale_[0])
    return "standard deviations of the target", 1.0


def warn_of_errors(
    of_experts: float, of_gate: float, unit: str, scale: float, n_steps: int, stacklevel: int = 4
) -> None:
    """Warn if attributions miss what they should sum to."""
    if of_experts <= MAX_ERROR * scale and of_gate <= MAX_ERROR:
        return
    warnings.warn(
        "The attributions of a row should sum to its output minus the baseline's output, but are "
        f"off by up to {of_experts:.2g} ({unit}) for an expert and by up to {of_gate:.2g} for the "
        f"gate's weight, with n_steps={n_steps}: raise n_steps.",
        stacklevel=stacklevel,
    )


@dataclass(frozen=True)
class Attributions:
    """Attributions to each row's top expert, and to the gate's weight of that expert."""

    experts: Array  # (n_samples, n_features)
    gate: Array  # (n_samples, n_features)
    route: Array  # the top expert, int64 (n_samples,)
    experts_error: Array  # completeness error of `experts`, (n_samples,)
    gate_error: Array  # completeness error of `gate`, (n_samples,)


def integrated_gradients(estimator: Any, X: Any, n_steps: int = 32) -> Attributions:
    """Attribute the outputs of gate and top expert to the columns, row by row."""
    module: Any = mixtures.find_network(estimator)
    if module is None:
        raise TypeError(
            'method="integrated_gradients" needs the network in net_.module_, got '
            f'{type(estimator).__name__} without one: use method="permutation".'
        )
    # Whatever modes the caller has set.
    device = module.head.weight.device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        return _attribute(estimator, module, X, n_steps)


def _attribute(estimator: Any, module: Any, X: Any, n_steps: int) -> Attributions:
    """Attribute block by block, so that memory does not grow with the rows."""
    read: list[torch.Tensor] = []
    with forward.hooked(module.trunk, read.append):
        estimator.gate_proba(X)
    features = torch.cat(read).clone()  # inference tensors cannot be differentiated
    gate: Any = module.gate
    with torch.no_grad():
        baseline = _baseline(estimator, module)
        route = gate.logits(features).argmax(dim=1)
    column_of = column_of_feature(estimator, module)
    n_columns = len(estimator.encoder_.columns_)
    parts: list[list[Array]] = [[], []]
    errors: list[list[Array]] = [[], []]
    for start in range(0, len(features), BLOCK_ROWS):
        rows = features[start : start + BLOCK_ROWS]
        chosen = route[start : start + BLOCK_ROWS]
        functions = scalar_functions(estimator, module, rows, chosen)
        for part, error, function in zip(parts, errors, functions, strict=True):
            by_feature = integrate(function, rows, baseline, n_steps)
            by_column = rows.new_zeros(len(rows), n_columns)
            by_column.index_add_(1, column_of.to(rows.device), by_feature)
            part.append(by_column.double().cpu().numpy())
            error.append(completeness_error(function, rows, baseline, by_feature))
    experts, gate_weight = (np.concatenate(part) for part in parts)
    experts_error, gate_error = (np.concatenate(error) for error in errors)
    return Attributions(experts, gate_weight, route.cpu().numpy(), experts_error, gate_error)


def completeness_error(
    function: Any, rows: torch.Tensor, baseline: torch.Tensor, attributions: torch.Tensor
) -> Array:
    """Return how far each row's attributions are from summing to the change of the function."""
    with torch.no_grad():
        change = function(rows) - function(baseline.expand_as(rows))
    missing = change.double().flatten() - attributions.double().sum(dim=1)
    return np.asarray(missing.abs().cpu().numpy())


def integrate(
    function: Any, rows: torch.Tensor, baseline: torch.Tensor, n_steps: int
) -> torch.Tensor:
    """Return the mean gradient on the line from the baseline to each row, times that line."""
    points, shares = np.polynomial.legendre.leggauss(n_steps)
    line = rows - baseline
    total = torch.zeros_like(rows)
    for point, share in zip((points + 1) / 2, shares / 2, strict=True):
        at = (baseline + float(point) * line).requires_grad_()
        (gradient,) = torch.autograd.grad(function(at).sum(), at)
        total += float(share) * gradient
    return total * line


def scalar_functions(
    estimator: Any, module: Any, rows: torch.Tensor, route: torch.Tensor
) -> Iterator[Any]:
    """Yield two functions from features to one number per row: top expert's output, gate weight."""
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
    """Return what gate and experts read where there is nothing to see.

    Numbers are medians, categories unknown, texts empty, and images missing: of one colour.
    """
    encoder, weight = estimator.encoder_, module.head.weight
    numbers = [[column.center for column in encoder.numeric_columns]]
    n_codes = len(encoder.categorical_columns)
    codes = torch.zeros(1, n_codes, dtype=torch.int64, device=weight.device)
    numbers_tensor = torch.tensor(numbers, dtype=weight.dtype, device=weight.device)
    # Texts without words: one token that occurs never.
    n_texts = len(encoder.text_columns)
    nothing = torch.zeros(1, 1, dtype=torch.int64, device=weight.device)
    bags = [nothing, nothing.to(weight.dtype)] * n_texts
    blank = [column.image.read_cells([None]) for column in encoder.image_columns]
    pixels = [torch.as_tensor(each, device=weight.device) for each in blank]
    found: torch.Tensor = module.trunk(numbers_tensor, codes, *bags, *pixels)
    return found


def column_of_feature(estimator: Any, module: Any) -> torch.Tensor:
    """Return the input column that each feature behind the trunk comes from, (out_features,)."""
    of_feature = module.trunk.feature_columns
    order = columns_by_kind(estimator)
    return torch.tensor(order, device=of_feature.device)[of_feature]


def columns_by_kind(estimator: Any) -> list[int]:
    """Return the positions of the columns in the order in which the trunk reads them."""
    columns = list(enumerate(estimator.encoder_.columns_))
    return [i for kind in KINDS for i, column in columns if column.kind == kind]
