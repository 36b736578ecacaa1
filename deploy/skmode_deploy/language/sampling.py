"""Choose the next token by its logits."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.bundle.messages import short_repr
from skmode_deploy.errors import GraphInterfaceError
from skmode_deploy.language.inputs import check_whole

MAX_SEED = 2**63 - 1
MAX_TEMPERATURE = 100.0


class Sampler:
    """Draws tokens: the most probable one at temperature 0, else by chance.

    The order is that of transformers: the logits are divided by the temperature, then all but the
    `top_k` largest are dropped, then all but the smallest set whose probabilities reach `top_p`.
    """

    def __init__(self, temperature: Any, top_k: Any, top_p: Any, seed: Any) -> None:
        self._temperature = _check_number(temperature, "temperature", 0.0, MAX_TEMPERATURE)
        self._top_p = 1.0 if top_p is None else _check_number(top_p, "top_p", 0.0, 1.0)
        fix = "pass such a number, or None for all tokens"
        self._top_k = None if top_k is None else check_whole(top_k, "top_k", 1, 2**31 - 1, fix)
        if seed is not None:
            seed = check_whole(seed, "seed", 0, MAX_SEED, "pass such a number, or None for chance")
        self._rng = np.random.default_rng(seed)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Choose a token by logits of shape (n_tokens,)."""
        best = int(logits.argmax())
        if not math.isfinite(logits[best]):
            raise GraphInterfaceError(
                f"The logits of an expert must be finite, got {logits[best]}: export the model "
                "again."
            )
        if self._temperature == 0 or self._top_p == 0:
            return best
        tokens = np.argsort(-logits, kind="stable")[: self._top_k]
        # The largest is subtracted first, or tiny temperatures would make infinities of all.
        values = logits[tokens].astype(np.float64)
        with np.errstate(over="ignore"):
            weights = np.exp((values - values[0]) / self._temperature)
        cumulated = weights.cumsum()
        if self._top_p < 1:
            n_kept = int(np.searchsorted(cumulated, self._top_p * cumulated[-1])) + 1
            tokens, cumulated = tokens[:n_kept], cumulated[:n_kept]
        drawn = np.searchsorted(cumulated, self._rng.random() * cumulated[-1], side="right")
        return int(tokens[min(int(drawn), len(tokens) - 1)])


def _check_number(value: Any, name: str, low: float, high: float) -> float:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        raise ValueError(
            f"{name} must be a number from {low:g} to {high:g}, got {short_repr(value)}: pass such "
            "a number."
        )
    return float(value)
