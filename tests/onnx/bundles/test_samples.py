"""The made-up sample rows of an export, with the estimator's predictions."""

import functools
import itertools
import json
import logging

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skmode_deploy
from skmode import MoDEClassifier
from skmode.onnx import export
from skmode.onnx._bundles import samples as _samples
from skmode_deploy import bundle
from skmode_deploy.cli import main
from skmode_deploy.errors import SampleMismatchError
from skmode_deploy.samples import check_samples, read_samples

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning"),
    pytest.mark.filterwarnings("ignore:Each expert should get some rows"),
]


def exported(folder, *args, **options):
    """Export; give sample rows and manifest, and let every way to serve answer the rows."""
    export(*args, folder, **options)
    predictor = skmode_deploy.load(folder)
    check_samples(predictor)
    if predictor.manifest.routing == "top_expert":
        check_samples(skmode_deploy.load(folder, strategy="split"))
    return read_samples(folder, predictor.manifest), predictor.manifest


def test_sample_predictions_come_from_the_estimator(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, inference="top_expert")
    samples, manifest = exported(tmp_path, estimator)
    assert "samples.json" in manifest.files
    assert (samples.n_rows, samples.source) == (32, "estimator")
    X = samples.inputs["X"]
    assert_array_equal(samples.outputs["label"], estimator.predict(X))
    assert_allclose(samples.outputs["probabilities"], estimator.predict_proba(X), atol=1e-6)
    assert_array_equal(samples.outputs["expert"], estimator.route(X))
    gate = estimator.gate_proba(X).max(axis=1)
    assert_allclose(samples.outputs["gate_probability"], gate, atol=1e-6)


def test_rows_are_made_up(array, fit_classifier, tmp_path):
    samples, _ = exported(tmp_path, fit_classifier(array))
    X = samples.inputs["X"]
    assert np.isnan(X).any(axis=0).all()  # training missed some of each column
    known = ~np.isnan(X)
    low, high = np.nanmin(array, axis=0), np.nanmax(array, axis=0)
    share = (X - low) / (high - low)
    assert np.nanmin(share) >= -1e-6
    assert np.nanmax(share) <= 1 + 1e-6
    assert (np.nanmax(share, axis=0) - np.nanmin(share, axis=0) > 0.8).all()
    assert not np.isin(X[known], array.astype("f4")).any()


def test_rows_lie_clearly_with_one_expert_and_one_class(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, n_experts=8, inference="top_expert")
    samples, _ = exported(tmp_path, estimator)
    X = samples.inputs["X"]
    for probabilities in (estimator.gate_proba(X), estimator.predict_proba(X)):
        second, first = np.sort(probabilities, axis=1)[:, -2:].T
        assert (first - second >= 1e-3).all()


def test_rows_between_two_experts_are_left_out(array, fit_classifier, tmp_path, monkeypatch):
    """Most rows are between two experts, so more are drawn."""
    estimator = fit_classifier(array)
    monkeypatch.setattr(_samples, "CLEAR", 0.5)
    samples, _ = exported(tmp_path, estimator)
    gate = np.sort(estimator.gate_proba(samples.inputs["X"]), axis=1)
    assert samples.n_rows >= 1
    assert (gate[:, -1] - gate[:, -2] >= 0.5).all()


@pytest.mark.parametrize("form", ["pandas", "polars", "with X"])
def test_table(form, table, fit_classifier, tmp_path):
    train = table
    if form == "polars":
        train = pl.from_pandas(table.assign(plan=table["plan"].astype(float)))
    samples, manifest = exported(
        tmp_path, fit_classifier(train), **({"X": train} if form == "with X" else {})
    )
    assert list(samples.inputs) == [column.input for column in manifest.columns]
    city = samples.inputs["city"][:, 0]
    known = {"Bern", "Köln", "Łódź", "a b/c"}
    assert (city == "").any()
    assert len(known & set(city)) >= 2
    strings = np.concatenate([city, samples.inputs["label_input"][:, 0]])
    assert sum(text not in known | {"", "x", "y"} for text in strings) >= 1
    assert np.isnan(samples.inputs["age"]).any()
    if form == "with X":  # whose types are known
        assert set(samples.inputs["member"][:, 0]) == {0, 1}


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
def test_regressor(routing, n_outputs, array, fit_regressor, tmp_path):
    estimator = fit_regressor(array, n_outputs, inference=routing)
    samples, _ = exported(tmp_path, estimator, routing=routing)
    expected = estimator.predict(samples.inputs["X"]).reshape(32, n_outputs)
    assert_allclose(samples.outputs["variable"], expected, rtol=1e-5, atol=1e-5)
    assert_allclose(samples.tolerance["variable"], 1e-4 * estimator.target_scale_, rtol=0.1)


