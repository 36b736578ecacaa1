"""Bundles of thresholds and transformed targets."""

import dataclasses

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RANSACRegressor
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.semi_supervised import SelfTrainingClassifier

import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx import export
from skmode_deploy import bundle
from skmode_deploy.samples import check_samples

PARAMS = {
    "n_experts": 2,
    "hidden_layer_sizes": (6,),
    "max_epochs": 4,
    "batch_size": 1000,
    "learning_rate": 0.05,
    "random_state": 0,
    "inference": "top_expert",
}
CLASSIFY = MoDEClassifier(**PARAMS)
REGRESS = MoDERegressor(**PARAMS)


@pytest.fixture(scope="module")
def rows():
    return pd.DataFrame(np.random.default_rng(0).normal(size=(150, 3)), columns=list("abc"))


@pytest.fixture(scope="module")
def labels(rows):
    return np.where(rows["a"] + rows["b"] > 0, "yes", "no")


def assert_serves(model, X, folder):
    for strategy in ("graph", "split"):
        served = skmode_deploy.load(folder, strategy=strategy)
        expected = model.predict(X)
        if hasattr(model, "predict_proba"):
            assert_array_equal(served.predict(X), expected)
            assert_allclose(served.predict_proba(X), model.predict_proba(X), rtol=0, atol=1e-5)
        else:
            atol = 1e-5 * np.abs(expected).max()
            assert_allclose(served.predict(X), expected, rtol=0, atol=atol)
        check_samples(served)
    return bundle.read(folder)


@pytest.mark.parametrize("positive", ["yes", "no"])
def test_threshold(rows, labels, tmp_path, positive):
    model = FixedThresholdClassifier(CLASSIFY, threshold=0.6, pos_label=positive)
    export(model.fit(rows, labels), tmp_path, X=rows)
    assert (model.predict(rows) != model.estimator_.predict(rows)).any()
    manifest = assert_serves(model, rows, tmp_path)
    assert manifest.threshold == bundle.Threshold(["no", "yes"].index(positive), 0.6)
    card = bundle.read_file(tmp_path, manifest, "README.md").decode()
    assert f"The label is {positive} if its probability is at least 0.6, and" in card
    graph = onnxruntime.InferenceSession(bundle.read_file(tmp_path, manifest, "model.onnx"))
    feeds = {name: rows[[name]].to_numpy(dtype=np.float32) for name in rows}
    assert_array_equal(graph.run(["label"], feeds)[0], model.predict(rows))


@pytest.mark.parametrize("classes", [(0, 1), (False, True), (1.0, 2.0)])
def test_threshold_on_other_labels(rows, labels, tmp_path, classes):
    y = np.array(classes)[(labels == "yes").astype(int)]
    model = FixedThresholdClassifier(CLASSIFY, threshold=0.4).fit(rows, y)
    export(model, tmp_path, X=rows)
    assert_serves(model, rows, tmp_path)


@pytest.mark.slow
def test_threshold_in_other_models(rows, labels, tmp_path):
    y = (labels == "yes").astype(int)
    fixed = FixedThresholdClassifier(CLASSIFY, threshold=0.35)
    for i, model in enumerate(
        (
            TunedThresholdClassifierCV(CLASSIFY, scoring="recall", cv=2),
            make_pipeline(StandardScaler(), fixed),
            GridSearchCV(make_pipeline(StandardScaler(), fixed), {}, cv=2),
            FixedThresholdClassifier(
                RandomizedSearchCV(make_pipeline(StandardScaler(), CLASSIFY), {}, n_iter=1, cv=2),
                threshold=0.6,
            ),
            FixedThresholdClassifier(fixed, threshold=0.55),
            SelfTrainingClassifier(CLASSIFY),
        )
    ):
        model.fit(rows, y)
        export(FrozenEstimator(model), tmp_path / str(i), X=rows)
        assert_serves(model, rows, tmp_path / str(i))
    assert manifest_without_threshold(tmp_path / "5")


