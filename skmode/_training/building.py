"""From an estimator's parameters and columns to a network."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skmode import nn
from skmode._encoding.tables import weighted_quantiles
from skmode._training.net import Rows


def build_module(
    estimator: Any,
    n_outputs: int,
    task_loss: nn.CrossEntropy | nn.RegressionLoss,
    train: Rows,
    dropout: float,
) -> nn.MixtureOfExperts:
    """The network that an estimator's parameters describe, for the columns that it encodes."""
    trunk = _build_trunk(estimator, train)
    width = trunk.out_features
    gate_options = {
        "hidden_layer_sizes": tuple(np.atleast_1d(estimator.gate_hidden_layer_sizes).astype(int)),
        "activation": estimator.activation,
        "temperature": estimator.gate_temperature,
    }
    gate = (
        nn.SparseGate(width, estimator.n_experts, estimator.top_k, **gate_options)
        if estimator.gate == "sparse"
        else nn.DenseGate(width, estimator.n_experts, **gate_options)
    )
    experts, representation_width = _build_experts(estimator, width, dropout)
    return nn.MixtureOfExperts(
        trunk,
        gate,
        experts,
        torch.nn.Linear(representation_width, n_outputs),
        task_loss,
        mixing=estimator.mixing,
    )


def _build_trunk(estimator: Any, train: Rows) -> nn.TabularTrunk:
    numeric = estimator.encoder_.numeric_columns
    scaler, bins = None, None
    if numeric:
        scaler = nn.RobustScaler(
            torch.tensor([column.center for column in numeric]),
            torch.tensor([column.scale for column in numeric]),
            torch.tensor([i for i, column in enumerate(numeric) if column.has_missing]).long(),
        )
        if estimator.numeric_embedding == "piecewise_linear":
            bins = _bin_edges(scaler(train.numbers)[0], train.sample_weight)
    return nn.TabularTrunk(
        scaler,
        numeric_embedding=estimator.numeric_embedding,
        bins=bins,
        frequency_scale=estimator._frequency_scale,
        n_categories=[column.n_codes for column in estimator.encoder_.categorical_columns],
    )


def _build_experts(
    estimator: Any, in_features: int, dropout: float
) -> tuple[nn.MLPExperts | nn.ModuleExperts, int]:
    """The experts and the width of what they return."""
    if estimator.expert_module is None:
        sizes = [int(size) for size in np.atleast_1d(estimator.hidden_layer_sizes)]
        experts = nn.MLPExperts(
            in_features, estimator.n_experts, sizes, estimator.activation, dropout
        )
        return experts, sizes[-1]
    modules: list[torch.nn.Module] = []
    widths = []
    for _ in range(estimator.n_experts):
        module = _make_expert(estimator.expert_module, in_features)
        if any(module is other for other in modules):
            raise ValueError(
                "expert_module must return a new module in each call, got the same "
                f"{type(module).__name__} twice: create it within the call."
            )
        modules.append(module)
        widths.append(_expert_width(module, in_features))
    if len(set(widths)) > 1:
        raise ValueError(
            f"The experts of expert_module must all return the same width, got {widths}: "
            "end each with a layer of one width."
        )
    return nn.ModuleExperts(modules), widths[0]


def _make_expert(expert_module: Any, in_features: int) -> torch.nn.Module:
    if isinstance(expert_module, torch.nn.Module):
        raise TypeError(
            "expert_module must be a class or function that makes an expert for each call, got "
            f"an instance of {type(expert_module).__name__}: pass the class, or a function that "
            "returns a new instance."
        )
    try:
        module = expert_module(in_features)
    except TypeError as error:
        raise TypeError(
            f"expert_module must take one argument, in_features (here {in_features}), and its "
            f"call failed with {error}: bind other arguments with functools.partial."
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"expert_module must return a torch.nn.Module, got {type(module).__name__}: "
            "return an instance of a module."
        )
    return module.to("cpu", torch.float32)


def _expert_width(module: torch.nn.Module, in_features: int) -> int:
    """Width of what an expert returns, found by a forward pass of two rows."""
    name = type(module).__name__
    # Not zeros, on which a module may be undefined that divides by the length of a row.
    rows = torch.linspace(-1, 1, 2 * in_features).reshape(2, in_features)
    module.eval()
    try:
        # Lazy modules draw their weights here: torch's random numbers move on, expert by expert.
        with torch.no_grad():
            output = module(rows)
    except Exception as error:
        raise ValueError(
            f"The experts of expert_module must map (n_samples, {in_features}) to (n_samples, "
            f"width), and {name} failed on shape (2, {in_features}) with {error}: "
            "build it for in_features inputs."
        ) from error
    module.train()
    if not isinstance(output, Tensor):
        raise TypeError(
            f"The experts of expert_module must return a tensor, got {type(output).__name__} from "
            f"{name}: return the representation of the rows alone."
        )
    if output.ndim != 2 or output.shape[0] != 2 or output.shape[1] == 0:
        raise ValueError(
            f"The experts of expert_module must map (n_samples, {in_features}) to (n_samples, "
            f"width), got {tuple(output.shape)} from {name} for shape (2, {in_features}): "
            "return one row of numbers for each row."
        )
    if not output.is_floating_point() or not output.isfinite().all():
        got = "values that are not finite" if output.is_floating_point() else output.dtype
        raise ValueError(
            f"The experts of expert_module must return finite floating-point numbers, got {got} "
            f"from {name} for inputs within -1 and 1: correct its forward or its initial weights."
        )
    return output.shape[1]


def _bin_edges(scaled: Tensor, sample_weight: Tensor | None) -> list[Tensor]:
    """Quantiles of each scaled column; a constant column gets one bin around its value."""
    weight = np.ones(len(scaled)) if sample_weight is None else sample_weight.numpy()
    bins = []
    for column in scaled.T:
        if column.min() == column.max():
            bins.append(torch.stack([column[0] - 1, column[0] + 1]))
            continue
        edges = weighted_quantiles(column.numpy(), weight, np.linspace(0, 1, 49))
        bins.append(torch.as_tensor(np.unique(edges)))
    return bins