def test_a_target_far_from_zero(array, tmp_path):
    """The float32 steps of such targets exceed 1e-4 standard deviations; the export warns."""
    from skmode import MoDERegressor

    y = np.random.default_rng(0).normal(3e4, 1, len(array))
    estimator = MoDERegressor(n_experts=2, max_epochs=1, random_state=0).fit(array, y)
    with pytest.warns(UserWarning, match="float32"):
        samples, _ = exported(tmp_path, estimator)
    assert samples.tolerance["variable"][0] < 0.05


@pytest.mark.parametrize("classes", [[False, True], [1.0, 2.0], [7, 9], ["a", "b"]])
def test_labels_of_every_type(classes, array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, classes)
    samples, manifest = exported(tmp_path, estimator)
    labels = samples.outputs["label"]
    if manifest.classes.label == "index":
        labels = np.asarray(classes)[labels]
    assert_array_equal(labels, estimator.set_params(inference="top_expert").predict(
        samples.inputs["X"]))  # fmt: skip


def test_array_with_strings(fit_classifier, tmp_path):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=200), rng.choice(["a", "b"], 200)]).astype(object)
    X[:, 0] = X[:, 0].astype(float)
    X[::9, 1] = None
    samples, _ = exported(tmp_path, fit_classifier(X, categorical_features=[1]))
    assert set(samples.inputs["x1"][:, 0]) == {"", "a", "b", "unseen"}


def test_samples_of_8_bit_weights_come_from_the_graph(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array)
    options = {"X": array, "quantize": "dynamic", "tolerance": 1}
    samples, _ = exported(tmp_path, estimator, **options)
    assert samples.source == "graph"
    assert samples.n_rows > 16
    assert samples.tolerance["probabilities"] == (1e-2,)
    feeds = {"X": samples.inputs["X"]}
    (found,) = skmode_deploy.load(tmp_path)._strategy.run(["probabilities"], feeds)
    assert_array_equal(found, samples.outputs["probabilities"])


def test_samples_detect_another_model(array, fit_classifier, tmp_path):
    """Sample rows of one model, graphs of another."""
    export(fit_classifier(array), tmp_path / "one")
    export(fit_classifier(array, random_state=1), tmp_path / "two")
    manifest = bundle.read(tmp_path / "two")
    files = {name: bundle.read_file(tmp_path / "two", manifest, name) for name in manifest.files}
    files["samples.json"] = (tmp_path / "one" / "samples.json").read_bytes()
    bundle.write(tmp_path / "two", manifest, files)
    with pytest.raises(SampleMismatchError, match="must get the predictions of the export"):
        check_samples(skmode_deploy.load(tmp_path / "two"))


def test_verify_on_the_command_line(array, fit_classifier, tmp_path, capsys):
    export(fit_classifier(array), tmp_path / "one")
    assert main(["verify", str(tmp_path / "one")]) == 0
    out = capsys.readouterr().out
    assert ": 7 files verified, " in out
    assert out.endswith(" bytes, 32 sample rows match the model's predictions\n")


def test_the_same_estimator_gives_the_same_rows(table, fit_classifier, tmp_path):
    estimator = fit_classifier(table)
    for name in ("one", "two"):
        export(estimator, tmp_path / name)
    contents = [(tmp_path / name / "samples.json").read_bytes() for name in ("one", "two")]
    assert contents[0] == contents[1]
    json.loads(contents[0], parse_constant=pytest.fail)  # no NaN


# Pipelines, whose steps may refuse such rows.


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "age": rng.integers(18, 90, 200).astype(float),
            "city": rng.choice(["Bern", "Köln"], 200),
            "children": rng.integers(0, 5, 200),
        }
    )
    X.loc[::7, "age"] = np.nan
    return X, np.where(X["city"] == "Bern", "yes", "no")


def make(handle_unknown, *numeric):
    columns = make_column_transformer(
        (make_pipeline(*numeric), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown=handle_unknown, sparse_output=False), ["city"]),
    )
    return make_pipeline(columns, MoDEClassifier(n_experts=2, max_epochs=3, random_state=0))


def test_pipeline(mixed, tmp_path):
    X, y = mixed
    pipeline = make("ignore", SimpleImputer(), StandardScaler()).fit(X, y)
    samples, _ = exported(tmp_path, pipeline, X=X)
    assert {"Bern", "Köln", "unseen"} == set(samples.inputs["city"][:, 0])
    assert np.isnan(samples.inputs["age"]).any()
    children = samples.inputs["children"]
    assert_array_equal(children, np.round(children))  # as the column of integers that it is


