"""Byte n-grams of texts as numbers: the features of the router."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

N_ONE = 256
N_TWO = 256 * 256
MULTIPLIER = 2_654_435_761  # Knuth's: near 2**32 over the golden ratio
_AT_ONCE = 2**20

Sums: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def as_bytes(text: str | bytes, position: int = 0) -> bytes:
    """Return a text as UTF-8, or say why it is none."""
    try:
        if isinstance(text, bytes):
            text.decode()
            content = text
        elif isinstance(text, str):
            content = text.encode()
        else:
            raise TypeError(
                f"A text must be a str or bytes, got {type(text).__name__} as text {position}: "
                "convert it first."
            )
    except UnicodeError as error:
        raise ValueError(
            f"A text must be valid UTF-8, but text {position} is not ({error}): decode it with "
            'errors="replace", or leave it out.'
        ) from error
    if not content:
        raise ValueError(
            f"A text must have at least one byte, but text {position} is empty: leave it out."
        )
    return content


def ngram_codes(content: bytes, n_buckets: int) -> NDArray[np.int64]:
    """Return the features of a line break and the text behind it, by length, then by position.

    A feature that equals the one before it is left out, so that deep indentation and rules of
    dashes weigh no more than short ones.
    """
    one = np.frombuffer(b"\n" + content, np.uint8).astype(np.int64)
    two = one[:-1] * 256 + one[1:]
    three = (one[:-2] * 65536 + one[1:-1] * 256 + one[2:]) * MULTIPLIER % 2**32
    three //= 2 ** (32 - round(math.log2(n_buckets)))
    grams = [one, N_ONE + two, N_ONE + N_TWO + three]
    return np.concatenate([own[np.diff(own, prepend=-1) != 0] for own in grams])


def count_ngrams(contents: Iterable[bytes], n_buckets: int) -> NDArray[np.int64]:
    """Return how often each feature occurs in texts, which are read once."""
    counts = np.zeros(N_ONE + N_TWO + n_buckets, np.int64)
    waiting: list[NDArray[np.int64]] = []
    for codes in _codes_of_parts(contents, n_buckets):
        waiting.append(codes)
        if sum(map(len, waiting)) > _AT_ONCE or len(waiting) > 1000:
            counts += np.bincount(np.concatenate(waiting), minlength=len(counts))
            waiting.clear()
    if waiting:
        counts += np.bincount(np.concatenate(waiting), minlength=len(counts))
    return counts


def _codes_of_parts(contents: Iterable[bytes], n_buckets: int) -> Iterator[NDArray[np.int64]]:
    """Yield the features of texts, long ones in parts, so that memory stays bounded."""
    for content in contents:
        for start in range(0, len(content), _AT_ONCE):
            yield ngram_codes(content[start : start + _AT_ONCE], n_buckets)


def count_buckets(weights: NDArray[np.float32]) -> int:
    """Return the number of features for n-grams of three bytes."""
    return len(weights) - N_ONE - N_TWO


def sum_weights(contents: Sequence[bytes], weights: NDArray[np.float32]) -> Sums:
    """Return for each text the sums of weights, the number of n-grams and that of bytes."""
    n_buckets = count_buckets(weights)
    sums, n_ngrams = np.empty((len(contents), weights.shape[1])), np.empty(len(contents))
    for at, content in enumerate(contents):
        codes = ngram_codes(content, n_buckets)
        sums[at] = weights[codes].sum(0, dtype=np.float64)
        n_ngrams[at] = len(codes)
    return sums, n_ngrams, np.array([len(content) for content in contents], float)
