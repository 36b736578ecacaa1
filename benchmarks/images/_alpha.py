"""Which alpha suits how many images, in the paper's mixing and in ours."""

from __future__ import annotations

import itertools
from functools import partial

from benchmarks.images._measure import RESULTS, append, inner, measure, read
from benchmarks.images._models import mixture

ALPHAS = (0.0, 0.1, 1.0, 10.0)
N_ROWS = (1_000, 4_000)
MIXINGS = ("representation", "expected")


def sweep() -> None:
    """Measure what has no line yet."""
    path = RESULTS / "images_alpha.jsonl"
    done = {(line["rows"], line["mixing"], line["alpha"]) for line in read(path)}
    for n_rows, mixing, alpha in itertools.product(N_ROWS, MIXINGS, ALPHAS):
        if (n_rows, mixing, alpha) in done:
            continue
        fit = partial(mixture, mixing=mixing, alpha=alpha)
        append(path, {"rows": n_rows, "mixing": mixing} | measure(fit, inner(n_rows), 0))
