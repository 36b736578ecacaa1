"""Mixtures of distilled experts that scikit-learn users can fit, look into and ship as ONNX."""

from skmode._estimators.base import RoutingCollapseWarning
from skmode._estimators.classifier import MoDEClassifier
from skmode._estimators.regressor import MoDERegressor
from skmode._version import __version__

__all__ = ["MoDEClassifier", "MoDERegressor", "RoutingCollapseWarning", "__version__"]
