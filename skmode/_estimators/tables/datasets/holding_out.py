"""Validation rows of a stream whose length is known: drawn before it is read again."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from skmode._estimators.parameters import FULL_BATCH_ROWS

# The most rows that are held out: an accuracy has a standard error of 0.0014 at most then, and
# memory need not grow with the data.
MOST_HELD_OUT = 2**17


class HeldOut:
    """Draws the same share of each stratum; a stratum is a class, or all rows of a regression."""

    def __init__(
        self, n_rows: NDArray[np.int64], n_held_out: NDArray[np.int64], rng: np.random.Generator
    ) -> None:
        self._chosen = [
            np.sort(rng.choice(int(rows), int(held_out), replace=False, shuffle=False))
            for rows, held_out in zip(n_rows, n_held_out, strict=True)
        ]
        self._seen = np.zeros(len(n_rows), dtype=np.int64)

    def mask(self, strata: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of the next rows are held out."""
        mask = np.zeros(len(strata), dtype=bool)
        for stratum in np.unique(strata):
            rows = np.flatnonzero(strata == stratum)
            seen, chosen = self._seen[stratum], self._chosen[stratum]
            first, last = np.searchsorted(chosen, [seen, seen + len(rows)])
            mask[rows[chosen[first:last] - seen]] = True
            self._seen[stratum] += len(rows)
        return mask


def share_out(
    n_rows: NDArray[np.int64], early_stopping: bool | str, fraction: float, *, classes: bool
) -> NDArray[np.int64] | None:
    """How many rows of each stratum to hold out, or None for no validation rows.

    The rules are those of rows in memory: a class with a single row stays in the training part.
    """
    total = int(n_rows.sum())
    wanted = total > FULL_BATCH_ROWS if early_stopping == "auto" else early_stopping
    if not wanted:
        return None
    candidates = np.where(n_rows > 1, n_rows, 0) if classes else n_rows
    n_candidates = int(candidates.sum())
    if n_candidates < 2:
        if early_stopping == "auto":
            return None
        raise ValueError(
            "early_stopping=True needs at least two rows of one class to hold one out, got "
            f"{total} row(s): pass more rows or early_stopping=False."
        )
    n_held_out = min(math.ceil(fraction * n_candidates), MOST_HELD_OUT, n_candidates - 1)
    exact = candidates * (n_held_out / n_candidates)
    shares = np.floor(exact).astype(np.int64)
    # Those with the largest remainders get the rows that are left.
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: n_held_out - shares.sum()]] += 1
    return np.minimum(shares, np.maximum(candidates - 1, 0))
