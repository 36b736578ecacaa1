"""Whether rows go to the experts as they did in training."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW = 10_000
FEWEST = 500
SMALLEST_SHARE = 1e-4


def population_stability_index(
    expected: Sequence[float], counts: Sequence[float] | NDArray[np.float64]
) -> float:
    """Compare how often each expert was chosen with how often it was in training.

    Examples
    --------
    >>> from skmode_deploy.serving.observe.drift import population_stability_index
    >>> population_stability_index([0.5, 0.5], [100, 100])
    0.0
    >>> round(population_stability_index([0.5, 0.5], [180, 20]), 3)
    0.879
    """
    p = np.clip(np.asarray(counts, np.float64) / max(float(np.sum(counts)), 1.0), SMALLEST_SHARE, 1)
    q = np.clip(np.asarray(expected, np.float64), SMALLEST_SHARE, 1)
    return float(np.sum((p - q) * np.log(p / q)))


class RoutingDrift:
    """Follow the routing over the last rows: between half a window and a whole one."""

    def __init__(self, expected: Sequence[float], window: int = WINDOW) -> None:
        self._expected = expected
        self._half = window // 2
        self._before = np.zeros(len(expected))
        self._now = np.zeros(len(expected))

    def add(self, counts: NDArray[np.int64]) -> None:
        """Count rows."""
        self._now += counts
        if self._now.sum() >= self._half:
            self._before, self._now = self._now, np.zeros_like(self._now)

    def value(self) -> float:
        """Say how far the routing has moved."""
        counts = self._before + self._now
        return (
            population_stability_index(self._expected, counts)
            if counts.sum() >= FEWEST
            else float("nan")
        )
