"""The trunk that reads the encoded columns of a table."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from skmode import nn
from skmode._encoding.tables import TableEncoder, weighted_quantiles
from skmode._estimators.tables.bags import TOKEN_DROPOUT, make_text_trunk
from skmode._estimators.tables.pixels import Augment, make_cell_trunk
from skmode._training.rows import Rows, SparseNumbers

# Width of a token's vector beside the columns of a table. There the vectors stay as they start:
# with the low weight decay that suits tables, they would fit the texts of training too closely.
TEXT_WIDTH = 32
NumericEmbedding = Literal["periodic_bias", "periodic", "piecewise_linear"]


def make_trunk(
    train: Rows,
    *,
    encoder: TableEncoder,
    numeric_embedding: NumericEmbedding | None,
    frequency_scale: float,
    one_batch: bool,
    augment: Augment | None,
) -> nn.TabularTrunk | nn.MixedTrunk:
    """Build the trunk; `one_batch` tells whether each step sees all rows."""
    first_image = 2 + 2 * len(encoder.text_columns)
    texts = [
        make_text_trunk(
            Rows(pair, train.target, train.sample_weight),
            continues_word=column.text.continues_word(),
            width=TEXT_WIDTH,
            dropout=0.0 if one_batch else TOKEN_DROPOUT,
            tuned=False,
        )
        for column, pair in zip(
            encoder.text_columns, _pairs(train.inputs[2:first_image]), strict=True
        )
    ]
    images = [
        make_cell_trunk(
            Rows((pixels,), train.target, train.sample_weight),
            encoder=column.image,
            augment=augment,
        )
        for column, pixels in zip(encoder.image_columns, train.inputs[first_image:], strict=True)
    ]
    if len(texts) + len(images) == len(encoder.columns_):
        return nn.MixedTrunk(None, texts, images)
    table = _make_table_trunk(train, encoder, numeric_embedding, frequency_scale)
    return nn.MixedTrunk(table, texts, images) if texts or images else table


def _pairs(parts: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """Tokens and counts of each column of texts."""
    yield from zip(parts[::2], parts[1::2], strict=True)


def _make_table_trunk(
    train: Rows,
    encoder: TableEncoder,
    numeric_embedding: NumericEmbedding | None,
    frequency_scale: float,
) -> nn.TabularTrunk:
    """Build the trunk of numbers and codes: scales come from the encoder, bins from the rows."""
    numeric = encoder.numeric_columns
    scaler, bins = None, None
    if numeric:
        scaler = nn.RobustScaler(
            torch.tensor([column.center for column in numeric]),
            torch.tensor([column.scale for column in numeric]),
            torch.tensor([i for i, column in enumerate(numeric) if column.has_missing]).long(),
        )
        if numeric_embedding == "piecewise_linear":
            bins = _bin_edges(_scaled_columns(scaler, train.inputs[0]), train.sample_weight)
    return nn.TabularTrunk(
        scaler,
        numeric_embedding=numeric_embedding,
        bins=bins,
        frequency_scale=frequency_scale,
        n_categories=[column.n_codes for column in encoder.categorical_columns],
    )


def _scaled_columns(scaler: nn.RobustScaler, numbers: Tensor | SparseNumbers) -> Iterator[Tensor]:
    """Scale the columns; sparse ones are made dense one at a time."""
    if isinstance(numbers, Tensor):
        yield from scaler(numbers)[0].T
        return
    by_column = numbers.matrix.tocsc()
    for i in range(numbers.shape[1]):
        column = torch.as_tensor(by_column[:, [i]].toarray())
        one = nn.RobustScaler(scaler.center[[i]], scaler.scale[[i]], scaler.missing_columns[:0])
        yield one(column)[0][:, 0]


def _bin_edges(scaled: Iterable[Tensor], sample_weight: Tensor | None) -> list[Tensor]:
    """Quantiles of each scaled column; a constant column gets one bin around its value."""
    bins = []
    for column in scaled:
        weight = np.ones(len(column)) if sample_weight is None else sample_weight.numpy()
        if column.min() == column.max():
            bins.append(torch.stack([column[0] - 1, column[0] + 1]))
            continue
        # 48 bins, the default of rtdl_num_embeddings.compute_bins.
        edges = weighted_quantiles(column.numpy(), weight, np.linspace(0, 1, 49))
        bins.append(torch.as_tensor(np.unique(edges)))
    return bins
