"""Shadow model: on a share of the requests, compare the whole mixture with the top expert."""

import os
import random
from typing import Any

import numpy as np

from skmode_deploy.bundle import GATE, Manifest, expert_name
from skmode_deploy.running.mixture import MixturePredictor
from skmode_deploy.running.predictor import Prediction

# Values that differ by more, relative to the larger one, disagree.
RELATIVE_DIFFERENCE = 0.05


class Shadow:
    """Compute the mixture of all experts from the parts of a bundle.

    It is the mean of the experts' predictions, weighted by the gate. This is exact for
    ``mixing="expected"`` (the default) and ``"likelihood"``, and an approximation for
    ``"representation"``.
    """

    def __init__(
        self, folder: str | os.PathLike[str], manifest: Manifest, share: float, threads: int = 1
    ) -> None:
        names = [GATE, *map(expert_name, range(manifest.n_experts))]
        missing = [name for name in names if name not in manifest.files]
        if missing:
            raise ValueError(
                f"The mixture needs gate and experts as files of their own, and the bundle has no "
                f"{missing[0]}: export the model with its parts, or serve without --shadow."
            )
        self._manifest = manifest
        self._mixture = MixturePredictor(folder, manifest, threads=threads)
        self._share = share
        self._random = random.Random(0)

    def wants(self) -> bool:
        """Decide by chance whether to compare the next request."""
        return self._random.random() < self._share

    def count_disagreements(self, rows: Any, prediction: Prediction) -> int:
        """Count the rows where the mixture disagrees with the prediction that was sent."""
        mixed = self._mixture.predict(rows)
        if prediction.probabilities is not None:
            choose = self._manifest.label_positions
            differs = choose(mixed) != choose(prediction.probabilities)
            return int(np.count_nonzero(differs))
        value = prediction.value.reshape(mixed.shape)
        largest = np.maximum(np.abs(mixed), np.abs(value))
        far = np.abs(mixed - value) > RELATIVE_DIFFERENCE * largest
        return int(np.count_nonzero(far.any(axis=1)))
