"""Predict with the mixture of all experts, from the parts of a bundle."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode_deploy import bundle
from skmode_deploy.bundle import GATE, Manifest, expert_name
from skmode_deploy.running.inputs import compute_in_parts, open_reader
from skmode_deploy.running.sessions import ForkSafeSession, SessionFactory


class MixturePredictor:
    """Predict with all experts, weighted by the gate, whatever the routing of the bundle.

    The result is exact for ``mixing="expected"`` and ``"likelihood"``, which mix predictions. For
    ``mixing="representation"``, and if the target was transformed, it is the weighted mean of the
    experts' predictions instead.
    """

    def __init__(
        self, folder: str | os.PathLike[str], manifest: Manifest, *, threads: int = 1
    ) -> None:
        sessions = SessionFactory("auto", threads)
        names = [GATE, *map(expert_name, range(manifest.n_experts))]
        self._gate, *self._experts = (
            ForkSafeSession(sessions, bundle.read_file(folder, manifest, name), name)
            for name in names
        )
        self._inputs = open_reader(
            manifest, read=lambda name: bundle.read_file(folder, manifest, name)
        )
        self._output = "variable" if manifest.classes is None else "probabilities"

    def predict(self, X: Any) -> NDArray[np.float32]:
        """Return probabilities, or values of a regressor, of shape (n_samples, n_outputs)."""
        return compute_in_parts(self._inputs, X, self._mix)[0]

    def _mix(self, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        hidden, weights = self._gate.run(["hidden", "gate_probabilities"], feeds)
        predictions = [
            expert.run([self._output], {"hidden": hidden})[0] for expert in self._experts
        ]
        return [np.einsum("nk,kno->no", weights, np.stack(predictions))]
