"""Checks of the router's parameters."""

from __future__ import annotations

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
