"""Comparing estimators on the same splits, with tests that know how the splits overlap."""

from skmode.inspection._compare.compare import compare
from skmode.inspection._compare.summary import Comparison
from skmode.inspection._compare.ttest import CorrectedTTest, corrected_resampled_ttest

# Pickles of 0.1.0 look for results in this module.
__all__ = ["Comparison", "CorrectedTTest", "compare", "corrected_resampled_ttest"]
