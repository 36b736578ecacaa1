"""Weights reach the step that takes them."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.inspection._evaluation import weights


def test_weights_go_to_the_last_step():
    weight = np.ones(3)
    pipeline = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), MoDEClassifier()))
    name = "pipeline__modeclassifier__sample_weight"
    assert list(weights.weight_arguments(pipeline, weight)) == [name]
    assert list(weights.weight_arguments(GridSearchCV(pipeline, {}), weight)) == [name]
    target = TransformedTargetRegressor(MoDERegressor())
    assert list(weights.weight_arguments(target, weight)) == ["sample_weight"]
    with pytest.raises(TypeError, match="got KNeighborsClassifier, whose fit does not: choose"):
        weights.weight_arguments(make_pipeline(KNeighborsClassifier()), weight)
