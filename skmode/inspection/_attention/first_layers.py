"""The network on rows with one column shuffled, without computing the other columns again.

Gate and experts start with linear layers, so a column adds its own share to their sums. Shuffling
it replaces that share, which takes the same time however many columns there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmode import nn
from skmode.inspection._evaluation import forward

Array = NDArray[Any]


def starts_linearly(module: Any) -> bool:
    """Whether gate and experts of a network are the built-in ones, behind the trunk of a table."""
    return (
        type(module.trunk) is nn.TabularTrunk
        and type(module.experts) is nn.MLPExperts
        and type(module.gate) in (nn.DenseGate, nn.SparseGate)
    )


class FirstLayers:
    """Sums of the first layers on some rows, and what follows when one column is shuffled.

    Each row meets only the expert of its domain, so a shuffle for experts must stay in domains.
    """

    def __init__(
        self, mixture: Any, module: Any, X: Any, domain: Array, column_of_feature: Tensor
    ) -> None:
        self._mixture, self._module = mixture, module
        self._column_of_feature = column_of_feature
        read: list[Tensor] = []
        with forward.hooked(module.trunk, read.append):
            mixture.gate_proba(X)
        self._features = torch.cat(read)
        own = self._index(domain)
        self._members = [(own == k).nonzero().squeeze(1) for k in range(module.gate.n_experts)]
        everything = torch.ones_like(column_of_feature, dtype=torch.bool)
        with torch.inference_mode():
            self._own, self._gate = self._shares(everything)
            self._own = self._own + module.experts.layers[0].bias[own, 0]
            self._gate = self._gate + module.gate.layers[0].bias

    def select(self, column: int) -> None:
        """Choose the column to shuffle."""
        with torch.inference_mode():
            self._column = self._shares(self._column_of_feature == column)

    def own_predictions(self, order: Array) -> Array:
        """Return the prediction of each row's own expert: positions of classes, or values."""
        share = self._column[0]
        with torch.inference_mode():
            sums = self._own + (share[self._index(order)] - share)
            parts = [self._predict(sums[rows], k) for k, rows in enumerate(self._members)]
            together = torch.cat(parts)[torch.cat(self._members).argsort()]
        if hasattr(self._mixture, "classes_"):
            return np.asarray(together.argmax(dim=1).cpu().numpy())
        scale, mean = self._mixture.target_scale_, self._mixture.target_mean_
        return np.asarray(together.double().cpu().numpy() * scale + mean)

    def routes(self, order: Array) -> Array:
        """Return the expert that the gate chooses for each row."""
        share = self._column[1]
        with torch.inference_mode():
            sums = self._gate + (share[self._index(order)] - share)
            return np.asarray(self._module.gate.layers[1:](sums).argmax(dim=1).cpu().numpy())

    def _shares(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return what some features add to the sums of the rows' own experts and of the gate."""
        chosen = features.nonzero().squeeze(1)
        values = self._features[:, chosen]
        first = self._module.experts.layers[0].weight[:, chosen]
        own = values.new_empty(len(values), first.shape[2])
        for k, rows in enumerate(self._members):
            own[rows] = values[rows] @ first[k]
        return own, values @ self._module.gate.layers[0].weight[:, chosen].T

    def _predict(self, sums: Tensor, expert: int) -> Tensor:
        """Run what follows an expert's first layer."""
        experts = self._module.experts
        hidden = experts.activation(sums)
        for layer in experts.layers[1:]:
            hidden = experts.activation(
                torch.addmm(layer.bias[expert], hidden, layer.weight[expert])
            )
        output: Tensor = self._module.task_loss.finalize(self._module.head(hidden))
        return output

    def _index(self, order: Array) -> Tensor:
        return torch.as_tensor(order, device=self._features.device)
