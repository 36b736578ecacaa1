"""The rows of each network of an ensemble, and the callback that watches the networks."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skmode._training.callbacks import Stopping
from skmode._training.finish.ensemble import Ensemble
from skmode._training.process.ranks import common
from skmode._training.process.steps import agree_on_weights
from skmode._training.rows import Rows, block_rows, n_batches


class MemberRows(NamedTuple):
    """Positions `(n_networks, n_samples)` of the rows of each network."""

    rows: Rows
    positions: Tensor

    def batches(
        self, batch_size: int, *, shuffle: bool, generator: torch.Generator | None = None
    ) -> "MemberBatches":
        """Iterate over the rows of all networks at once; `batch_size` counts those of one."""
        return MemberBatches(self, batch_size, shuffle, generator)

    def gather(self, positions: Tensor) -> Rows:
        """Take rows at positions `(n_networks, n_samples)`, as tensors of that shape."""
        flat = self.rows.select(positions.flatten().to(self.rows.device))
        return flat.batch(0, len(flat)).map(
            lambda part: part.view(*positions.shape, *part.shape[1:])
        )

    def targets(self) -> tuple[Tensor, Tensor]:
        """Take targets and weights at all positions; the weights are ones if there are none."""
        positions = self.positions.to(self.rows.device)
        weight = self.rows.sample_weight
        if weight is None:
            weight = torch.ones(len(self.rows), device=self.rows.device)
        return self.rows.target[positions], weight[positions]


class MemberBatches:
    """One pass of each network over its rows, each in an order of its own."""

    def __init__(
        self,
        members: MemberRows,
        batch_size: int,
        shuffle: bool,
        generator: torch.Generator | None,
    ) -> None:
        self.members = members
        self.batch_size = batch_size
        self.shuffle = shuffle and members.positions.shape[1] > batch_size
        self.generator = generator

    def __len__(self) -> int:
        return n_batches(self.members.positions.shape[1], self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        positions = self.members.positions
        if self.shuffle:
            positions = shuffle_each(positions, self.generator)
        positions = positions.to(self.members.rows.device)  # at once, not batch by batch
        starts = [i * self.batch_size for i in range(len(self))]
        for start, end in zip(starts, [*starts[1:], positions.shape[1]], strict=True):
            yield self.members.gather(positions[:, start:end])


def shuffle_each(positions: Tensor, generator: torch.Generator | None) -> Tensor:
    """Put the rows of each network into an order of its own."""
    return torch.stack([each[torch.randperm(len(each), generator=generator)] for each in positions])


class MemberWatch(Stopping):
    """Keep the best weights of each network by its validation rows, and stop when none improves.

    The training also ends while the refit's share of the epochs is still left.
    """

    def __init__(
        self, held_out: MemberRows, patience: int, epochs: int, refit_fraction: float
    ) -> None:
        self.held_out = held_out
        self.patience = patience
        self.max_epochs = epochs
        self.refit_fraction = refit_fraction

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        n_networks = len(self.held_out.positions)
        self.epochs = 0
        self.best_epoch = torch.zeros(n_networks)
        self.best_rate = torch.full((n_networks,), float(net.lr))
        self.best = torch.full((n_networks,), torch.inf, dtype=torch.float64)
        self.state: dict[str, Tensor] = {}

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        ensemble: Ensemble = net.module_
        self.epochs += 1
        losses = self.check(net)
        if not self.state:
            self.state = {name: each.clone() for name, each in ensemble.state_dict().items()}
        improved = losses < self.best
        ensemble.copy_networks(self.state, lambda i: bool(improved[i]))
        self.best = torch.where(improved, losses, self.best)
        self.best_epoch[improved] = self.epochs
        self.best_rate[improved] = net.optimizer_.param_groups[0]["lr"]
        ensemble.train()
        net.history.record("valid_loss", self.best.mean().item())
        net.complete_epoch()
        needed = math.ceil(self.refit_fraction * self.mean_best_epoch)
        unchanged = (self.epochs - self.best_epoch).min()
        if unchanged >= self.patience or self.epochs + needed >= self.max_epochs:
            self.stop()

    def check(self, net: Any) -> Tensor:
        """Measure each network's loss, and raise if one is not finite."""
        ensemble: Ensemble = net.module_
        agree_on_weights(ensemble)
        losses = member_losses(ensemble, evaluate_members(ensemble, self.held_out), self.held_out)
        losses = common(losses)
        if not losses.isfinite().all():
            raise net.not_finite("validation loss of a teacher", losses.max().item())
        return losses

    @property
    def mean_best_epoch(self) -> float:
        """The epoch of the best weights, on average."""
        return float(self.best_epoch.mean())

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        if self.state:
            net.module_.load_state_dict(self.state)
            self.state = {}


def evaluate_members(ensemble: Ensemble, members: MemberRows) -> Tensor:
    """Each network's predictions for its rows; leaves the ensemble in evaluation mode."""
    ensemble.eval()
    size = block_rows(members.rows, members.rows.device)
    with torch.inference_mode():
        blocks = [
            ensemble(*batch.inputs).prediction for batch in members.batches(size, shuffle=False)
        ]
    return torch.cat(blocks, dim=1)


def member_losses(ensemble: Ensemble, prediction: Tensor, members: MemberRows) -> Tensor:
    """Each network's mean loss on its rows, in double precision on the CPU."""
    target, weight = members.targets()
    rows = ensemble.row_losses(prediction, target, weight)
    return (rows.sum(dim=1) / weight.sum(dim=1)).detach().cpu().double()
