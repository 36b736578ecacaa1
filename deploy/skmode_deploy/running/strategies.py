"""Compute predictions in one of two ways: with one graph, or with the gate and single experts.

Both return the outputs of ``model.onnx`` by name: label, probabilities, variable, expert and
gate_probability.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle import GATE, MODEL, Manifest, expert_name
from skmode_deploy.errors import GraphInterfaceError
from skmode_deploy.running.forks import abandon, after_fork_in_child
from skmode_deploy.running.sessions import (
    ForkSafeSession,
    SessionFactory,
    check_at_least_one,
    run_session,
)

Array: TypeAlias = NDArray[Any]
Read: TypeAlias = Callable[[str], bytes]
Key = TypeVar("Key", bound=Hashable)


class Strategy(Protocol):
    """Computes outputs of a model."""

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """Compute the named outputs."""


def open_strategy(
    name: str,
    manifest: Manifest,
    read: Read,
    sessions: SessionFactory,
    max_loaded_experts: int | None = None,
) -> Strategy:
    """Open a strategy by its name; `read` returns the checked bytes of a file."""
    if name not in ("graph", "split"):
        raise ValueError(
            f'strategy must be "graph" or "split", got {name!r}: choose "graph" to run '
            f'{MODEL}, or "split" to load experts when they are needed.'
        )
    if max_loaded_experts is not None:
        max_loaded_experts = check_at_least_one(max_loaded_experts, "max_loaded_experts")
    if name == "split":
        return Split(manifest, read, sessions, max_loaded_experts)
    if max_loaded_experts is not None:
        raise ValueError(
            f'max_loaded_experts must be None with strategy="graph", got {max_loaded_experts}: '
            f'{MODEL} holds all experts; pass strategy="split" to load some of them.'
        )
    return ForkSafeSession(sessions, read(MODEL), MODEL)


class Split:
    """Runs the gate, then for each row the expert that the gate chose."""

    def __init__(
        self,
        manifest: Manifest,
        read: Read,
        sessions: SessionFactory,
        max_loaded_experts: int | None,
    ) -> None:
        _check_split(manifest)
        self._manifest = manifest
        self._n_outputs = manifest.n_outputs
        self._n_experts = manifest.n_experts
        self._output = "variable" if manifest.classes is None else "probabilities"
        self._labels = _labels(manifest)
        self._gate = ForkSafeSession(sessions, read(GATE), GATE)
        self.experts: ExpertCache[int] = ExpertCache(
            lambda i: open_expert(sessions, read(expert_name(i)), expert_name(i)),
            max_loaded_experts,
        )

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """Compute the named outputs."""
        wanted = ["expert"]
        if self._output in outputs or "label" in outputs:
            wanted.append("hidden")
        if "gate_probability" in outputs:
            wanted.append("gate_probabilities")
        found = dict(zip(wanted, self._gate.run(wanted, feeds), strict=True))
        expert = found["expert"]
        if "hidden" in found:
            found[self._output] = self._run_experts(found["hidden"], expert)
        if "label" in outputs:
            position = self._manifest.label_positions(found[self._output])
            found["label"] = position if self._labels is None else self._labels[position]
        if "gate_probabilities" in found:
            column = expert[:, None]
            found["gate_probability"] = np.take_along_axis(
                found["gate_probabilities"], column, axis=1
            )[:, 0]
        return [found[name] for name in outputs]

    def _run_experts(self, hidden: Array, expert: Array) -> Array:
        """Predict rows of shape (n_rows, width), expert by expert."""
        if len(expert) == 1:  # the most common request
            return self._run_expert(int(expert[0]), hidden)
        groups = list(group_rows(expert))
        if len(groups) == 1:
            return self._run_expert(groups[0][0], hidden)
        predictions = np.empty((len(expert), self._n_outputs), np.float32)
        for i, rows in groups:
            predictions[rows] = self._run_expert(i, hidden[rows])
        return predictions

    def _run_expert(self, i: int, hidden: Array) -> Array:
        if not 0 <= i < self._n_experts:
            raise GraphInterfaceError(
                f"{GATE} must choose experts from 0 to {self._n_experts - 1}, got {i}: export the "
                "model again."
            )
        return run_session(self.experts.get(i), [self._output], {"hidden": hidden})[0]


def group_rows(expert: Array) -> Iterator[tuple[int, Array]]:
    """Yield each expert with the positions of its rows, in ascending order."""
    order = np.argsort(expert, kind="stable")
    ordered = expert[order]
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for rows in np.split(order, starts) if len(order) else ():
        yield int(expert[rows[0]]), rows


def _check_split(manifest: Manifest) -> None:
    if manifest.routing != "top_expert" and manifest.n_experts > 1:
        raise ValueError(
            'strategy="split" needs a bundle with routing="top_expert", because it runs one '
            f"expert per row, got routing={manifest.routing!r} with {manifest.n_experts} experts: "
            'export with routing="top_expert", or load with strategy="graph".'
        )
    names = [GATE, *map(expert_name, range(manifest.n_experts))]
    missing = [name for name in names if name not in manifest.files]
    if missing:
        raise ValueError(
            f'strategy="split" needs a bundle with {GATE} and a file for each expert, but this '
            f"one has no {missing[0]}: export the model again with its parts, or load with "
            'strategy="graph".'
        )


def open_expert(sessions: SessionFactory, data: bytes, name: str) -> Any:
    """Open the session of an expert, which may leave memory again."""
    session = sessions.open(data, name, keep_memory=False)
    # onnxruntime keeps the file's bytes, a third of the memory, for a fallback that is off here.
    session._model_bytes = None
    return session


def _labels(manifest: Manifest) -> Array | None:
    """Labels as ``model.onnx`` returns them. None if it returns positions."""
    classes = manifest.classes
    if classes is None or classes.label == "index":
        return None
    strings = any(isinstance(label, str) for label in classes.values)
    return np.array(classes.values, dtype=object if strings else np.int64)


class _Expert:
    """An expert that is loaded, or will be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.session: Any = None


class ExpertCache(Generic[Key]):
    """Keeps experts in memory; beyond the limit, the least recently used one is removed.

    A thread waits for another one only if both need the same expert and it is being loaded. An
    expert that is removed while a thread uses it stays in memory until that thread is done.
    """

    def __init__(self, open_expert: Callable[[Key], Any], limit: int | None) -> None:
        self._open_expert = open_expert
        self._limit = limit
        self._lock = threading.Lock()
        self._experts: OrderedDict[Key, _Expert] = OrderedDict()
        after_fork_in_child(self)

    def get(self, i: Key) -> Any:
        """Return the session of an expert; load it if needed."""
        leaving = None
        with self._lock:
            expert = self._experts.get(i)
            if expert is None:
                if self._limit is not None and len(self._experts) >= self._limit:
                    leaving = self._experts.popitem(last=False)
                expert = self._experts[i] = _Expert()
            else:
                self._experts.move_to_end(i)
        del leaving  # outside the lock, because closing a session takes time
        session = expert.session
        if session is None:
            with expert.lock:
                if expert.session is None:
                    expert.session = self._open_expert(i)
                session = expert.session
        return session

    def loaded(self) -> list[Key]:
        """List the experts that are in memory."""
        with self._lock:
            return [i for i, expert in self._experts.items() if expert.session is not None]

    def reset_after_fork(self) -> None:
        """Drop the sessions of the parent."""
        for expert in self._experts.values():
            abandon(expert.session)
        self._experts = OrderedDict()
        self._lock = threading.Lock()
