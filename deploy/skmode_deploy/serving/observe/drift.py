"""Routing drift: do the experts get the shares of the rows that they got in training?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Enough rows for a stable index, few enough to notice a change soon.
WINDOW_ROWS = 10_000
MIN_ROWS = 500  # with fewer, chance alone looks like drift
MIN_SHARE = 1e-4  # for an expert without rows, whose logarithm would be infinite


def population_stability_index(
    expected: Sequence[float], counts: Sequence[float] | NDArray[np.float64]
) -> float:
    """Compare the rows of each expert with its share in training; 0 is no difference.

    Examples
    --------
    >>> from skmode_deploy.serving.observe.drift import population_stability_index
    >>> population_stability_index([0.5, 0.5], [100, 100])
    0.0
    >>> round(population_stability_index([0.5, 0.5], [180, 20]), 3)
    0.879
    """
    p = np.clip(np.asarray(counts, np.float64) / max(float(np.sum(counts)), 1.0), MIN_SHARE, 1)
    q = np.clip(np.asarray(expected, np.float64), MIN_SHARE, 1)
    return float(np.sum((p - q) * np.log(p / q)))


class RoutingDrift:
    """Follow the routing over the last rows, between half a window and a whole one.

    Only the sums of the last two halves are kept, so that single rows need no memory.
    """

    def __init__(self, expected: Sequence[float], window: int = WINDOW_ROWS) -> None:
        self._expected = expected
        self._half = window // 2
        self._previous = np.zeros(len(expected))
        self._latest = np.zeros(len(expected))

    def add(self, counts: NDArray[np.int64]) -> None:
        """Add the number of rows of each expert."""
        self._latest += counts
        if self._latest.sum() >= self._half:
            self._previous, self._latest = self._latest, np.zeros_like(self._latest)

    def value(self) -> float:
        """Compute the index over the last rows. NaN is too few rows."""
        counts = self._previous + self._latest
        return (
            population_stability_index(self._expected, counts)
            if counts.sum() >= MIN_ROWS
            else float("nan")
        )
