"""Encoded rows in memory, and the batches made of them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Rows per block in evaluation: few enough for a CPU's cache, enough to keep a GPU busy.
BLOCK_ROWS = {"cpu": 1024, "cuda": 65536}


class Rows(NamedTuple):
    """Encoded rows, whatever they were before: table, image or text.

    Attributes
    ----------
    inputs : tuple of torch.Tensor of shape (n_samples, ...)
        The trunk's arguments. For a table: numbers `(n_samples, n_numeric)`, in which NaN
        is missing, and codes of the categories, int64 `(n_samples, n_categorical)`.
    target : torch.Tensor
        Classes `(n_samples,)` or scaled values `(n_samples, n_outputs)`.
    sample_weight : torch.Tensor of shape (n_samples,), or None
        Weights with a mean of one over the training rows. None means all are equal.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor
    sample_weight: Tensor | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.inputs[0].device

    def select(self, index: Any) -> "Rows":
        """Take rows by position."""
        weight = self.sample_weight
        return Rows(
            tuple(part[index] for part in self.inputs),
            self.target[index],
            None if weight is None else weight[index],
        )

    def to(self, device: str, dtype: torch.dtype) -> "Rows":
        """Move to a device, with floating-point tensors in one dtype."""
        weight = self.sample_weight
        return Rows(
            tuple(_move(part, device, dtype) for part in self.inputs),
            _move(self.target, device, dtype),
            None if weight is None else _move(weight, device, dtype),
        )


class Batches:
    """Iterate over rows in memory, shuffled again in each epoch.

    The rows are gathered once per epoch and then sliced: a DataLoader that collates row by row
    takes longer than the training step itself. A single leftover row joins the last batch, because
    batch normalisation needs two rows.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        shuffle: bool,
        generator: torch.Generator | None = None,
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle and len(rows) > batch_size
        self.generator = generator

    def __len__(self) -> int:
        return n_batches(len(self.rows), self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        rows = self.rows
        if self.shuffle:
            order = torch.randperm(len(rows), generator=self.generator)
            rows = rows.select(order.to(rows.device))
        starts = [i * self.batch_size for i in range(len(self))]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            yield rows.select(slice(start, end))


def n_batches(n_rows: int, batch_size: int) -> int:
    """Number of batches; a single leftover row makes none, unless it is the only row."""
    full, left = divmod(n_rows, batch_size)
    return full + (left > 1 or (left == 1 and full == 0))


def _move(part: Tensor, device: str, dtype: torch.dtype) -> Tensor:
    return part.to(device, dtype) if part.is_floating_point() else part.to(device)
