"""8-bit experts: smaller, with nearly the same predictions, and refused otherwise."""

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split

import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx import export


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, _ = train_test_split(X, y, random_state=0)
    estimator = MoDEClassifier(
        hidden_layer_sizes=(256, 128), max_epochs=6, batch_size=400, balance=0.1, random_state=0
    )
    return estimator.fit(X_train, y_train), X_train, X_test


def size(folder):
    return sum(path.stat().st_size for path in folder.glob("expert_*.onnx"))


@pytest.mark.parametrize("routing", ["top_expert", pytest.param("mixture", marks=pytest.mark.slow)])
@pytest.mark.parametrize("strategy", ["graph", pytest.param("split", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_digits(strategy, routing, digits, tmp_path):
    if (strategy, routing) == ("split", "mixture"):
        pytest.skip("split serves the top expert")
    estimator, X_train, X_test = digits
    export(estimator, tmp_path / "small", X=X_train, routing=routing, quantize="dynamic")
    export(estimator, tmp_path / "large", routing=routing)
    small, large = (
        skmode_deploy.load(tmp_path / name, strategy=strategy) for name in ("small", "large")
    )
    assert small.manifest.quantization == "dynamic"
    assert large.manifest.quantization is None
    assert size(tmp_path / "small") < 0.3 * size(tmp_path / "large")
    for n_rows in (0, 1, 2, len(X_test)):
        X = X_test[:n_rows]
        assert_allclose(small.predict_proba(X), large.predict_proba(X), rtol=0, atol=0.05)
        assert_array_equal(small.route(X), large.route(X))  # the gate is as before
    assert np.mean(small.predict(X_test) == large.predict(X_test)) > 0.98


@pytest.mark.slow
def test_only_stock_operators(digits, tmp_path):
    estimator, X_train, _ = digits
    export(estimator, tmp_path, X=X_train, quantize="dynamic")
    skmode_deploy.bundle.verify(tmp_path)
    for path in tmp_path.glob("*.onnx"):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert {opset.domain: opset.version for opset in model.opset_import} == {"": 18}
    properties = {item.key: item.value for item in model.metadata_props}
    assert properties["quantization"] == "dynamic"
    # 8 bits in the experts, and nowhere else.
    gate = onnx.load(tmp_path / "gate.onnx")
    assert all(t.data_type != onnx.TensorProto.INT8 for t in gate.graph.initializer)
    expert = onnx.load(tmp_path / "expert_0.onnx")
    assert any(t.data_type == onnx.TensorProto.INT8 for t in expert.graph.initializer)


def test_too_large_difference_raises_and_keeps_the_old_bundle(digits, tmp_path):
    estimator, X_train, _ = digits
    export(estimator, tmp_path / "bundle")
    before = (tmp_path / "bundle" / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match=r"8-bit experts at most 0 of the labels.*quantize=None"):
        export(estimator, tmp_path / "bundle", X=X_train, quantize="dynamic", tolerance=0)
    assert (tmp_path / "bundle" / "manifest.json").read_bytes() == before


def test_regression(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    estimator = MoDERegressor(max_epochs=5, random_state=0, inference="top_expert").fit(X, y)
    export(estimator, tmp_path / "bundle", X=X, quantize="dynamic")
    served = skmode_deploy.load(tmp_path / "bundle").predict(X)
    error = np.sqrt(np.mean((served - estimator.predict(X)) ** 2)) / estimator.target_scale_[0]
    assert 0 < error < 0.02
    with pytest.raises(ValueError, match=r"differ by at most 1e-07 on average"):
        export(estimator, tmp_path / "bundle", X=X, quantize="dynamic", tolerance=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "static"}, r'quantize must be None or "dynamic", got .static.'),
        ({"quantize": "dynamic"}, r"needs rows to compare predictions on, got X=None"),
        ({"tolerance": -1}, r"tolerance must be a number of at least 0, got -1"),
        ({"tolerance": float("nan")}, r"tolerance must be a number of at least 0, got nan"),
    ],
)
def test_wrong_options(options, message, digits, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(digits[0], tmp_path / "bundle", **options)
