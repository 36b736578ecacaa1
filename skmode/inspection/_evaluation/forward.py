"""One pass over rows: the gate's weights, each expert alone, and the whole mixture.

Only public attributes and methods of the estimator are used. Any estimator will do that has
`gate_proba`, `expert_predict` and `predict`; if it also keeps a network in ``net_.module_``, one
forward pass of that network gives all three.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import is_classifier

from skmode._common.batches import is_dataset
from skmode.inspection._evaluation.mixtures import find_network
from skmode.inspection._evaluation.targets import positions_of

Array = NDArray[Any]


class Outputs(NamedTuple):
    """Gate, experts and mixture on some rows; classes are positions among the sorted labels."""

    gate: Array  # weight of each expert, float64 (n_samples, n_experts)
    route: Array  # expert with the largest weight, int64 (n_samples,)
    experts: (
        Array  # each alone: positions of classes (n_samples, n_experts), or values (..., n_out)
    )
    mixture: Array  # classes (n_samples,), or values (n_samples, n_out)
    expert_log_proba: Array | None = None  # (n_samples, n_experts, n_classes), if asked for
    mixture_log_proba: Array | None = None  # (n_samples, n_classes), if asked for

    @property
    def top_expert(self) -> Array:
        """What each row's top expert predicts alone; one axis less than `experts`."""
        return np.asarray(self.experts[np.arange(len(self.route)), self.route])


def evaluate(mixture: Any, X: Any, *, log_proba: bool = False) -> Outputs:
    """Evaluate gate, experts and mixture on rows."""
    module = find_network(mixture)
    if module is None:
        return _by_methods(mixture, X, log_proba)
    return _one_pass(mixture, module, X, log_proba)


def make_outputs(gate: Any, experts: Any, mixture: Any, *, classes: Array | None = None) -> Outputs:
    """Bring predictions into the form that all instruments read; `classes` for labels."""
    gate = np.asarray(gate, dtype=np.float64)
    experts, mixture = np.asarray(experts), np.asarray(mixture)
    if experts.shape[:2] != gate.shape:
        raise ValueError(
            "There must be one prediction per row and expert, got predictions of shape "
            f"{experts.shape} and gate weights of shape {gate.shape}: pass both for the same rows."
        )
    route = gate.argmax(axis=1)
    if classes is not None:
        of_experts = positions_of(experts.ravel(), classes, "experts").reshape(experts.shape)
        return Outputs(gate, route, of_experts, positions_of(mixture, classes, "mixture"))
    return Outputs(
        gate,
        route,
        experts.reshape(*gate.shape, -1).astype(np.float64),
        mixture.reshape(len(gate), -1).astype(np.float64),
    )


def _by_methods(mixture: Any, X: Any, log_proba: bool) -> Outputs:
    outputs = make_outputs(
        mixture.gate_proba(X),
        mixture.expert_predict(X),
        mixture.predict(X),
        classes=mixture.classes_ if is_classifier(mixture) else None,
    )
    if not (log_proba and is_classifier(mixture)):
        return outputs
    with np.errstate(divide="ignore"):
        return outputs._replace(
            expert_log_proba=np.log(mixture.expert_predict_proba(X)),
            mixture_log_proba=np.log(mixture.predict_proba(X)),
        )


def _one_pass(mixture: Any, module: Any, X: Any, log_proba: bool) -> Outputs:
    classifies = is_classifier(mixture)
    n_samples = None if is_dataset(X) else X.shape[0] if hasattr(X, "shape") else len(X)
    gates, kept = _Blocks(n_samples), _Blocks(n_samples)

    def keep(output: Any) -> None:
        parts = output.expert_outputs, output.prediction
        if not classifies or log_proba:
            kept.add(*(part.double().cpu().numpy() for part in parts))
        else:
            # Log-probabilities of many rows, experts and classes would fill the memory.
            kept.add(*(part.argmax(dim=-1).cpu().numpy() for part in parts))

    with (
        _all_experts(module),
        hooked(module, keep),
        hooked(module.gate, lambda output: gates.add(output.log_probabilities.double().cpu())),
    ):
        _run_whole(mixture).predict(X)
    (log_gate,), (experts, together) = gates.arrays, kept.arrays
    gate = np.exp(log_gate)
    gate /= gate.sum(axis=1, keepdims=True)
    route = log_gate.argmax(axis=1)
    if not classifies:
        scale, mean = mixture.target_scale_, mixture.target_mean_
        return Outputs(gate, route, experts * scale + mean, together * scale + mean)
    if not log_proba:
        return Outputs(gate, route, experts, together)
    experts, together = _normalize(experts), _normalize(together)
    return Outputs(gate, route, experts.argmax(axis=2), together.argmax(axis=1), experts, together)


class _Blocks:
    """Arrays that blocks of rows fill.

    Where the number of rows is known, they are whole from the start: small arrays kept between the
    activations of blocks would keep malloc from using that memory again. Otherwise they double.
    """

    def __init__(self, n_samples: int | None) -> None:
        self.n_samples = n_samples
        self._arrays: list[Array] = []
        self._filled = 0

    def add(self, *parts: Any) -> None:
        """Write the next rows."""
        parts = tuple(map(np.asarray, parts))
        end = self._filled + len(parts[0])
        if not self._arrays:
            size = self.n_samples or end
            self._arrays = [np.empty((size, *part.shape[1:]), part.dtype) for part in parts]
        if end > len(self._arrays[0]):
            grown = [np.empty((2 * end, *each.shape[1:]), each.dtype) for each in self._arrays]
            for new, old in zip(grown, self._arrays, strict=True):
                new[: self._filled] = old[: self._filled]
            self._arrays = grown
        for whole, part in zip(self._arrays, parts, strict=True):
            whole[self._filled : end] = part
        self._filled = end

    @property
    def arrays(self) -> list[Array]:
        """The rows so far."""
        return [each[: self._filled] for each in self._arrays]


@contextlib.contextmanager
def hooked(module: torch.nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Call ``hook(output)`` after each forward pass that this thread makes inside the block."""
    thread = threading.get_ident()  # others may predict with the same module meanwhile

    def after(_: torch.nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            hook(output)

    handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _all_experts(module: torch.nn.Module) -> Iterator[None]:
    """Have a sparse mixture compute all of its experts, in this thread."""
    thread = threading.get_ident()

    def before(_: torch.nn.Module, arguments: Any, options: dict[str, Any]) -> Any:
        if threading.get_ident() != thread:
            return None
        return arguments, {**options, "all_experts": True}

    handle = module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _run_whole(mixture: Any) -> Any:
    """Copy an estimator so that `predict` runs the whole mixture; the network is shared."""
    mixture = copy.copy(mixture)
    mixture.inference = "mixture"
    return mixture


def _normalize(log_proba: Array) -> Array:
    """Make probabilities sum to one in double precision, as the estimators' own do."""
    return np.asarray(log_proba - np.logaddexp.reduce(log_proba, axis=-1, keepdims=True))
