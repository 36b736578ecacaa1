"""Checks of the router's parameters."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any


def check_parameters(router: Any) -> None:
    """Refuse parameters that mean nothing."""
    if router.method not in ("naive_bayes", "logistic"):
        raise ValueError(
            f'method must be "naive_bayes" or "logistic", got {router.method!r}: choose one.'
        )
    if router.abstain not in ("likelihood", "probability", None):
        raise ValueError(
            f'abstain must be "likelihood", "probability" or None, got {router.abstain!r}: '
            "choose one."
        )
    for name in ("smoothing", "C"):
        value = getattr(router, name)
        if not isinstance(value, Real) or not 0 < float(value) < float("inf"):
            raise ValueError(f"{name} must be a number above 0, got {value!r}: choose another.")
    max_bytes = router.max_bytes
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, Integral) or max_bytes < 1:
        raise ValueError(
            f"max_bytes must be a whole number of at least 1, got {max_bytes!r}: 4096 suits most "
            "corpora."
        )
    if not 0 <= router.abstained < 1:
        raise ValueError(
            f"abstained must be at least 0 and below 1, got {router.abstained!r}: it is a share."
        )
    power = router.n_buckets > 1 and router.n_buckets & (router.n_buckets - 1) == 0
    if not power or router.n_buckets > 2**24:
        raise ValueError(
            f"n_buckets must be a power of two from 2 to 2**24, got {router.n_buckets!r}: "
            "65536 suits most corpora."
        )