def test_pipeline_with_encoder_of_missing_categories(mixed, tmp_path, caplog):
    X, y = mixed
    city = X["city"].astype(object).where(np.arange(len(X)) % 9 > 0, None)
    pipeline = make("ignore", SimpleImputer(), StandardScaler())
    pipeline.fit(X.assign(city=city), y)
    samples, _ = exported(tmp_path, pipeline, X=X.assign(city=city))
    assert {"", "Bern", "Köln", "unseen"} == set(samples.inputs["city"][:, 0])
    assert not caplog.records


def test_pipeline_that_refuses_unseen_categories(mixed, tmp_path, caplog):
    X, y = mixed
    pipeline = make("error", SimpleImputer(), StandardScaler()).fit(X, y)
    with caplog.at_level(logging.INFO, "skmode"):
        samples, _ = exported(tmp_path, pipeline, X=X)
    assert set(samples.inputs["city"][:, 0]) == {"Bern", "Köln"}
    assert np.isnan(samples.inputs["age"]).any()
    assert not caplog.records


def test_pipeline_that_refuses_all_made_up_rows(mixed, tmp_path, caplog, monkeypatch):
    X, y = mixed
    pipeline = make("ignore", SimpleImputer(), StandardScaler()).fit(X, y)
    known = set(X["age"].dropna())
    transform = SimpleImputer.transform

    def fussy(self, X):
        if not set(X["age"].dropna()) <= known:
            raise ValueError("such an age is unheard of")
        return transform(self, X)

    monkeypatch.setattr(SimpleImputer, "transform", fussy)
    export(pipeline, tmp_path, X=X)
    manifest = bundle.verify(tmp_path)
    assert "samples.json" not in manifest.files
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage().startswith("The bundle gets no samples.json")
    assert "such an age is unheard of" in record.getMessage()


@pytest.fixture
def mismatches(monkeypatch):
    """Let the first sample rows, so many times, get other predictions from the graph."""

    def set_number(n):
        calls = itertools.count()

        def check(predictor):
            if next(calls) < n:
                raise SampleMismatchError("label of row 0 must be 1, got 2: export the model again")

        monkeypatch.setattr(_samples, "check_samples", check)

    return set_number


@pytest.mark.parametrize("n", [1, 2])
def test_pipeline_with_other_predictions_on_unusual_rows(mixed, tmp_path, caplog, mismatches, n):
    X, y = mixed
    mismatches(n)
    export(make("ignore", SimpleImputer(), StandardScaler()).fit(X, y), tmp_path, X=X)
    samples = read_samples(tmp_path, bundle.verify(tmp_path))
    assert set(samples.inputs["city"][:, 0]) == {"Bern", "Köln"}
    assert np.isnan(samples.inputs["age"]).any() == (n == 1)
    assert caplog.text.count("SampleMismatchError") == n


def test_pipeline_with_other_predictions_on_all_rows(mixed, tmp_path, mismatches):
    X, y = mixed
    pipeline = make("ignore", SimpleImputer(), StandardScaler()).fit(X, y)
    mismatches(3)
    message = r"for made-up rows, too\. label of row 0 must be 1, got 2: skl2onnx converts a step"
    with pytest.raises(ValueError, match=message):
        export(pipeline, tmp_path / "bundle", X=X)
    assert not (tmp_path / "bundle").exists()


def test_a_graph_with_other_predictions_raises(array, fit_classifier, tmp_path):
    """As after a defect in a converter; every server would refuse such a bundle."""
    estimator = fit_classifier(array)
    export(estimator, tmp_path)
    before = (tmp_path / "model.onnx").read_bytes()
    original = type(estimator).predict_proba

    class Other(type(estimator)):
        def predict_proba(self, X):
            return original(self, X)[:, ::-1]

    estimator.__class__ = Other
    message = r"model predicts, for made-up rows, too\. .* of row 0 must be .*, got .*: scale numb"
    with pytest.raises(ValueError, match=message):
        export(estimator, tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == before
    check_samples(skmode_deploy.load(tmp_path))


class ElseTraced(torch.nn.Linear):
    """A module of the user that computes something else while it is traced."""

    def forward(self, x):
        return super().forward(-x if torch.compiler.is_compiling() else x)


@pytest.mark.parametrize("with_X", [False, True])
def test_modules_of_the_user_are_named(array, fit_classifier, tmp_path, with_X):
    expert_module = functools.partial(ElseTraced, out_features=4)
    estimator = fit_classifier(array, expert_module=expert_module, n_experts=2)
    with pytest.raises(ValueError, match=r"module of your own \(expert_module\) must treat each"):
        export(estimator, tmp_path / "bundle", X=array if with_X else None)
    assert not (tmp_path / "bundle").exists()
