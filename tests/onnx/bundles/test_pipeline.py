"""Pipelines as bundles."""

import numpy as np
import onnx
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnx.reference import ReferenceEvaluator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, SequentialFeatureSelector, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.datasets import fetch_churn, fetch_rdatasets
from skmode.onnx import export
from skmode.onnx._bundles.checks import parity as _parity
from skmode_deploy import bundle

PARAMS = {
    "n_experts": 3,
    "hidden_layer_sizes": (8,),
    "max_epochs": 2,
    "batch_size": 200,
    "random_state": 0,
    "inference": "top_expert",
}


def classifier(**params):
    return MoDEClassifier(**PARAMS | params)


@pytest.fixture(scope="module")
def frame():
    """Columns of all kinds, with awkward names."""
    rng = np.random.default_rng(0)
    n = 150
    table = pd.DataFrame(
        {
            "a b.c": rng.normal(size=n) * 100,
            "größe": rng.integers(0, 5, n),
            "label": rng.choice(["x", "y", "z"], n),
            "flag": rng.random(n) < 0.5,
            "variable": 1.7e9 + rng.integers(0, 10**6, n),
            "float32": rng.normal(size=n).astype(np.float32),
            "nullable": pd.array(rng.integers(0, 9, n), dtype="Int64"),
            "codes": pd.Categorical(rng.choice([1, 2, 30], n)),
            "categorical": pd.Categorical(rng.choice(["u", "v"], n)),
            "objects": rng.choice(np.array(["q", "r", None], dtype=object), n),
        }
    )
    table.loc[::7, "a b.c"] = np.nan
    table.loc[::5, "categorical"] = np.nan
    table.loc[::9, "nullable"] = pd.NA
    return table


@pytest.fixture(scope="module")
def target(frame):
    return np.where(frame["größe"] > 2, "many", "few")


NUMBERS = ["a b.c", "größe", "flag", "variable", "float32"]
TEXT = ["label", "codes", "categorical", "objects"]


def mixed():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), [*NUMBERS, "nullable"]),
        (OneHotEncoder(handle_unknown="ignore"), TEXT),
    )


def assert_serves(pipeline, X, folder, X_test=None):
    X_test = X if X_test is None else X_test
    export(pipeline, folder, X=X)
    for strategy in ("graph", "split"):
        served = skmode_deploy.load(folder, strategy=strategy)
        if hasattr(pipeline, "predict_proba"):
            expected = pipeline.predict_proba(X_test)
            assert_allclose(served.predict_proba(X_test), expected, rtol=0, atol=1e-5)
            assert_array_equal(served.predict(X_test), pipeline.predict(X_test))
        else:
            expected = pipeline.predict(X_test)
            tolerance = 1e-5 * np.abs(expected).max()
            assert_allclose(served.predict(X_test), expected, rtol=0, atol=tolerance)
    return bundle.read(folder)


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=pytest.mark.slow) for k in ("churn", "credit", "ames")]
)
def test_real_tables(name, split_real, tmp_path):
    """Missing values, and held-out rows with categories that training did not see."""
    X, y = {
        "churn": lambda: fetch_churn(return_X_y=True),
        "credit": lambda: fetch_rdatasets(
            "modeldata", "credit_data", target="Status", return_X_y=True
        ),
        "ames": lambda: fetch_rdatasets("modeldata", "ames", target="Sale_Price", return_X_y=True),
    }[name]()
    X, X_test, y, _ = split_real(X, y)
    text = list(X.select_dtypes("category"))
    numbers = [column for column in X if column not in text]
    half = len(text) // 2
    steps = make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers[:4]),
        (StandardScaler(), numbers[4:]),
        (OneHotEncoder(handle_unknown="ignore"), text[:half]),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), text[half:]),
    )
    estimator = MoDERegressor(**PARAMS) if name == "ames" else classifier()
    pipeline = make_pipeline(steps, estimator).fit(X, y)
    manifest = assert_serves(pipeline, X, tmp_path / "bundle", X_test)
    assert [column.name for column in manifest.columns] == list(X)
    column = manifest.columns[list(X).index(text[0])]
    assert set(column.categories) == set(X[text[0]].dropna())
    column = manifest.columns[list(X).index(numbers[0])]
    assert (column.minimum, column.maximum) == (X[numbers[0]].min(), X[numbers[0]].max())
    for file in ("model.onnx", "gate.onnx"):
        model = onnx.load_from_string(bundle.read_file(tmp_path / "bundle", manifest, file))
        onnx.checker.check_model(model, full_check=True)
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        assert opsets == {"": 18, "ai.onnx.ml": 3}
        assert model.ir_version == 8
        assert [value.name for value in model.graph.input] == list(X)


