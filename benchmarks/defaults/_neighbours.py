"""Rows resampled among neighbours, in the place of a taught refit's mixed rows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skmode._estimators.rows.synthetic import find_neighbours


def rows_of_neighbours(self: Any, batch: Any) -> Any:
    """Append as many rows, each column's cell of a row that is drawn or of one near to it."""
    rows = self.rows
    if not hasattr(self, "near"):
        found = find_neighbours(*rows.inputs[:2], np.random.RandomState(0))
        self.near = torch.as_tensor(found)
    base = torch.randint(len(rows), (len(batch),), generator=self.mixing)
    near = self.near[base]

    def resample(part: Tensor) -> Tensor:
        drawn = torch.randint(near.shape[1], (len(near), part.shape[1]), generator=self.mixing)
        return part.gather(0, near.gather(1, drawn))

    inputs = tuple(map(resample, rows.inputs))
    weight = None if rows.sample_weight is None else rows.sample_weight[base]
    ones = torch.ones_like(batch.soft_weight)
    made = type(rows)(inputs, rows.target[base], weight, self._teach_own(inputs), ones)
    return batch.join(made)
