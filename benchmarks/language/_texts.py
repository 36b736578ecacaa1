"""Texts of the domains, fetched, or carried in one file to a machine without network."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skmode.datasets import fetch_domain_texts

FOUR = ("en", "fr", "de", "py")
ALL = (*FOUR, "es", "it", "c", "man")


@dataclass(frozen=True)
class Texts:
    """The texts of each domain for training and for the test, which share no page and no module."""

    train: dict[str, list[str]]
    test: dict[str, list[str]]

    def pairs(self, domains: tuple[str, ...], max_bytes: int | None = None):
        """Return training texts and their domains, of each domain the first bytes alone."""
        chosen = [
            (text, domain) for domain in domains for text in _first(self.train[domain], max_bytes)
        ]
        return [text for text, _ in chosen], [domain for _, domain in chosen]

    def sample(self, domain: str, n_bytes: int) -> str:
        """Return text of the test out of six places."""
        joined = "".join(self.test[domain])
        n = n_bytes // 6
        starts = (int(len(joined) * share) for share in (0.05, 0.2, 0.4, 0.6, 0.75, 0.9))
        return "".join(joined[start : start + n] for start in starts)

    def lines(self, domain: str, n: int, words: int = 5) -> list[str]:
        """Return random lines of the test with enough words."""
        lines = [line for text in self.test[domain] for line in text.splitlines()]
        return _draw([line for line in lines if len(line.split()) >= words], n)

    def passages(self, domain: str, n: int, words: int) -> list[str]:
        """Return random passages of the test with so many words, cut without regard to lines."""
        found = []
        for text in self.test[domain]:
            places = [match.span() for match in re.finditer(r"\S+", text)]
            ends = range(words - 1, len(places), words)
            found += [text[places[i - words + 1][0] : places[i][1]] for i in ends]
        return _draw(found, n)


def load_texts(domains: tuple[str, ...], data: Path | None) -> Texts:
    """Fetch the texts, or read them from a file that `pack` wrote."""
    if data is not None:
        packed = json.loads(gzip.decompress(data.read_bytes()))
        return Texts(*({name: packed[part][name] for name in domains} for part in packed))
    parts = []
    for subset in ("train", "test"):
        corpus = fetch_domain_texts(domains, subset=subset)
        part: dict[str, list[str]] = {name: [] for name in domains}
        for text, domain in zip(corpus.texts, corpus.domains, strict=True):
            part[domain].append(text)
        parts.append({name: _shuffled(texts) for name, texts in part.items()})
    return Texts(*parts)


def pack(path: Path) -> None:
    """Write the texts of all domains into one file."""
    texts = load_texts(ALL, None)
    path.write_bytes(gzip.compress(json.dumps(vars(texts)).encode()))
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")


def _first(texts: list[str], max_bytes: int | None) -> list[str]:
    """Return the first texts, up to a number of bytes."""
    sizes = np.cumsum([len(text.encode()) for text in texts])
    return texts if max_bytes is None else texts[: int(np.searchsorted(sizes, max_bytes)) + 1]


def _draw(texts: list[str], n: int) -> list[str]:
    order = np.random.RandomState(0).permutation(len(texts))[:n]
    return [texts[at] for at in order]


def _shuffled(texts: list[str]) -> list[str]:
    return _draw(texts, len(texts))