def test_all_kinds_of_columns(frame, target, tmp_path):
    pipeline = make_pipeline(mixed(), classifier()).fit(frame, target)
    manifest = assert_serves(pipeline, frame, tmp_path / "bundle")
    columns = {column.name: column for column in manifest.columns}
    assert columns["label"].input == "label_input"
    assert columns["variable"].input == "variable_input"
    assert columns["a b.c"].input == "a b.c"
    assert columns["a b.c"].has_missing
    assert columns["float32"].dtype == "float32"
    assert columns["flag"].dtype == columns["codes"].dtype == "float64"
    assert (columns["codes"].minimum, columns["codes"].maximum) == (1, 30)
    assert columns["objects"].categories == ("q", "r")
    assert columns["objects"].has_missing


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        PCA(3),
        SelectKBest(k=3),
        VarianceThreshold(),
        MinMaxScaler(),
        RobustScaler(),
        QuantileTransformer(n_quantiles=20),
        PowerTransformer(),
        PolynomialFeatures(2),
        FunctionTransformer(),
        FunctionTransformer(np.tanh),
        SplineTransformer(4),
        QuantileTransformer(n_quantiles=20, output_distribution="normal"),
        SequentialFeatureSelector(LogisticRegression(), n_features_to_select=1, cv=2),
        FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())]),
        make_pipeline(StandardScaler(), PCA(2)),
        "passthrough",
    ],
    ids=repr,
)
def test_further_steps(frame, target, step, tmp_path):
    assert_serves(
        make_pipeline(mixed(), step, classifier()).fit(frame, target), frame, tmp_path / "bundle"
    )


def test_passthrough_and_dropped_columns(frame, target, tmp_path):
    steps = make_column_transformer(("passthrough", NUMBERS), ("drop", TEXT), remainder="drop")
    manifest = assert_serves(
        make_pipeline(steps, classifier()).fit(frame, target), frame, tmp_path / "bundle"
    )
    assert [column.name for column in manifest.columns] == list(frame)


def test_estimator_trained_on_the_dataframe_output_of_the_steps(frame, target, tmp_path):
    steps = make_column_transformer(
        (StandardScaler(), NUMBERS),
        (OrdinalEncoder(), ["label"]),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    pipeline = make_pipeline(steps, classifier(categorical_features=["label"])).fit(frame, target)
    assert_serves(pipeline, frame, tmp_path / "bundle")


@pytest.mark.slow
def test_strings_that_are_passed_to_the_estimator(frame, target, tmp_path):
    """Numbers are scaled, and the strings become the estimator's own categories."""
    steps = make_column_transformer((StandardScaler(), NUMBERS), remainder="passthrough")
    steps.set_output(transform="pandas")
    pipeline = make_pipeline(steps, classifier(categorical_features="from_dtype"))
    X_test = frame.copy()
    X_test.loc[3, "label"], X_test.loc[4, "objects"] = "unseen", None
    # The categories of training are known although X is a part of it.
    few = frame[frame["label"] != "z"].reset_index(drop=True)
    manifest = assert_serves(pipeline.fit(frame, target), few, tmp_path / "bundle", X_test)
    columns = {column.name: column for column in manifest.columns}
    assert columns["label"].categories == ("x", "y", "z")
    assert columns["objects"].categories == ("q", "r")
    assert columns["float32"].categories is None
    named = steps.set_params(verbose_feature_names_out=False)
    estimator = classifier(categorical_features=["label", "categorical", "objects"])
    pipeline = make_pipeline(named, estimator)
    assert_serves(pipeline.fit(frame, target), frame, tmp_path / "named", X_test)
    export(pipeline, tmp_path / "quantized", X=frame, quantize="dynamic", tolerance=1)


def test_strings_of_a_polars_table(frame, target, tmp_path):
    X = pl.DataFrame({name: frame[name].to_list() for name in ("größe", "float32", "label")})
    steps = make_column_transformer((StandardScaler(), [0, 1]), remainder="passthrough")
    pipeline = make_pipeline(steps.set_output(transform="polars"), classifier())
    pipeline[-1].set_params(categorical_features="from_dtype")
    assert_serves(pipeline.fit(X, target), X, tmp_path / "bundle")


def test_categories_equal_in_float32(frame, target, tmp_path):
    X = frame[["float32"]].assign(code=np.where(frame["flag"], 1.0, 1 + 1e-12))
    steps = make_column_transformer((StandardScaler(), ["float32"]), ("passthrough", ["code"]))
    steps.set_params(verbose_feature_names_out=False).set_output(transform="pandas")
    pipeline = make_pipeline(steps, classifier(categorical_features=["code"])).fit(X, target)
    with pytest.raises(ValueError, match="must differ as float32 numbers, .* OrdinalEncoder"):
        export(pipeline, tmp_path / "bundle", X=X)


def test_array(frame, target, tmp_path):
    X = frame[NUMBERS].drop(columns="variable").to_numpy(dtype=float)
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), classifier()).fit(X, target)
    manifest = assert_serves(pipeline, X, tmp_path / "bundle")
    assert manifest.input == "array"
    assert not manifest.from_table
    assert manifest.columns[1].maximum == X[:, 1].max()


