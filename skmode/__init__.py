"""Mixtures of distilled experts that scikit-learn users can fit, look into and ship as ONNX."""

import sys

from skmode import _estimators
from skmode._estimators import MoDEClassifier, MoDERegressor, RoutingCollapseWarning
from skmode._version import __version__

__all__ = ["MoDEClassifier", "MoDERegressor", "RoutingCollapseWarning", "__version__"]

# Pickles of 0.1.0 look for the estimators in these modules.
sys.modules["skmode._classifier"] = sys.modules["skmode._regressor"] = _estimators
