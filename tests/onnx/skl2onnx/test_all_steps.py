"""Every step of scikit-learn that skl2onnx converts, on each type of numbers."""

import re

import numpy as np
import onnxruntime
import pytest
from numpy.testing import assert_allclose
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import KernelPCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.impute import MissingIndicator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    PolynomialFeatures,
    PowerTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.random_projection import GaussianRandomProjection
from sklearn.utils import all_estimators

from skmode import MoDEClassifier
from skmode.onnx import export
from skmode.onnx._skl2onnx.replacements import can_convert

# Every step that scikit-learn has; test_steps.py has those that are used most.
pytestmark = pytest.mark.slow

# These read no rows of numbers, or return none.
OTHERS = (
    "CountVectorizer|DictVectorizer|FeatureHasher|HashingVectorizer|Kernel(Centerer)|Label.*|MultiLabel.*"
    "|PLS.*|CCA|TfidfVectorizer|Stacking.*|Voting.*"
)
# All others are made without arguments.
FORMS = {
    "ColumnTransformer": ColumnTransformer([("scaled", StandardScaler(), [2, 0])]),
    "FeatureUnion": FeatureUnion([("a", StandardScaler()), ("b", PolynomialFeatures(2))]),
    "GaussianRandomProjection": GaussianRandomProjection(2, random_state=0),
    "KernelPCA": KernelPCA(2, kernel="rbf"),
    "MissingIndicator": MissingIndicator(features="all"),
    "RFE": RFE(LogisticRegression()),
    "RFECV": RFECV(LogisticRegression()),
    "SelectFromModel": SelectFromModel(LogisticRegression()),
    "SequentialFeatureSelector": SequentialFeatureSelector(LogisticRegression(), cv=2),
}
CLASSES = {
    name: kind
    for name, kind in all_estimators(type_filter="transformer")
    if can_convert(kind) and not re.fullmatch(OTHERS, name)
}
# What is refused, and the words after the name of the step.
REFUSED = {
    ("KNNImputer", "float64"): "must get float32 numbers .* got Double.* X.astype\\(np.float32\\)",
    ("KNNImputer", "int64"): "must get float32 numbers .* got Int64.* X.astype\\(np.float32\\)",
    ("LinearDiscriminantAnalysis", ""): "converts the predictions alone: replace it",
    ("RandomTreesEmbedding", ""): "gets outputs of its own: replace it",
}
ESTIMATOR = MoDEClassifier(
    n_experts=2, hidden_layer_sizes=(6,), max_epochs=4, learning_rate=0.05, random_state=0
)


def rows(dtype):
    X = np.random.default_rng(0).lognormal(size=(90, 4)).round(3)
    return (10 * X).astype(dtype) if dtype == "int64" else X.astype(dtype)


def answers(model, X, **types):
    options = {MoDEClassifier: {"zipmap": False}}
    converted = to_onnx(model, options=options, target_opset=18, **(types or {"X": X[:1]}))
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    return session.run(["probabilities"], {"X": X})[0]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.filterwarnings("ignore")
def test_step(name, dtype):
    X = rows(dtype)
    y = (X[:, 0] > X[:, 1]).astype(int)
    model = make_pipeline(FORMS.get(name) or CLASSES[name](), ESTIMATOR).fit(X, y)
    refused = REFUSED.get((name, dtype)) or REFUSED.get((name, ""))
    if refused:
        with pytest.raises((TypeError, NotImplementedError), match=f"{name}.* {refused}"):
            answers(model, X)
        return
    X = X[:1] if name == "KNeighborsTransformer" else X  # of equally far rows any may be nearest
    assert_allclose(answers(model, X), model.predict_proba(X), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "step",
    [
        PolynomialFeatures(3),
        PowerTransformer(),
        PowerTransformer(method="box-cox"),
        TargetEncoder(),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_declared_as_float64(step):
    X = rows("float64")
    model = make_pipeline(step, ESTIMATOR).fit(X, (X[:, 0] > 1).astype(int))
    found = answers(model, X, initial_types=[("X", DoubleTensorType([None, 4]))])
    assert_allclose(found, model.predict_proba(X), rtol=0, atol=1e-5)


def test_steps_inside_others_are_refused_by_name():
    X = rows("float64")
    y = (X[:, 0] > 1).astype(int)
    parts = ColumnTransformer([("lda", LinearDiscriminantAnalysis(), [0, 1])])
    for step in (parts, FeatureUnion([("a", parts)]), make_pipeline(StandardScaler(), parts)):
        model = make_pipeline(step, ESTIMATOR).fit(X, y)
        for call in (answers, lambda *args: export(*args[:1], "unused", X=args[1])):
            with pytest.raises(NotImplementedError, match="got LinearDiscriminantAnalysis, of"):
                call(model, X)