def test_reference_evaluator_agrees(frame, target, tmp_path):
    names = ["a b.c", "größe", "label", "objects"]
    steps = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), names[:2]),
        (OneHotEncoder(handle_unknown="ignore"), names[2:]),
    )
    pipeline = make_pipeline(steps, classifier()).fit(frame[names], target)
    export(pipeline, tmp_path / "bundle", X=frame[names])
    model = bundle.read_file(tmp_path / "bundle", bundle.read(tmp_path / "bundle"), "model.onnx")
    rows = frame[names][:20]
    text = rows[names[2:]].astype(object).fillna("")
    feeds = {
        "a b.c": rows[["a b.c"]].to_numpy(dtype=np.float64),
        "größe": rows[["größe"]].to_numpy(dtype=np.float64),
        "label_input": text[["label"]].to_numpy(dtype=object),
        "objects": text[["objects"]].to_numpy(dtype=object),
    }
    evaluator = ReferenceEvaluator(onnx.load_from_string(model))
    answers = evaluator.run(["probabilities"], feeds)[0]
    assert_allclose(answers, pipeline.predict_proba(rows), rtol=0, atol=1e-5)


def test_polars(frame, target, tmp_path):
    X = pl.DataFrame({name: frame[name].to_list() for name in ("größe", "float32", "label")})
    steps = make_column_transformer((StandardScaler(), [0, 1]), (OneHotEncoder(), [2]))
    assert_serves(make_pipeline(steps, classifier()).fit(X, target), X, tmp_path / "bundle")


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(handle_unknown="ignore"),
        pytest.param(
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one_hot", "ordinal"],
)
def test_polars_with_nulls(encoder, tmp_path):
    X, y = fetch_rdatasets("modeldata", "credit_data", target="Status", return_X_y=True)
    text = list(X.select_dtypes("category"))
    numbers = [column for column in X if column not in text]
    X = pl.DataFrame(
        {
            name: [None if pd.isna(value) else value for value in X[name].head(500)]
            for name in numbers + text
        }
    )
    assert X[text].null_count().sum_horizontal().item() > 0
    steps = make_column_transformer((StandardScaler(), numbers), (encoder, text))
    pipeline = make_pipeline(steps, classifier()).fit(X, np.asarray(y)[:500])
    assert_serves(pipeline, X, tmp_path / "bundle")


@pytest.mark.parametrize(
    "step",
    [
        PolynomialFeatures(2),
        QuantileTransformer(n_quantiles=20),
        FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())]),
        *(
            pytest.param(step, marks=pytest.mark.slow)
            for step in (
                PowerTransformer(),
                MinMaxScaler(),
                PCA(2),
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            )
        ),
    ],
    ids=repr,
)
def test_first_steps_on_a_table_of_numbers(frame, target, step, tmp_path):
    X = frame[["größe", "flag", "float32"]]
    manifest = assert_serves(
        make_pipeline(step, classifier()).fit(X, target), X, tmp_path / "bundle"
    )
    assert [column.input for column in manifest.columns] == list(X)
    assert [column.dtype for column in manifest.columns] == ["float64", "float64", "float32"]


