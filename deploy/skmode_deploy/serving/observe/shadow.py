"""The whole mixture beside the top expert, on a share of the requests."""

import os
import random
from typing import Any

import numpy as np

from skmode_deploy.bundle import GATE, Manifest, expert_name
from skmode_deploy.running.mixture import MixturePredictor
from skmode_deploy.running.predictor import Prediction

# A value that differs by more, relative to the larger one, is another answer.
RELATIVE_DIFFERENCE = 0.05


class Shadow:
    """Compare the answers of the mixture with those of the top expert."""

    def __init__(
        self, folder: str | os.PathLike[str], manifest: Manifest, share: float, threads: int = 1
    ) -> None:
        names = [GATE, *map(expert_name, range(manifest.n_experts))]
        lacking = [name for name in names if name not in manifest.files]
        if lacking:
            raise ValueError(
                f"The mixture needs gate and experts as files of their own, and the bundle has no "
                f"{lacking[0]}: export the model with its parts, or serve without --shadow."
            )
        self._mixture = MixturePredictor(folder, manifest, threads=threads)
        self._share = share
        self._random = random.Random(0)

    def wants(self) -> bool:
        """Draw whether a request is in the share."""
        return self._random.random() < self._share

    def disagreements(self, rows: Any, prediction: Prediction) -> int:
        """Compare the mixture with what was answered."""
        mixed = self._mixture.predict(rows)
        if prediction.probabilities is not None:
            other = mixed.argmax(axis=1) != prediction.probabilities.argmax(axis=1)
            return int(np.count_nonzero(other))
        value = prediction.value.reshape(mixed.shape)
        largest = np.maximum(np.abs(mixed), np.abs(value))
        far = np.abs(mixed - value) > RELATIVE_DIFFERENCE * largest
        return int(np.count_nonzero(far.any(axis=1)))
