"""Scores of splits summed up: means, intervals, tests and effect sizes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from skmode.inspection._comparison.ttest import corrected_resampled_ttest

Array = NDArray[Any]

# Scores that differ by less than this share of the largest one differ only by rounding.
ROUNDING = 1e-10


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """Result of :func:`compare`.

    Attributes
    ----------
    scores : DataFrame
        One row per split, one column per estimator. Higher scores are better.
    summary : DataFrame
        One row per estimator: `mean` and `std` over the splits, and `low` and `high`, the
        corrected confidence interval of the mean.
    pairs : DataFrame
        One row per pair of estimators, `first` and `second`:

        - `difference`, the mean score of the first minus that of the second, with its corrected
          confidence interval from `low` to `high`;
        - `t` and `t_pvalue` of the corrected resampled t-test, and `t_pvalue_holm`, corrected for
          the number of pairs by Holm's method;
        - `wilcoxon` and `wilcoxon_pvalue` of the signed-rank test, which takes the splits as
          independent, so its p-value is too small;
        - the effect sizes `cohens_d` (the mean difference in standard deviations of the
          differences) and `rank_biserial` (from -1 to 1);
        - `wins`, `ties` and `losses` of the first over the splits.

        Scores that differ only by rounding count as equal, and such a split as a tie.
    test_ratio : float
        Mean number of test rows per training row.
    confidence : float
        Level of the intervals.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    pairs: pd.DataFrame
    test_ratio: float
    confidence: float

    def __repr__(self) -> str:
        lines = [
            f"{pair.first} - {pair.second}: {pair.difference:.4g} "
            f"[{pair.low:.4g}, {pair.high:.4g}], p = {pair.t_pvalue_holm:.3g}"
            for pair in self.pairs.itertuples()
        ]
        return f"<Comparison on {len(self.scores)} splits. {'; '.join(lines)}>"


def summarize(scores: pd.DataFrame, test_ratio: float, confidence: float) -> Comparison:
    """Add means, intervals and tests to scores of shape (n_splits, n_estimators)."""
    of_means = {
        name: corrected_resampled_ttest(column, test_ratio, confidence=confidence)
        for name, column in scores.items()
    }
    summary = pd.DataFrame(
        {
            "mean": scores.mean(),
            "std": scores.std(ddof=1),
            "low": {name: found.low for name, found in of_means.items()},
            "high": {name: found.high for name, found in of_means.items()},
        }
    ).rename_axis("estimator")
    pairs = pd.DataFrame(
        [
            {"first": first, "second": second}
            | _tests(_differences(scores[first], scores[second]), test_ratio, confidence)
            for first, second in itertools.combinations(scores.columns, 2)
        ]
    )
    place = pairs.columns.get_loc("t_pvalue") + 1
    pairs.insert(place, "t_pvalue_holm", holm(pairs["t_pvalue"]))
    return Comparison(scores, summary, pairs, test_ratio, confidence)


def _differences(first: pd.Series, second: pd.Series) -> Array:
    """Subtract second from first, and make sizes equal that differ only by rounding.

    Accuracies are counts divided by the number of rows, so many differences have the same size.
    As binary fractions they differ slightly, and tests of ranks would find an order in that.
    """
    differences = (first - second).to_numpy(dtype=float)
    rounding = ROUNDING * max(first.abs().max(), second.abs().max())
    sizes = np.unique(np.abs([0.0, *differences]))
    # A size that is larger than the one before it by rounding alone is the same size.
    starts = np.insert(np.diff(sizes) > rounding, 0, True)
    same = sizes[starts][np.cumsum(starts) - 1]
    snapped = same[np.searchsorted(sizes, np.abs(differences))]
    return np.asarray(np.sign(differences) * snapped)


def _tests(differences: Array, test_ratio: float, confidence: float) -> dict[str, Any]:
    found = corrected_resampled_ttest(differences, test_ratio, confidence=confidence)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    statistic, pvalue = 0.0, 1.0
    if wins + losses:
        wilcoxon = stats.wilcoxon(differences)
        statistic, pvalue = float(wilcoxon.statistic), float(wilcoxon.pvalue)
    return {
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "t": found.statistic,
        "t_pvalue": found.pvalue,
        "wilcoxon": statistic,
        "wilcoxon_pvalue": pvalue,
        "cohens_d": _cohens_d(differences),
        "rank_biserial": _rank_biserial(differences),
        "wins": wins,
        "ties": len(differences) - wins - losses,
        "losses": losses,
    }


def _cohens_d(differences: Array) -> float:
    mean = float(differences.mean())
    if np.ptp(differences) == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / float(differences.std(ddof=1))


def _rank_biserial(differences: Array) -> float:
    """Return the first's share of the ranks minus the second's, from -1 to 1."""
    moved = differences[differences != 0]
    if not len(moved):
        return 0.0
    ranks = stats.rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def holm(pvalues: Any) -> Array:
    """Correct p-values for their number by Holm's step-down method."""
    pvalues = np.asarray(pvalues, dtype=float)
    order = np.argsort(pvalues)
    stepped = np.maximum.accumulate(pvalues[order] * np.arange(len(pvalues), 0, -1))
    corrected: Array = np.empty_like(pvalues)
    corrected[order] = stepped.clip(max=1.0)
    return corrected