def test_categories_in_an_array(target, tmp_path):
    """The bundle reads float32, where 0.1 differs from 0.1 in float64."""
    rng = np.random.default_rng(0)
    X = rng.choice([0.1, 0.2, 0.3], (len(target), 2))
    pipeline = make_pipeline(OneHotEncoder(sparse_output=False), classifier()).fit(X, target)
    assert_serves(pipeline, X, tmp_path / "bundle")
    X = rng.choice([1.0, 1 + 1e-12], (len(target), 2))
    pipeline = make_pipeline(OneHotEncoder(sparse_output=False), classifier()).fit(X, target)
    with pytest.raises(NotImplementedError, match="in an array must differ as float32 numbers"):
        export(pipeline, tmp_path / "bundle", X=X)


def test_regressor_of_two_targets(frame, tmp_path):
    y = np.random.default_rng(0).normal(size=(len(frame), 2)) * [1, 100] + 5
    pipeline = make_pipeline(mixed(), MoDERegressor(**PARAMS)).fit(frame, y)
    assert_serves(pipeline, frame, tmp_path / "bundle")


@pytest.mark.slow
def test_searches_and_frozen_pipelines(frame, target, tmp_path):
    pipeline = make_pipeline(mixed(), classifier())
    search = GridSearchCV(pipeline, {"modeclassifier__n_experts": [2]}, cv=2).fit(frame, target)
    inner = GridSearchCV(classifier(), {"n_experts": [2]}, cv=2)
    for i, model in enumerate(
        (
            search,
            make_pipeline(mixed(), inner).fit(frame, target),
            make_pipeline(mixed(), make_pipeline(StandardScaler(), classifier())),
            make_pipeline("passthrough", classifier()),
            GridSearchCV(classifier(), {"n_experts": [2]}, cv=2),
        )
    ):
        X = frame if i < 3 else frame[NUMBERS]
        model = model if i < 2 else model.fit(X, target)
        assert_serves(model, X, tmp_path / str(i))
    export(model, tmp_path / "bare")  # a search over the estimator alone needs no X
    frozen = FrozenEstimator(pipeline.fit(frame, target))
    export(frozen, tmp_path / "frozen", X=frame)


def test_mixture(frame, target, tmp_path):
    pipeline = make_pipeline(mixed(), classifier()).fit(frame, target)
    export(pipeline, tmp_path / "bundle", X=frame, routing="mixture")
    assert pipeline[-1].inference == "top_expert"
    expected = pipeline.set_params(modeclassifier__inference="mixture").predict_proba(frame)
    answers = skmode_deploy.load(tmp_path / "bundle").predict_proba(frame)
    assert_allclose(answers, expected, rtol=0, atol=1e-5)


def test_steps_without_converter_raise(frame, target, tmp_path):
    numbers = make_pipeline(SimpleImputer(), FunctionTransformer(np.nan_to_num))
    steps = make_column_transformer((numbers, ["a b.c"]), ("drop", TEXT))
    pipeline = make_pipeline(steps, classifier()).fit(frame, target)
    with pytest.raises(
        NotImplementedError,
        match=r"got columntransformer__pipeline__functiontransformer \(FunctionTransformer\): .* "
        "got 'nan_to_num': use one of",
    ):
        export(pipeline, tmp_path / "bundle", X=frame)
    pipeline = make_pipeline(mixed(), RBFSampler(), classifier()).fit(frame, target)
    with pytest.raises(NotImplementedError, match=r"got rbfsampler \(RBFSampler\)"):
        export(pipeline, tmp_path / "bundle", X=frame)
    numbers = frame[["a b.c", "float32"]].to_numpy()
    pipeline = make_pipeline(KNNImputer(), classifier()).fit(numbers, target)
    with pytest.raises(NotImplementedError, match="KNNImputer.*; in float32: .* operators of"):
        export(pipeline, tmp_path / "bundle", X=numbers)
    words = make_column_transformer((TfidfVectorizer(), "label"), (SimpleImputer(), ["a b.c"]))
    texts = frame.assign(label="room " + frame["label"] + frame["label"])
    pipeline = make_pipeline(words, classifier()).fit(texts, target)
    with pytest.raises(NotImplementedError, match=r"got \S+ \(TfidfVectorizer\): .*text_features"):
        export(pipeline, tmp_path / "bundle", X=texts)
    assert not (tmp_path / "bundle").exists()


