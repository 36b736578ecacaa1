"""Comparing estimators on the same splits, with tests that know how the splits overlap."""

from skmode.inspection._comparison.compare import compare
from skmode.inspection._comparison.summary import Comparison
from skmode.inspection._comparison.ttest import CorrectedTTest, corrected_resampled_ttest

__all__ = ["Comparison", "CorrectedTTest", "compare", "corrected_resampled_ttest"]
