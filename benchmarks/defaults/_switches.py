"""Changes of what is no parameter, for as long as one candidate is measured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from skmode import MoDEClassifier, MoDERegressor
from skmode._estimators import base
from skmode._estimators.parameters import LARGE_BATCH_ROWS
from skmode._training.finish import members, taught, teachers
from skmode._training.finish.calibration import minimize_temperature
from skmode.nn import trunks


class SharedEmbedding(teachers.Ensemble):
    """Networks that read one embedding, which all of them train."""

    def __init__(self, trunks: list[Any], *args: Any) -> None:
        super().__init__(trunks[:1] * len(trunks), *args)


class SharedWatch(members.MemberWatch):
    """Keeps the weights of one epoch for all networks: they share some of them."""

    def check(self, net: Any) -> Tensor:
        """Measure the mean of the networks' losses, once for each."""
        losses = super().check(net)
        return losses.mean().expand(len(losses)).clone()


def same_rows(split: Callable[..., Any]) -> Callable[..., Any]:
    """Let the networks hold out the rows that the mixture holds out."""

    def changed(*args: Any, own: bool) -> Any:
        return split(*args, own=False)

    return changed


def larger_batch(resolve: Callable[..., int], factor: int) -> Callable[..., int]:
    """Multiply the batch size, up to that of large tables."""

    def changed(batch_size: Any, n_rows: int) -> int:
        return min(factor * resolve(batch_size, n_rows), LARGE_BATCH_ROWS)

    return changed


def same_order(positions: Tensor, generator: torch.Generator | None) -> Tensor:
    """Put the rows of all networks into one order."""
    return positions[:, torch.randperm(positions.shape[1], generator=generator)]


def same_temperature(ensemble: Any, prediction: Tensor, held_out: Any) -> Tensor:
    """Calibrate all networks by one temperature."""
    losses = [
        functools.partial(teachers._loss_at, ensemble, *each)
        for each in zip(prediction, *held_out.targets(), strict=True)
    ]
    found = minimize_temperature(lambda t: sum(loss(t) for loss in losses))
    return torch.full((len(losses),), found)


def real_rows(self: Any, batch: Any) -> Any:
    """Leave out the mixed rows of a taught refit."""
    return batch


# What each switch replaces when it is off.
REPLACED: dict[str, list[tuple[Any, str, Any]]] = {
    "_mixed_rows": [(taught.TaughtRows, "with_mixed_rows", real_rows)],
    "_own_rows": [(base, "split_for_members", same_rows(base.split_for_members))],
    "_refit_teachers": [(teachers, "_refit", lambda *args: False)],
    "_own_order": [(members, "shuffle_each", same_order)],
    "_own_embedding": [
        (teachers, "Ensemble", SharedEmbedding),
        (teachers, "MemberWatch", SharedWatch),
    ],
    "_own_temperature": [(teachers, "_temperatures", same_temperature)],
}


@contextmanager
def switched(options: dict[str, Any]) -> Iterator[None]:
    """Apply the options that are no parameters."""
    with ExitStack() as stack:
        if "_scale_rate" in options:
            stack.enter_context(patch.object(trunks, "SCALE_RATE", options["_scale_rate"]))
        if "_frequency_scale" in options:
            for estimator in (MoDEClassifier, MoDERegressor):
                scale = estimator._frequency_scale * options["_frequency_scale"]
                stack.enter_context(patch.object(estimator, "_frequency_scale", scale))
        if "_batch_factor" in options:
            resolve = larger_batch(base.resolve_batch_size, options["_batch_factor"])
            stack.enter_context(patch.object(base, "resolve_batch_size", resolve))
        for name, replaced in REPLACED.items():
            for each in [] if options.get(name, True) else replaced:
                stack.enter_context(patch.object(*each))
        yield