def manifest_without_threshold(folder):
    """Bundles without a threshold are written as before, for older releases of skmode-deploy."""
    manifest = bundle.read(folder)
    return (
        manifest.threshold is None and b"threshold" not in (folder / "manifest.json").read_bytes()
    )


def test_threshold_with_8_bits(rows, labels, tmp_path):
    model = FixedThresholdClassifier(CLASSIFY, threshold=0.6, pos_label="yes").fit(rows, labels)
    export(model, tmp_path, X=rows, quantize="dynamic", tolerance=0.2)
    check_samples(skmode_deploy.load(tmp_path))


def test_wrong_threshold_is_noticed(rows, labels, tmp_path):
    model = FixedThresholdClassifier(CLASSIFY, threshold=0.6, pos_label="yes").fit(rows, labels)
    export(model, tmp_path, X=rows)
    manifest = bundle.read(tmp_path)
    files = {name: bundle.read_file(tmp_path, manifest, name) for name in manifest.files}
    moved = dataclasses.replace(manifest, threshold=bundle.Threshold(1, 0.1))
    bundle.write(tmp_path, moved, files)
    with pytest.raises(bundle.BundleError):
        check_samples(skmode_deploy.load(tmp_path, strategy="split"))


TARGETS = {
    "log1p": {"func": np.log1p, "inverse_func": np.expm1},
    "sqrt": {"func": np.sqrt, "inverse_func": np.square},
    "scaler": {"transformer": StandardScaler()},
    "power": {"transformer": PowerTransformer()},
    "quantile": {"transformer": QuantileTransformer(n_quantiles=40, output_distribution="normal")},
    "steps": {"transformer": make_pipeline(FunctionTransformer(np.log, np.exp), StandardScaler())},
}


@pytest.mark.parametrize(
    "target",
    [
        *("log1p", "scaler", "steps"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("sqrt", "power", "quantile")),
    ],
)
@pytest.mark.parametrize("n_outputs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_transformed_target(rows, tmp_path, target, n_outputs):
    y = 1e4 * np.exp(rows[["a", "b"]].to_numpy())
    y = y[:, 0] if n_outputs == 1 else y
    model = TransformedTargetRegressor(make_pipeline(StandardScaler(), REGRESS), **TARGETS[target])
    export(model.fit(rows, y), tmp_path, X=rows)
    assert_serves(model, rows, tmp_path)


@pytest.mark.slow
def test_transformed_target_in_other_models(rows, tmp_path):
    y = np.exp(rows["a"]).to_numpy()
    inner = TransformedTargetRegressor(REGRESS, func=np.log, inverse_func=np.exp)
    for i, model in enumerate(
        (
            GridSearchCV(make_pipeline(StandardScaler(), inner), {}, cv=2),
            TransformedTargetRegressor(inner, transformer=StandardScaler()),
            RANSACRegressor(inner, min_samples=100, residual_threshold=9.0, random_state=0),
        )
    ):
        target = y if i != 1 else y + 100
        if i == 1:
            model.set_params(transformer=FunctionTransformer(np.sqrt, np.square))
        export(model.fit(rows, target), tmp_path / str(i), X=rows)
        assert_serves(model, rows, tmp_path / str(i))
    export(model, tmp_path / "mixture", X=rows, routing="mixture")


def test_target_that_has_no_form(rows, tmp_path):
    y = np.exp(rows["a"]).to_numpy()
    model = TransformedTargetRegressor(REGRESS, func=np.log, inverse_func=np.exp).fit(rows, y)
    model.transformer_.inverse_func = lambda y: np.exp(y)
    with pytest.raises(NotImplementedError, match="must be a known one of numpy .* got '<lambda>'"):
        export(model, tmp_path / "bundle", X=rows)
    assert not (tmp_path / "bundle").exists()
