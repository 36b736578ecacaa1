"""BLEU of each case with bootstrap intervals, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU

RESAMPLES = 1_000
# A case served otherwise than trained, and the case that it is compared with.
SERVED = {"trained": "", "top_expert": ", served by the top expert"}


def report(lines: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per case: BLEU and its difference to alpha = 0, each with a 95 % interval.

    Pages and seeds are drawn with replacement, the same ones for all cases: sentences of one page
    resemble each other, and a difference between cases is one on the same pages and seeds. With a
    single seed the intervals know nothing of chance in training.
    """
    counts, rows = collect(lines)
    draws = {name: resample(each) for name, each in counts.items()}
    table = []
    for name, row in rows.items():
        row["BLEU"] = f"{bleu(counts[name].sum(axis=1)).mean():.2f} {interval(draws[name])}"
        base = name.replace("alpha=0.1", "alpha=0").replace("alpha=1", "alpha=0")
        comparable = base != name and base in counts and len(counts[base]) == len(counts[name])
        row["minus alpha = 0"] = interval(draws[name] - draws[base]) if comparable else ""
        table.append({"case": name, **row})
    return pd.DataFrame(table)


def collect(
    lines: Sequence[dict[str, Any]],
) -> tuple[dict[str, NDArray[np.int64]], dict[str, dict[str, Any]]]:
    """Return what BLEU counts, (seeds, pages, counts), and the means over seeds, by case."""
    counts, rows = {}, {}
    for case in dict.fromkeys(line["case"] for line in lines):
        own = sorted((line for line in lines if line["case"] == case), key=lambda x: x["seed"])
        for served, suffix in SERVED.items():
            if served not in own[0]:
                continue
            counts[case + suffix] = np.array([line[served]["pages"] for line in own])
            rows[case + suffix] = {
                "seeds": len(own),
                "parameters": own[0]["parameters"],
                "processor seconds": round(np.mean([line["processor_seconds"] for line in own])),
                "test loss": round(np.mean([line[served]["loss"] for line in own]), 3),
            }
    return counts, rows


def resample(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean BLEU over seeds of each draw; the draws depend on the shape alone."""
    rng = np.random.default_rng(0)
    n_seeds, n_pages = counts.shape[:2]
    found = []
    for _ in range(RESAMPLES):
        seeds = rng.integers(n_seeds, size=n_seeds)
        weights = np.bincount(rng.integers(n_pages, size=n_pages), minlength=n_pages)
        sums = np.einsum("p,spc->sc", weights, counts)
        found.append(bleu(sums)[seeds].mean())
    return np.array(found)


def bleu(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return BLEU from matches, n-grams and lengths, (n, 10)."""
    return np.array(
        [
            BLEU.compute_bleu(list(row[:4]), list(row[4:8]), int(row[8]), int(row[9])).score
            for row in sums
        ]
    )


def interval(draws: NDArray[np.float64]) -> str:
    """Return the middle 95 % of the draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"[{low:.2f}, {high:.2f}]"
