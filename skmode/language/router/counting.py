"""What a router keeps of the texts that it reads: counts, and pages that are held out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skmode.language.router.checks import NamesOfFiles, refuse_mapping
from skmode.language.router.ngrams import as_bytes, count_ngrams, ngram_codes

Text = str | bytes
Texts = Iterable[Text]
T = TypeVar("T")
_NONE = object()


class Learner:
    """What a router keeps of texts: counts by domain, or for logistic regression all of them."""

    def __init__(self, n_buckets: int, smoothing: float, *, by_line: bool) -> None:
        self.n_buckets, self.smoothing, self.by_line = n_buckets, smoothing, by_line
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.waiting: dict[str, list[bytes]] = {}
        self.lines: list[tuple[bytes, str]] = []

    @property
    def names(self) -> list[str]:
        return list(self.waiting) or list(dict.fromkeys(name for _, name in self.lines))

    def add(self, content: bytes, domain: str) -> None:
        if self.by_line:
            lines = content.splitlines() or [content]
            self.lines += [(line, domain) for line in lines if line.strip()]
            return
        waiting = self.waiting.setdefault(domain, [])
        waiting.append(content)
        if sum(map(len, waiting[-100:])) > 2**20 or len(waiting) >= 1000:
            self._count(domain)

    def extend(self, contents: Iterable[bytes], domain: str) -> None:
        for content in contents:
            self.add(content, domain)

    def _count(self, domain: str) -> None:
        """Count the texts that wait, many at a time, and drop them."""
        counted = count_ngrams(self.waiting[domain], self.n_buckets)
        self.counts[domain] = self.counts.get(domain, 0) + counted
        self.waiting[domain] = []

    def log_proba(self, domain: str, without: bytes = b"") -> NDArray[np.float32]:
        """Return the log probabilities of the n-grams, which sum to one for each length."""
        self._count(domain)
        counts = self.counts[domain] - count_ngrams([without] if without else [], self.n_buckets)
        parts = np.split(counts + self.smoothing, [256, 256 + 65536])
        return np.concatenate([np.log(part / part.sum()) for part in parts]).astype(np.float32)

    def rows(self, domains: list[str]) -> tuple[sparse.csr_array, NDArray[np.int64]]:
        """Return the features of the lines, and the positions of their domains."""
        blank = [name for name in domains if name not in self.names]
        if blank:
            raise ValueError(
                "Logistic regression needs a line of each domain that is not blank, but those of "
                f'{blank[0]!r} are all: add texts, or use method="naive_bayes".'
            )
        codes = [ngram_codes(line, self.n_buckets) for line, _ in self.lines]
        lengths = np.array([len(each) for each in codes])
        values = np.repeat(1 / np.sqrt(lengths), lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        shape = (len(codes), 256 + 65536 + self.n_buckets)
        rows = sparse.csr_array((values, np.concatenate(codes), starts), shape=shape)
        rows.sum_duplicates()
        return rows, np.array([domains.index(name) for _, name in self.lines])


class HeldOut:
    """Pages that calibrate the router: a half, at most 2,000 of each domain.

    Pages of a text stay together, as each tells much of the next; of a long one, TOGETHER of them.
    The first FIRST of a domain are held out in any case. Where that leaves fewer than COUNTED, the
    domain shares its pages: they are counted and calibrate. Importance that is learned beside fewer
    than about ten counted pages makes lines harder to tell, not easier.
    """

    SHARE, MOST, FIRST, TOGETHER, COUNTED = 0.5, 2000, 20, 16, 10

    def __init__(self, rng: np.random.RandomState) -> None:
        self.rng = rng
        self.contents: dict[str, list[bytes]] = {}
        self.seen: dict[str, int] = {}
        self.chosen: dict[str, bool] = {}
        self.shared: set[str] = set()

    @property
    def names(self) -> list[str]:
        return list(self.contents)

    def takes(self, content: bytes, domain: str, number: int) -> bool:
        """Whether this page, the one of this number of its text, is held out."""
        own = self.contents.setdefault(domain, [])
        self.seen[domain] = self.seen.get(domain, 0) + 1
        if number % self.TOGETHER == 0:
            self.chosen[domain] = self.rng.uniform() < self.SHARE
        first = self.seen[domain] <= self.FIRST
        if first or (self.chosen[domain] and len(own) < self.MOST):
            own.append(content)
            return True
        return False

    def settle(self, kept: Learner) -> None:
        """Let domains with few counted pages count those as well that are held out."""
        for domain, seen in self.seen.items():
            if seen - len(self.contents[domain]) < self.COUNTED:
                kept.extend(self.contents[domain], domain)
                self.shared.add(domain)

    def for_importance(self, domain: str) -> list[bytes]:
        return self.contents[domain][1::2]

    def for_calibration(self, domain: str) -> list[bytes]:
        """Return the pages that the importance was not learned from; all if it was not learned."""
        return self.contents[domain][:: 1 if self.shared else 2]

    def apart(self) -> dict[str, list[bytes]]:
        """Return the pages that were held out and not counted."""
        return {name: own for name, own in self.contents.items() if name not in self.shared}


def read_pages(
    texts: Texts, domains: Iterable[str] | str, size: int
) -> Iterator[tuple[bytes, str, int]]:
    """Yield pages of checked texts with their domains and their numbers, from 0 in each text."""
    for at, (text, name) in enumerate(pair(texts, domains)):
        content = as_bytes(text, at)
        for number, start in enumerate(range(0, len(content), size)):
            yield content[start : start + size], name, number


def check_iterable(texts: object) -> None:
    """Refuse a single text in place of several, and what is none."""
    if isinstance(texts, str | bytes | Path):
        raise TypeError(
            "texts must be an iterable of texts, got a single one: put it into a list, [text]."
        )
    if not isinstance(texts, Iterable):
        raise TypeError(
            f"texts must be an iterable of texts, got {type(texts).__name__}: pass a list."
        )
    refuse_mapping(texts, "texts")
    if len(getattr(texts, "shape", ())) > 1:
        raise TypeError(
            "texts must have one dimension, got a table, of which only the names of the columns "
            f"would be read, or a matrix: {type(texts).__name__}. Pass one column, such as "
            'frame["text"].'
        )


def pair(texts: Iterable[T], domains: Iterable[str] | str) -> Iterator[tuple[T, str]]:
    """Yield texts with their domains, of which there are as many, or one for all."""
    check_iterable(texts)
    if not isinstance(domains, Iterable):
        raise TypeError(
            f"domains must be names, got {type(domains).__name__}: pass a str for each text."
        )
    refuse_mapping(domains, "domains")
    names = itertools.repeat(domains) if isinstance(domains, str) else iter(domains)
    n, files = 0, NamesOfFiles()
    for text in texts:
        name = next(names, _NONE)
        if name is _NONE:
            raise ValueError(
                f"Each text needs a domain, got {n} domains and more texts: pass as many."
            )
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"A domain must be a name, got {name!r} for text {n}: pass a str for each text."
            )
        n += 1
        files.see(text, str(name))
        yield text, str(name)
    if not isinstance(domains, str) and next(names, _NONE) is not _NONE:
        raise ValueError(f"Each domain needs a text, got {n} texts and more domains: pass as many.")
    files.refuse()
