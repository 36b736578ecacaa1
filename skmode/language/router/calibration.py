"""What a router learns of texts that it has not counted: temperature and typical likelihoods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

SHORTEST = 12  # bytes of the shortest piece that held-out texts are cut to


def cut_pieces(contents: Sequence[bytes], longest: int, rng: np.random.RandomState) -> list[bytes]:
    """Cut texts to pieces of all lengths, evenly by magnitude, so that lines and pages count."""
    pieces = []
    for content in contents:
        most = min(len(content), longest)
        length = int(np.exp(rng.uniform(np.log(min(SHORTEST, most)), np.log(most + 1))))
        start = rng.randint(len(content) - length + 1)
        piece = content[start : start + length].decode(errors="ignore").strip().encode()
        pieces.append(piece or content[:most])
    return pieces


def fit_temperature(sums: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the divisor of the sums of log probabilities with the lowest log loss."""

    def log_loss(log_temperature: float) -> float:
        scaled = sums / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]))

    return float(np.exp(minimize_scalar(log_loss, bounds=(0, np.log(1000)), method="bounded").x))


def fit_spread(
    likelihoods: NDArray[np.float64], lengths: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return mean m and variances (a, b): likelihoods vary around m by a + b / length.

    The mean is weighted by 1 / (1 / median length + 1 / length). a and b are those of two groups
    of equal size, the shorter and the longer pieces, and neither is negative.
    """
    weights = 1 / (1 / np.median(lengths) + 1 / lengths)
    mean = float(np.average(likelihoods, weights=weights))
    squares = (likelihoods - mean) ** 2
    order = np.argsort(lengths, kind="stable")
    short, long = order[: len(order) // 2], order[len(order) // 2 :]
    if not len(short):
        return mean, float(max(squares.mean(), 1e-6)), 0.0
    inverse = [float(np.mean(1 / lengths[part])) for part in (short, long)]
    variance = [float(np.mean(squares[part])) for part in (short, long)]
    slope = max((variance[0] - variance[1]) / max(inverse[0] - inverse[1], 1e-12), 0.0)
    level = max(variance[1] - slope * inverse[1], 1e-6)
    return mean, level, slope
