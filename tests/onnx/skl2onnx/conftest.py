import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import skl2onnx
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import is_classifier

from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx._skl2onnx.replacements import as_before_an_estimator

TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def _run(model, X):
    """Answers of a converted model, whose inputs have the order of the columns."""
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    if not hasattr(X, "columns"):
        return session.run(None, {"X": X})
    feeds = {}
    for value, name in zip(session.get_inputs(), X.columns, strict=True):
        column = X[name]
        if value.type == "tensor(string)":
            array = column.astype(object).where(column.notna(), "").to_numpy(dtype=object)
        else:
            array = column.to_numpy(dtype=TYPES[value.type])
        feeds[value.name] = array[:, None]
    return session.run(None, feeds)


def _convert(model, X, **options):
    """Convert; skl2onnx reads types off the first row, where a string must be a string."""
    if hasattr(X, "columns"):
        text = [name for name in X if not pd.api.types.is_numeric_dtype(X[name])]
        X = X.astype(dict.fromkeys(text, object)).fillna(dict.fromkeys(text, ""))
    if is_classifier(model):
        options = {"zipmap": False} | options
    key = MoDEClassifier if is_classifier(model) else MoDERegressor
    if not isinstance(model, key) and is_classifier(model):
        key = type(model)
    options = {key: options} if options else None
    # The highest that skl2onnx knows is too high for the oldest onnxruntime that we support.
    return skl2onnx.to_onnx(model, X[:1], options=options, target_opset=18)


def _assert_parity(model, X, atol=1e-5):
    answers = _run(_convert(model, X), X)
    if is_classifier(model):
        assert_array_equal(answers[0], model.predict(X))
        assert_allclose(answers[1], model.predict_proba(X), rtol=0, atol=atol)
    else:
        expected = model.predict(X)
        assert_allclose(
            answers[0].reshape(expected.shape), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )


def _transform(step, X):
    """What the converted step makes of a table."""
    types = []
    for name in X:
        strings = not pd.api.types.is_numeric_dtype(X[name])
        kinds = skl2onnx.common.data_types
        kind = kinds.StringTensorType if strings else kinds.DoubleTensorType
        types.append((name, kind([None, 1])))
    return _run(_convert_step(step, initial_types=types), X)[0]


def _convert_step(step, *args, **params):
    """Convert a step as in front of an estimator."""
    with as_before_an_estimator(float32_input=False):
        return skl2onnx.to_onnx(step, *args, target_opset=18, **params)


@pytest.fixture(scope="session")
def run():
    return _run


@pytest.fixture(scope="session")
def convert():
    return _convert


@pytest.fixture(scope="session")
def assert_parity():
    return _assert_parity


@pytest.fixture(scope="session")
def convert_step():
    return _convert_step


@pytest.fixture(scope="session")
def transform():
    return _transform


@pytest.fixture(scope="session")
def flowers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4)) * [1, 10, 100, 1]
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 5)
