"""What a router learns of texts that it has not counted: temperature and typical likelihoods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp, softmax

from skmode.language.router.ngrams import ngram_codes

# What holds the importance of n-grams near one, and the most lines of a domain it is learned from.
PENALTY, LINES = 0.3, 10_000
# Which share of these lines are there once more as a comment or a quotation, and its marks. So few
# keep the marks from deciding alone, and leave them a hint.
MARKED, MARKS = 1 / 400, (b"#", b"//", b"--", b"*", b";", b">", b"%")
SHORTEST = 12  # bytes of the shortest piece that held-out texts are cut to
# The fewest pieces of a domain that the temperature is learned from. Where a handful are all right,
# the lowest temperature is the best.
PIECES = 200


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


def cut_lines(contents: Sequence[bytes], rng: np.random.RandomState) -> list[bytes]:
    """Return lines of the texts, half of them without the space around them, some as comments.

    A text without line breaks is a line. Code is indented in a file, and often not where it is
    quoted: a router that learned of indented lines alone would tell Python by its spaces. A comment
    may be in each language: one that learned of Python's alone would tell it by the mark.
    """
    own = [line for content in contents for line in content.splitlines()]
    own = [line for line in own if len(line.strip()) >= SHORTEST]
    chosen = [own[at] for at in rng.permutation(len(own))[:LINES]]
    lines = [line.strip() if i % 2 else line for i, line in enumerate(chosen)]
    for i in np.flatnonzero(rng.uniform(size=len(chosen)) < MARKED):
        words = chosen[i].strip().lstrip(b"".join(MARKS) + b" ")
        indentation = b" " * rng.choice([0, 2, 4, 8])
        lines.append(indentation + MARKS[rng.randint(len(MARKS))] + b" " + words)
    return lines or list(contents)


def fit_importance(
    lines: Sequence[bytes], truth: NDArray[np.int64], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return a factor for each n-gram, the same in all domains, that makes lines easy to tell.

    With factors exp(t_g) / T and the softmax over domains of the sum of factor times weight, it
    minimizes the mean log loss, each domain counting the same, plus PENALTY / n times the sum of
    the squares of t. T is left to `fit_temperature`.
    """
    rows = count_rows(lines, len(weights) - 256 - 65536)
    n, n_domains = len(truth), weights.shape[1]
    share = (n / n_domains / np.bincount(truth, minlength=n_domains))[truth] / n
    log_p, wanted = weights.astype(float), np.eye(n_domains)[truth]

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factor = np.exp(values[1:] - values[0])
        scores = rows @ (factor[:, None] * log_p)
        own = logsumexp(scores, axis=1) - scores[np.arange(n), truth]
        slope = rows.T @ (share[:, None] * (softmax(scores, axis=1) - wanted))
        slope = (slope * log_p).sum(1) * factor
        total = share @ own + PENALTY / n * values[1:] @ values[1:]
        return float(total), np.append(-slope.sum(), slope + 2 * PENALTY / n * values[1:])

    start = np.zeros(len(weights) + 1)
    start[0] = 3.0
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 40})
    importance: NDArray[np.float32] = np.exp(found.x[1:]).astype(np.float32)
    return importance


def count_rows(contents: Sequence[bytes], n_buckets: int) -> sparse.csr_array:
    """Return how often each n-gram is in each text."""
    codes = [ngram_codes(content, n_buckets) for content in contents]
    starts = np.cumsum([0, *map(len, codes)])
    columns = np.concatenate(codes)
    shape = (len(codes), 256 + 65536 + n_buckets)
    rows = sparse.csr_array((np.ones(len(columns)), columns, starts), shape=shape)
    rows.sum_duplicates()
    return rows


def fit_temperature(sums: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Return the divisor of the sums of log probabilities with the lowest log loss."""

    def log_loss(log_temperature: float) -> float:
        scaled = sums / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]))

    return float(np.exp(minimize_scalar(log_loss, bounds=(0, np.log(1000)), method="bounded").x))


def fit_spread(
    likelihoods: NDArray[np.float64], lengths: NDArray[np.float64], abstained: float
) -> tuple[float, float, float]:
    """Return median m and a, b: the share `abstained` is below m by more than sqrt(a + b / length).

    The spread at the two halves, the shorter and the longer pieces, tells how it falls with the
    length; it is a multiple of the median distance to m, which outliers do not move.
    """
    mean = float(np.median(likelihoods))
    squares = (likelihoods - mean) ** 2
    order = np.argsort(lengths, kind="stable")
    halves = [half for half in (order[: len(order) // 2], order[len(order) // 2 :]) if len(half)]
    inverse = [float(np.mean(1 / lengths[half])) for half in halves]
    spread = [float(np.median(squares[half])) for half in halves]
    slope = max((spread[0] - spread[-1]) / max(inverse[0] - inverse[-1], 1e-9), 0.0)
    level = max(spread[-1] - slope * inverse[-1], 1e-4)
    below = (mean - likelihoods) / np.sqrt(level + slope / lengths)
    factor = max(float(np.quantile(below, 1 - abstained, method="higher")), 1.0) ** 2
    return mean, factor * level, factor * slope
