"""Mixtures of distilled experts that scikit-learn users can fit, look into and ship as ONNX."""

import sys

from skmode import _estimators
from skmode._common.versions import show_versions
from skmode._estimators import (
    MoDEClassifier,
    MoDEImageClassifier,
    MoDEImageRegressor,
    MoDERegressor,
    MoDETextClassifier,
    MoDETextRegressor,
    RoutingCollapseWarning,
    TeacherSawRowsWarning,
)
from skmode._training.process.ranks import fit_alone
from skmode._version import __version__

__all__ = [
    "MoDEClassifier",
    "MoDEImageClassifier",
    "MoDEImageRegressor",
    "MoDERegressor",
    "MoDETextClassifier",
    "MoDETextRegressor",
    "RoutingCollapseWarning",
    "TeacherSawRowsWarning",
    "__version__",
    "fit_alone",
    "show_versions",
]

# Pickles of 0.1.0 look for classes in these modules.
for _name in ("_base", "_classifier", "_regressor"):
    sys.modules[f"{__name__}.{_name}"] = _estimators