def test_mismatched_X_raises(frame, target, tmp_path):
    pipeline = make_pipeline(mixed(), classifier()).fit(frame, target)
    with pytest.raises(ValueError, match="X must be given .* got None: pass the training table"):
        export(pipeline, tmp_path / "bundle")
    with pytest.raises(ValueError, match="columns of training in their order, .* got \\['größe'"):
        export(pipeline, tmp_path / "bundle", X=frame.drop(columns="a b.c"))
    with pytest.raises(ValueError, match="columns of training .* got an array: pass"):
        export(pipeline, tmp_path / "bundle", X=frame[NUMBERS].to_numpy(dtype=float))
    pipeline = make_pipeline(StandardScaler(), classifier()).fit(np.eye(20)[:, :4], np.eye(20)[0])
    with pytest.raises(ValueError, match="X must have 4 columns as in training, got 3: pass"):
        export(pipeline, tmp_path / "bundle", X=np.eye(20)[:, :3])
    with pytest.raises(ValueError, match="an array of numbers of shape .* got shape \\(4,\\)"):
        export(pipeline, tmp_path / "bundle", X=np.ones(4))
    dates = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=20), "x": np.arange(20.0)})
    steps = make_column_transformer((StandardScaler(), ["x"]), ("drop", ["day"]))
    pipeline = make_pipeline(steps, classifier()).fit(dates, np.arange(20) % 2)
    with pytest.raises(TypeError, match="got column 'day' of type Datetime.* convert it"):
        export(pipeline, tmp_path / "bundle", X=dates)


def test_X_of_another_type_raises(frame, target, tmp_path):
    pipeline = make_pipeline(mixed(), classifier()).fit(frame, target)
    with pytest.raises(ValueError, match="X must have rows, got 0: pass the training table"):
        export(pipeline, tmp_path / "bundle", X=frame[:0])
    for X in ({"a": [1]}, "foo", 3):
        with pytest.raises(TypeError, match="X must be a table or an array .* got (dict|str|int):"):
            export(pipeline, tmp_path / "bundle", X=X)
    unnamed = frame[["größe", "float32"]].rename(columns={"größe": ""})
    pipeline = make_pipeline(StandardScaler(), classifier()).fit(unnamed, target)
    with pytest.raises(ValueError, match="must have names, got '' for column 0: rename it"):
        export(pipeline, tmp_path / "bundle", X=unnamed)


def test_numbers_too_fine_for_float32(target, tmp_path):
    X = np.random.default_rng(0).normal(size=(len(target), 3)) + 1e6
    pipeline = make_pipeline(StandardScaler(), classifier()).fit(X, target)
    with pytest.raises(ValueError, match="its input is float32, too coarse .* subtract a constant"):
        export(pipeline, tmp_path / "bundle", X=X)
    X = pd.DataFrame(X, columns=list("abc"))
    assert_serves(pipeline.fit(X, target), X, tmp_path / "bundle")


def test_errors_of_the_runtime(frame, target, tmp_path):
    """Training rows have none of the categories that X has."""
    X = frame[["label", "float32"]]
    few = (X["label"] != "z").to_numpy()
    steps = make_column_transformer((OneHotEncoder(), ["label"]), (StandardScaler(), ["float32"]))
    pipeline = make_pipeline(steps, classifier()).fit(X[few], target[few])
    transform = steps.transform
    pipeline[0].transform = lambda rows: transform(rows.assign(label="x"))
    with pytest.raises(ValueError, match="predict the rows of X, but onnxruntime failed: "):
        export(pipeline, tmp_path / "bundle", X=X)
    assert not (tmp_path / "bundle").exists()


def test_models_that_are_not_one_mixture_raise(frame, target, tmp_path):
    for model in (
        CalibratedClassifierCV(classifier(), cv=2),
        VotingClassifier([("a", classifier())], voting="soft"),
    ):
        pipeline = make_pipeline(mixed(), model).fit(frame, target)
        with pytest.raises(TypeError, match="may hold several: convert it with skl2onnx.to_onnx"):
            export(pipeline, tmp_path / "bundle", X=frame)
    pipeline = make_pipeline(mixed(), PCA(3), LogisticRegression()).fit(frame, target)
    with pytest.raises(TypeError, match="got LogisticRegression: pass one, a Pipeline that ends"):
        export(pipeline, tmp_path / "bundle", X=frame)
    with pytest.raises(TypeError, match="got RandomForestClassifier: pass one, a Pipeline"):
        export(RandomForestClassifier(2).fit(frame[["größe"]], target), tmp_path / "bundle")
    with pytest.raises(TypeError, match="a fitted object, got the class MoDEClassifier: pass"):
        export(MoDEClassifier, tmp_path / "bundle", X=frame)


