"""The trunk that reads the encoded columns of a table."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from skmode import nn
from skmode._encoding.tables import TableEncoder, weighted_quantiles
from skmode._training.rows import Rows

NumericEmbedding = Literal["periodic_bias", "periodic", "piecewise_linear"]


def make_trunk(
    train: Rows,
    *,
    encoder: TableEncoder,
    numeric_embedding: NumericEmbedding | None,
    frequency_scale: float,
) -> nn.TabularTrunk:
    """Build the trunk: scales come from the encoder, bins of numbers from the training rows."""
    numeric = encoder.numeric_columns
    scaler, bins = None, None
    if numeric:
        scaler = nn.RobustScaler(
            torch.tensor([column.center for column in numeric]),
            torch.tensor([column.scale for column in numeric]),
            torch.tensor([i for i, column in enumerate(numeric) if column.has_missing]).long(),
        )
        if numeric_embedding == "piecewise_linear":
            bins = _bin_edges(scaler(train.inputs[0])[0], train.sample_weight)
    return nn.TabularTrunk(
        scaler,
        numeric_embedding=numeric_embedding,
        bins=bins,
        frequency_scale=frequency_scale,
        n_categories=[column.n_codes for column in encoder.categorical_columns],
    )


def _bin_edges(scaled: Tensor, sample_weight: Tensor | None) -> list[Tensor]:
    """Quantiles of each scaled column; a constant column gets one bin around its value."""
    weight = np.ones(len(scaled)) if sample_weight is None else sample_weight.numpy()
    bins = []
    for column in scaled.T:
        if column.min() == column.max():
            bins.append(torch.stack([column[0] - 1, column[0] + 1]))
            continue
        # 48 bins, the default of rtdl_num_embeddings.compute_bins.
        edges = weighted_quantiles(column.numpy(), weight, np.linspace(0, 1, 49))
        bins.append(torch.as_tensor(np.unique(edges)))
    return bins
