"""The t-test of paired differences over splits that share training rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[Any]


class CorrectedTTest(NamedTuple):
    """Result of :func:`corrected_resampled_ttest`.

    Attributes
    ----------
    mean : float
        Mean of the differences.
    statistic : float
        The mean divided by its corrected standard error.
    df : int
        Degrees of freedom.
    pvalue : float
        Two-sided p-value: how likely a mean this far from zero is if there is no difference.
    low, high : float
        Confidence interval of the mean.
    """

    mean: float
    statistic: float
    df: int
    pvalue: float
    low: float
    high: float


def corrected_resampled_ttest(
    differences: Any, test_ratio: float, *, confidence: float = 0.95
) -> CorrectedTTest:
    r"""Test whether paired differences over resampled splits have a mean of zero.

    The variance of the mean of :math:`J` differences is taken as
    :math:`(1/J + n_{test}/n_{train}) s^2` instead of :math:`s^2/J`, because the training parts of
    the splits overlap.

    Parameters
    ----------
    differences : array-like of shape (n_splits,)
        Score of one model minus score of the other, one number per split.
    test_ratio : float
        Number of test rows per training row in a split; 0 gives the ordinary paired t-test.
    confidence : float, default=0.95
        Level of the interval, between 0 and 1.

    Returns
    -------
    test : CorrectedTTest
        Two-sided p-value and confidence interval.

    Raises
    ------
    ValueError
        If there are fewer than two differences or one is not finite, `test_ratio` is negative, or
        `confidence` is not between 0 and 1.

    References
    ----------
    Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 2003.

    Examples
    --------
    >>> from skmode.inspection import corrected_resampled_ttest
    >>> test = corrected_resampled_ttest([0.1, 0.3, 0.2, 0.2], test_ratio=1 / 3)
    >>> print(f"{test.mean:.2f} {test.statistic:.3f} {test.pvalue:.4f}")
    0.20 3.207 0.0491
    """
    differences = _check_differences(differences)
    check_confidence(confidence)
    if not (isinstance(test_ratio, int | float | np.number) and 0 <= test_ratio < math.inf):
        raise ValueError(
            f"test_ratio must be a number, zero or more, got {test_ratio!r}: pass the number of "
            "test rows divided by the number of training rows."
        )
    count = len(differences)
    mean, df = float(differences.mean()), count - 1
    if np.ptp(differences) == 0:  # not by the variance, which rounding may leave above zero
        statistic = math.copysign(math.inf, mean) if mean else 0.0
        return CorrectedTTest(mean, statistic, df, 0.0 if mean else 1.0, mean, mean)
    error = math.sqrt(float(np.var(differences, ddof=1)) * (1 / count + test_ratio))
    reach = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    pvalue = float(2 * stats.t.sf(abs(mean / error), df))
    return CorrectedTTest(mean, mean / error, df, pvalue, mean - reach, mean + reach)


def check_confidence(confidence: Any) -> None:
    """Raise a ValueError unless it is a number between 0 and 1."""
    if not (isinstance(confidence, int | float | np.number) and 0 < confidence < 1):
        raise ValueError(
            f"confidence must be between 0 and 1, got {confidence!r}: pass 0.95 for 95 percent."
        )


def _check_differences(given: Any) -> Array:
    differences: Array = np.asarray(given, dtype=float)
    if differences.ndim != 1:
        raise ValueError(
            "differences must be one number per split, got an array of shape "
            f"{differences.shape}: pass the differences of one pair of models."
        )
    if len(differences) < 2:
        raise ValueError(
            f"There must be at least two differences, got {len(differences)}: score both models on "
            "at least two splits."
        )
    if not np.isfinite(differences).all():
        raise ValueError(
            f"differences must be finite numbers, got {differences.tolist()}: leave out splits "
            "without a score."
        )
    return differences
