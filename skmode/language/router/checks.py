"""Checks of the router's parameters, and of texts that are none."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

# A word that ends like the name of a file of texts, and is no address of a page; and the longest
# name that is looked for.
_NAME = re.compile(
    r"(?!\w+://)\S+\.(txt|text|md|rst|tex|csv|tsv|jsonl?|xml|html?|py|log|parquet)"
    r"(\.(gz|bz2|xz|zst))?",
    re.I,
)
_LONGEST = 260


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
        if not is_number(value) or not 0 < float(value) < float("inf"):
            raise ValueError(f"{name} must be a number above 0, got {value!r}: choose another.")
    max_bytes = router.max_bytes
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, Integral) or max_bytes < 1:
        raise ValueError(
            f"max_bytes must be a whole number of at least 1, got {max_bytes!r}: 4096 suits most "
            "corpora."
        )
    if not is_number(router.abstained) or not 0 <= router.abstained < 1:
        raise ValueError(
            f"abstained must be at least 0 and below 1, got {router.abstained!r}: it is a share."
        )
    n_buckets = router.n_buckets
    is_whole = isinstance(n_buckets, Integral) and not isinstance(n_buckets, bool)
    if not is_whole or int(n_buckets) not in (2**power for power in range(1, 25)):
        raise ValueError(
            f"n_buckets must be a power of two from 2 to 2**24, got {n_buckets!r}: "
            "65536 suits most corpora."
        )


def is_number(value: Any) -> bool:
    """Whether a value is a number, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def refuse_mapping(given: object, what: str) -> None:
    """Refuse a mapping, of which only the keys would be read."""
    if isinstance(given, Mapping):
        raise TypeError(
            f"{what} must be a list or an iterator, got {type(given).__name__}, of which only "
            "the keys would be read: of a mapping from domains to lists of texts, pass "
            "[text for own in mapping.values() for text in own] as texts and "
            "[name for name, own in mapping.items() for _ in own] as domains."
        )


class NamesOfFiles:
    """Finds domains all of whose strings are names of files, which would be learned from as texts.

    It looks only until a domain has another text, so that large corpora cost nothing. Bytes are
    texts, whatever they say.
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._fine: set[str] = set()

    def see(self, text: object, domain: str) -> None:
        """Take note of a text."""
        if domain in self._fine or isinstance(text, Path):
            return
        if isinstance(text, str) and _is_name(text):
            self._first.setdefault(domain, text)
        else:
            self._fine.add(domain)

    def refuse(self) -> None:
        """Refuse domains that have names alone."""
        for domain, name in self._first.items():
            if domain not in self._fine:
                raise ValueError(
                    f"Texts must be what is read, but those of {domain!r} are names of files, such "
                    f"as {name!r}: pass pathlib.Path({name!r}), to a DomainRouter its read_text(); "
                    "or, if the names themselves are the texts, pass them as bytes."
                )


def _is_name(text: str) -> bool:
    """Whether a text is the name of a file, which is there or looks like one."""
    if len(text) > _LONGEST or "\n" in text:
        return False
    return _NAME.fullmatch(text) is not None or os.path.isfile(text)
