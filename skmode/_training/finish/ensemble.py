"""Several networks of an expert's size, trained side by side, that teach the experts."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skmode.nn import (
    ConvExperts,
    CrossEntropy,
    MixtureLosses,
    MLPExperts,
    ModuleExperts,
    RegressionLoss,
)
from skmode.nn.experts import StackedLinear


class EnsembleOutput(NamedTuple):
    """Predictions `(n_networks, n_samples, n_outputs)`, and the losses if there is a target."""

    prediction: Tensor
    losses: MixtureLosses | None


class Ensemble(nn.Module):
    """Networks that share no weights; each has rows of its own.

    The hidden layers of all networks are computed by one batched product, as those of the experts
    are, so that they cost far less time than one network after the other.

    Notes
    -----
    Shape:

    - Input: the inputs of the trunk, each `(n_networks, n_samples, ...)`
    - Output: :class:`EnsembleOutput`
    """

    # The axis of the rows in inputs and targets.
    rows_axis = 1

    def __init__(
        self,
        trunks: list[nn.Module],
        hidden: MLPExperts | ConvExperts | ModuleExperts,
        width: int,
        n_outputs: int,
        task_loss: CrossEntropy | RegressionLoss,
    ) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunks)
        self.hidden = hidden
        self.head = StackedLinear(len(trunks), width, n_outputs)
        self.task_loss = task_loss

    @property
    def n_networks(self) -> int:
        """Number of networks."""
        return len(self.trunks)

    def forward(
        self, *inputs: Tensor, target: Tensor | None = None, sample_weight: Tensor | None = None
    ) -> EnsembleOutput:
        """Predict, and compute the sum of the networks' losses if a target is given."""
        features = torch.stack(
            [trunk(*(part[i] for part in inputs)) for i, trunk in enumerate(self.trunks)]
        )
        prediction = self.task_loss.finalize(self.head(self._hidden(features)))
        losses = None
        if target is not None:
            rows = self.row_losses(prediction, target, sample_weight)
            # A sum, so that each network's gradient is that of its own mean.
            total = rows.mean(dim=1).sum()
            zero = total.new_zeros(())
            losses = MixtureLosses(total, total, zero, zero)
        return EnsembleOutput(prediction, losses)

    def row_losses(
        self, prediction: Tensor, target: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Weighted loss of each row of each network, `(n_networks, n_samples)`."""
        rows: Tensor = self.task_loss(prediction, target)
        return rows if sample_weight is None else rows * sample_weight

    def teach(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Average the predictions for the same rows."""
        each = self(*(part.expand(self.n_networks, *part.shape) for part in inputs)).prediction
        return self.average(each)

    def average(self, each: Tensor) -> Tensor:
        """Average the networks' predictions: of probabilities, their logarithm."""
        mean: Tensor
        if isinstance(self.task_loss, CrossEntropy):
            count = each.new_full((), self.n_networks)  # filled where it is: no copy to a GPU
            mean = each.logsumexp(dim=0) - count.log()
            return mean
        mean = each.mean(dim=0)
        return mean

    def divide_logits(self, temperatures: Tensor) -> None:
        """Divide the logits of each network by its temperature, for good."""
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.div_(temperatures.to(parameter).view(-1, 1, 1))

    def copy_networks(self, state: dict[str, Tensor], chosen: Callable[[int], bool]) -> None:
        """Copy the weights of some networks into a state dict of this module."""
        for name, value in self.state_dict().items():
            parts = name.split(".")
            if parts[0] == "task_loss":  # one scale for all, which no network's prediction uses
                continue
            separate = parts[0] == "trunks" or parts[:2] == ["hidden", "separate"]
            for i in filter(chosen, range(self.n_networks)):
                if not separate:
                    state[name][i].copy_(value[i])
                elif parts[1 if parts[0] == "trunks" else 2] == str(i):
                    state[name].copy_(value)

    def _hidden(self, features: Tensor) -> Tensor:
        if isinstance(self.hidden, MLPExperts):
            return self.hidden.forward_each(features)
        each = [self.hidden.forward_one(features[i], i) for i in range(self.n_networks)]
        return torch.stack(each)
