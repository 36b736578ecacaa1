"""A refit that a teacher takes part in: no dropout, batches of real rows and as many mixed ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skmode._training.callbacks import Watch
from skmode._training.finish.refit import WorseError
from skmode._training.process.ranks import ranks_of_fit
from skmode._training.rows import Rows, block_rows
from skmode.nn import Dropout

# The learning rate starts at this multiple of the peak: a teacher and mixed rows keep the experts
# from fitting noise, and at a lower rate they do not come close to the teacher.
TAUGHT_RATE = 2.0
# Of values that an estimator predicted: they tell less than probabilities do, and at the higher
# rate the experts of a table with little noise end worse than untaught (benchmarks/ablations.md).
VALUES_RATE = 1.0
# Maps inputs to log-probabilities or scaled values `(n_samples, n_outputs)`.
Teacher = Callable[[tuple[Tensor, ...]], Tensor]


# A taught refit has failed if the validation loss becomes larger by this share of it. The refit has
# trained on these rows, unless they are the user's own: a sound one makes it smaller. What an
# estimator predicts may weigh far more than the targets, so the loss on these may rise: only one
# that is larger by as much as this is a failure there, however small the loss.
WORSE = 0.1
# Losses below this are all nearly zero: that of a single class only rounds differently.
LEAST_LOSS = 1e-5


class TaughtWatch:
    """Raises if a taught refit, which starts at a high rate, has ruined the network."""

    def __init__(self, watch: Watch, before: float, rate: float, *, by_estimator: bool) -> None:
        self.watch = watch
        self.before = before
        self.rate = rate
        self.allowed = WORSE * max(1.0 if by_estimator else LEAST_LOSS, abs(before))

    def check(self, net: Any) -> None:
        """Measure the validation loss at the end of the refit."""
        loss, before = self.watch.check(net)["valid_loss"], self.before
        if loss > before + self.allowed:
            raise WorseError(
                "A refit with a teacher must not raise the validation loss by "
                f"{self.allowed:.3g} or more, but it was {before:.3g} before and {loss:.3g} after "
                f"it: lower learning_rate (now {net.lr:g}; this refit started at {self.rate:g}), "
                "or set teacher=None."
            )


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Switch off our dropout, under which experts predict with less confidence than a teacher."""
    dropouts = [each for each in module.modules() if isinstance(each, Dropout)]
    before = [each.p for each in dropouts]
    try:
        for each in dropouts:
            each.p = 0.0
        yield
    finally:
        for each, p in zip(dropouts, before, strict=True):
            each.p = p


class TaughtRows:
    """Rows with a teacher's predictions, and the batches made of them.

    Half of each batch are the rows themselves, whose loss weighs target and teacher by
    `distillation`. The other half are mixtures of pairs of rows, which have no target: there the
    teacher alone counts. They show the experts more of the teacher than the rows do (mixup,
    arXiv 1710.09412; rows made for a teacher, arXiv 2006.14284). `mixing` draws pairs and shares on
    the device of the rows.
    """

    def __init__(
        self, rows: Rows, teacher: Teacher, distillation: float, mixing: torch.Generator
    ) -> None:
        self.teacher = teacher
        self.mixing = mixing
        soft_target = self._teach_all(rows)
        soft_weight = soft_target.new_full((len(rows),), distillation)
        self.rows = Rows(*rows[:3], soft_target, soft_weight)

    def __len__(self) -> int:
        return len(self.rows)

    def batches(
        self, batch_size: int, *, shuffle: bool, generator: torch.Generator | None = None
    ) -> "TaughtBatches":
        """Iterate over real and mixed rows; `batch_size` counts the real ones."""
        return TaughtBatches(self, batch_size, shuffle, generator)

    def with_mixed_rows(self, batch: Rows) -> Rows:
        """Append as many mixed rows as the batch has."""
        inputs = mix(batch.inputs, self.mixing)
        assert batch.soft_weight is not None
        ones = torch.ones_like(batch.soft_weight)  # so the target counts for nothing
        soft_target = self._teach_own(inputs)
        mixed = Rows(inputs, batch.target, batch.sample_weight, soft_target, ones)
        return batch.join(mixed)

    def _teach_all(self, rows: Rows) -> Tensor:
        """Predict all rows, which several ranks share."""
        ranks = ranks_of_fit()
        shared = ranks is not None and len(rows) >= ranks.world
        if ranks is not None and shared:
            rows = rows.select(ranks.own_rows(len(rows)))
        size = block_rows(rows, rows.device)
        blocks = [self._teach(block.inputs) for block in rows.batches(size, shuffle=False)]
        soft_target = torch.cat(blocks)
        return ranks.join(soft_target) if ranks is not None and shared else soft_target

    def _teach_own(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Predict mixed rows; of several ranks each predicts those that its step will read."""
        ranks = ranks_of_fit()
        if ranks is None:
            return self._teach(inputs)
        n_rows = len(inputs[0])
        own = slice((ranks.rank - n_rows) % ranks.world, None, ranks.world)  # behind the real rows
        predicted = self._teach(tuple(part[own] for part in inputs))
        soft_target = predicted.new_full((n_rows, predicted.shape[1]), torch.nan)
        soft_target[own] = predicted
        return soft_target

    def _teach(self, inputs: tuple[Tensor, ...]) -> Tensor:
        with torch.no_grad():
            return self.teacher(inputs)


class TaughtBatches:
    """One pass over rows that a teacher has predicted."""

    def __init__(
        self,
        taught: TaughtRows,
        batch_size: int,
        shuffle: bool,
        generator: torch.Generator | None,
    ) -> None:
        self.taught = taught
        self.real = taught.rows.batches(batch_size, shuffle=shuffle, generator=generator)

    def __len__(self) -> int:
        return len(self.real)

    def __iter__(self) -> Iterator[Rows]:
        for batch in self.real:
            yield self.taught.with_mixed_rows(batch)


def mix(inputs: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Mix each row with another one of the batch, of which it gets less than half.

    Numbers are averaged, where both are present, and so are the pixels of images; codes are taken
    from one row or the other.
    """
    n_rows = len(inputs[0])
    drawing: Any = {"generator": generator, "device": inputs[0].device}
    other = torch.randperm(n_rows, **drawing)
    share = 0.5 + 0.5 * torch.rand(n_rows, **drawing)

    def mix_part(part: Tensor) -> Tensor:
        own = share.view(-1, *[1] * (part.ndim - 1))
        if part.dtype == torch.uint8:
            return torch.lerp(part[other].float(), part.float(), own).round_().to(torch.uint8)
        if not part.is_floating_point():
            drawn = torch.rand(part.shape, **drawing)
            return torch.where(drawn < own, part, part[other])
        mixed = torch.lerp(part[other], part, own.to(part.dtype))
        return torch.where(mixed.isnan(), part, mixed)

    return tuple(map(mix_part, inputs))