def test_unfitted(frame, tmp_path):
    with pytest.raises(NotFittedError, match="this MoDEClassifier is not fitted"):
        export(make_pipeline(mixed(), classifier()), tmp_path / "bundle", X=frame)
    search = GridSearchCV(classifier(), {"n_experts": [2]})
    with pytest.raises(NotFittedError, match="this GridSearchCV has no best_estimator_"):
        export(search, tmp_path / "bundle")


def test_tolerance_is_a_number(frame, target, tmp_path):
    pipeline = make_pipeline(mixed(), classifier()).fit(frame, target)
    with pytest.raises(ValueError, match="tolerance must be a number of at least 0, got True: "):
        export(pipeline, tmp_path / "bundle", X=frame, tolerance=True)


def test_different_predictions_raise(frame, target, tmp_path, monkeypatch):
    """The pipeline changes during the export, as if a converter were wrong."""
    pipeline = make_pipeline(mixed(), classifier()).fit(frame, target)
    export(pipeline, tmp_path / "bundle", X=frame)
    before = (tmp_path / "bundle" / "model.onnx").read_bytes()
    measure = _parity.measure_differences

    def measure_moved(*args):
        pipeline[0].transformers_[0][1][-1].mean_ += 1
        return measure(*args)

    monkeypatch.setattr("skmode.onnx._bundles.export.measure_differences", measure_moved)
    with pytest.raises(ValueError, match=r"the model predicts within 0.0001, got a diff.*Scaler"):
        export(pipeline, tmp_path / "bundle", X=frame)
    assert (tmp_path / "bundle" / "model.onnx").read_bytes() == before


def test_different_labels_raise(frame, target, tmp_path):
    pipeline = make_pipeline(mixed(), classifier()).fit(frame, target)
    export(pipeline, tmp_path, X=frame)
    manifest = bundle.read(tmp_path)
    files = {name: bundle.read_file(tmp_path, manifest, name) for name in manifest.files}
    other = onnx.load_from_string(files["model.onnx"])
    (labels,) = (x for x in other.graph.initializer if x.name == "label/classes")
    labels.string_data[:] = labels.string_data[::-1]
    bundle.write(tmp_path, manifest, files | {"model.onnx": other.SerializeToString()})
    differences = _parity.measure_differences(
        skmode_deploy.load(tmp_path), pipeline, frame, "top_expert"
    )
    assert differences.largest < 1e-4
    with pytest.raises(ValueError, match=r"other labels in \d+.\d% of the rows"):
        _parity.check_predictions(differences, pipeline)


def test_target_encoder(frame, target, tmp_path):
    steps = make_column_transformer(
        (TargetEncoder(random_state=0), ["label"]), (StandardScaler(), ["float32"])
    )
    pipeline = make_pipeline(steps, classifier()).fit(frame, target)
    assert_serves(pipeline, frame, tmp_path / "bundle")


def test_all_training_categories_are_known_if_X_is_a_sample(frame, target, tmp_path):
    encoder = OneHotEncoder(handle_unknown="ignore")
    by_mode = make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder())
    steps = make_column_transformer((StandardScaler(), NUMBERS[:1]), (encoder, TEXT[:1]))
    for step in (steps, make_column_transformer((by_mode, TEXT[:1]), (StandardScaler(), ["x"]))):
        data = frame.assign(x=1.0)[[*NUMBERS[:1], *TEXT[:1], "x"]].dropna()
        pipeline = make_pipeline(step, classifier()).fit(data, target[data.index])
        export(pipeline, tmp_path / "bundle", X=data[:2])
        (column,) = (c for c in bundle.read(tmp_path / "bundle").columns if c.name == TEXT[0])
        assert column.categories == tuple(sorted(data[TEXT[0]].unique()))
        assert len(column.categories) > 2


def test_an_encoder_that_returns_sparse_rows(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.choice(list("abcdef"), 200), "b": rng.choice(list("xyz"), 200)})
    pipeline = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"),
        MoDEClassifier(n_experts=2, max_epochs=2, inference="top_expert", random_state=0),
    ).fit(X, X.a < "c")
    export(pipeline, tmp_path, X=X)
    predicted = skmode_deploy.load(tmp_path).predict_proba(X)
    assert_allclose(predicted, pipeline.predict_proba(X), rtol=0, atol=1e-5)
