"""The scikit-learn contract: classifier, regressor, parameters, validation, persistence."""

from skmode._estimators.base import RoutingCollapseWarning
from skmode._estimators.classifier import MoDEClassifier
from skmode._estimators.images.classifier import MoDEImageClassifier
from skmode._estimators.images.regressor import MoDEImageRegressor
from skmode._estimators.regressor import MoDERegressor
from skmode._estimators.rows.lessons import TeacherSawRowsWarning
from skmode._estimators.texts.classifier import MoDETextClassifier
from skmode._estimators.texts.regressor import MoDETextRegressor

__all__ = [
    "MoDEClassifier",
    "MoDEImageClassifier",
    "MoDEImageRegressor",
    "MoDERegressor",
    "MoDETextClassifier",
    "MoDETextRegressor",
    "RoutingCollapseWarning",
    "TeacherSawRowsWarning",
]
