"""From an estimator's parameters and columns to a network."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skmode import nn
from skmode._encoding import weighted_quantiles
from skmode._training import Rows


def build_module(
    estimator: Any, n_outputs: int, task_loss: nn.CrossEntropy | nn.RegressionLoss, train: Rows
) -> nn.MixtureOfExperts:
    """The network that an estimator's parameters describe, for the columns that it encodes.

    Parameters
    ----------
    estimator : MoDEClassifier or MoDERegressor
        Has the parameters, and `encoder_`.
    n_outputs : int
        Width of the output layer.
    task_loss : CrossEntropy or RegressionLoss
        What to minimise.
    train : Rows
        Training rows, from which the piecewise linear embedding takes its bins.

    Returns
    -------
    MixtureOfExperts
        New weights, in single precision.
    """
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
    sizes = [int(size) for size in np.atleast_1d(estimator.hidden_layer_sizes)]
    return nn.MixtureOfExperts(
        trunk,
        gate,
        nn.MLPExperts(width, estimator.n_experts, sizes, estimator.activation, estimator.dropout),
        torch.nn.Linear(sizes[-1], n_outputs),
        task_loss,
        mixing=estimator.mixing,
        alpha=estimator.alpha,
        distillation=estimator.distillation,
        balance=estimator.balance,
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
        n_categories=[column.n_codes for column in estimator.encoder_.categorical_columns],
    )


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
