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

    Parameters
    ----------
    expected : sequence of float of length n_experts
        Shares in training.
    counts : sequence of float of length n_experts
        Numbers of rows now.

    Returns
    -------
    float
        Sum over the experts of (p - q) log(p / q). Below 0.1 is usually called stable, above 0.25
        a shift. A share below 0.0001 counts as that.

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
    """Follow the routing over the last rows: between half a window and a whole one.

    Parameters
    ----------
    expected : sequence of float of length n_experts
        Shares in training.
    window : int, default=10_000
        Number of rows.
    """

    def __init__(self, expected: Sequence[float], window: int = WINDOW) -> None:
        self._expected = expected
        self._half = window // 2
        self._before = np.zeros(len(expected))
        self._now = np.zeros(len(expected))

    def add(self, counts: NDArray[np.int64]) -> None:
        """Count rows.

        Parameters
        ----------
        counts : ndarray of shape (n_experts,)
            Number of rows of each expert.
        """
        self._now += counts
        if self._now.sum() >= self._half:
            self._before, self._now = self._now, np.zeros_like(self._now)

    def value(self) -> float:
        """Say how far the routing has moved.

        Returns
        -------
        float
            The population stability index; NaN before 500 rows.
        """
        counts = self._before + self._now
        return (
            population_stability_index(self._expected, counts)
            if counts.sum() >= FEWEST
            else float("nan")
        )
