"""Conversion by skl2onnx, alone and inside Pipelines, searches and ensembles."""

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import skl2onnx
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC

from skmode import MoDEClassifier, MoDERegressor
from skmode.datasets import fetch_churn, fetch_rdatasets
from skmode.onnx import register_converters

PARAMS = {
    "n_experts": 3,
    "hidden_layer_sizes": (8,),
    "max_epochs": 2,
    "batch_size": 200,
    "random_state": 0,
}


def preprocess(X):
    """All four kinds of steps on the columns of a mixed table."""
    text = [name for name in X if not pd.api.types.is_numeric_dtype(X[name])]
    numbers = [name for name in X if name not in text]
    half = len(text) // 2
    imputed = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    mode = SimpleImputer(strategy="most_frequent")
    rare = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20, drop="first")
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return ColumnTransformer(
        [
            ("imputed", imputed, numbers[:4]),
            ("scaled", StandardScaler(), numbers[4:]),
            ("one_hot", OneHotEncoder(handle_unknown="ignore"), text[:half]),
            ("rare", make_pipeline(mode, rare), text[:1]),
            ("ordinal", ordinal, text[half:]),
        ]
    )


REAL = {
    "churn": lambda: fetch_churn(return_X_y=True),
    "credit": lambda: fetch_rdatasets("modeldata", "credit_data", target="Status", return_X_y=True),
    "ames": lambda: fetch_rdatasets("modeldata", "ames", target="Sale_Price", return_X_y=True),
}


@pytest.fixture(
    scope="module",
    params=["churn", *(pytest.param(k, marks=pytest.mark.slow) for k in REAL if k != "churn")],
)
def real(request, split_real):
    """Training and other rows of a real table with missing values; some categories are new."""
    X, y = REAL[request.param]()
    y = np.asarray(y, dtype=np.float64 if request.param == "ames" else object).astype(
        np.float64 if request.param == "ames" else str
    )
    X, X_test, y, _ = split_real(X, y)
    estimator = MoDERegressor if request.param == "ames" else MoDEClassifier
    return estimator(**PARAMS), X, y, X_test


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("inference", ["top_expert", "mixture"])
def test_predictions_follow_the_inference_of_the_estimator(
    array, fit_classifier, dtype, inference, assert_parity
):
    estimator = fit_classifier(array, inference=inference)
    assert_parity(estimator, array.astype(dtype))


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regressor(array, fit_regressor, n_outputs, assert_parity):
    assert_parity(fit_regressor(array, n_outputs), array)


def test_routing_can_be_chosen(array, fit_classifier, run, convert):
    estimator = fit_classifier(array, inference="mixture")
    answers = run(convert(estimator, array, routing="top_expert"), array)
    expected = estimator.set_params(inference="top_expert").predict_proba(array)
    assert_allclose(answers[1], expected, rtol=0, atol=1e-5)


def test_options_of_classifiers(array, fit_classifier, run, convert):
    estimator = fit_classifier(array)
    # A list of dicts, zipmap, is the default.
    _, rows = run(skl2onnx.to_onnx(estimator, array[:1], target_opset=18), array)
    expected = estimator.predict_proba(array)
    assert_allclose([row["good"] for row in rows], expected[:, 2], rtol=0, atol=1e-5)
    columns = run(convert(estimator, array, zipmap="columns"), array)
    assert_allclose(columns[1], expected[:, 0], rtol=0, atol=1e-5)
    positions = run(convert(estimator, array, nocl=True), array)[0]
    assert_array_equal(estimator.classes_[positions], estimator.predict(array))
    classes = run(convert(estimator, array, output_class_labels=True), array)[2]
    assert_array_equal(classes, estimator.classes_)
    with pytest.raises(RuntimeError, match="needs zipmap=False, got zipmap=True: use only one"):
        convert(estimator, array, output_class_labels=True, zipmap=True)


@pytest.mark.parametrize("classes", [(0, 1), (False, True), (1.0, 3.0), ("ä", "ö", "ü")])
def test_labels(array, fit_classifier, classes, assert_parity):
    assert_parity(fit_classifier(array, classes), array)


def test_labels_of_unsupported_type_raise(array, fit_classifier, convert):
    estimator = fit_classifier(array)
    estimator.classes_ = np.array([0.5, 1.0, 2.0])
    with pytest.raises(TypeError, match="strings or integers .* got 0.5 of type float64: encode"):
        convert(estimator, array)


@pytest.mark.parametrize("opset", [18, 20, None])
def test_opset(array, fit_classifier, opset, run):
    estimator = fit_classifier(array)
    options = {MoDEClassifier: {"zipmap": False}}
    model = skl2onnx.to_onnx(estimator, array[:1], target_opset=opset, options=options)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    assert opsets == {"": opset or 18}
    assert_array_equal(run(model, array)[0], estimator.predict(array))


def test_opset_that_is_too_low(array, fit_classifier):
    with pytest.raises(ValueError, match="needs opset 18 or above, got target_opset=15: pass"):
        skl2onnx.to_onnx(fit_classifier(array), array[:1], target_opset=15)


def test_mixed_table_has_one_input_per_column(table, fit_classifier, assert_parity):
    table = table.drop(columns="plan")
    assert_parity(fit_classifier(table), table)


def test_mismatched_inputs_raise(table, array, fit_classifier, convert):
    table = table.drop(columns="plan")
    estimator = fit_classifier(table)
    with pytest.raises(TypeError, match="Column 'city' .* must be of type string, as in training"):
        skl2onnx.to_onnx(estimator, initial_types=types_like(table))
    with pytest.raises(ValueError, match="must have 5 columns, .* got widths \\[4\\]: pass"):
        convert(fit_classifier(array), array[:, :4])


def types_like(table):
    numbers = skl2onnx.common.data_types.DoubleTensorType
    return [(name, numbers([None, 1])) for name in table]


def test_unfitted(array):
    with pytest.raises(NotFittedError):
        skl2onnx.to_onnx(MoDEClassifier(), array[:1])


def test_registering_again_changes_nothing(array, fit_classifier, convert):
    estimator = fit_classifier(array)
    before = convert(estimator, array).SerializeToString()
    register_converters()
    assert convert(estimator, array).SerializeToString() == before


def test_estimator_on_a_real_table(real, assert_parity):
    estimator, X, y, X_test = real
    assert_parity(estimator.fit(X, y), X_test)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pipeline_on_a_real_table(real, dtype, assert_parity):
    estimator, X, y, X_test = real
    pipeline = make_pipeline(preprocess(X), estimator).fit(X, y)
    numbers = dict.fromkeys(X.select_dtypes("number"), dtype)
    assert_parity(pipeline, X_test.astype(numbers))


@pytest.mark.slow
def test_search_over_a_pipeline(real, assert_parity):
    estimator, X, y, X_test = real
    pipeline = make_pipeline(preprocess(X), estimator)
    search = GridSearchCV(pipeline, {f"{pipeline.steps[-1][0]}__n_experts": [2]}, cv=2).fit(X, y)
    assert_parity(search, X_test)
    assert_parity(search.best_estimator_, X_test)


@pytest.mark.slow
def test_calibration_of_a_pipeline(real, run, convert, assert_parity):
    estimator, X, y, X_test = real
    if not is_classifier(estimator):
        pytest.skip("a regressor has no probabilities")
    pipeline = make_pipeline(preprocess(X), estimator)
    assert_parity(CalibratedClassifierCV(pipeline, cv=2).fit(X, y), X_test)
    # Interpolation has steep pieces, where float32 probabilities of the experts show.
    isotonic = CalibratedClassifierCV(pipeline, cv=2, method="isotonic").fit(X, y)
    answers, expected = run(convert(isotonic, X_test), X_test)[1], isotonic.predict_proba(X_test)
    assert_allclose(answers, expected, rtol=0, atol=1e-3)
    assert np.mean(np.abs(answers - expected)) < 1e-6


CLASSIFIERS = {
    "sigmoid": CalibratedClassifierCV(MoDEClassifier(**PARAMS), cv=2),
    "frozen": FrozenEstimator(MoDEClassifier(**PARAMS)),
    "search": GridSearchCV(MoDEClassifier(**PARAMS), {"n_experts": [2]}, cv=2),
    "pipeline": make_pipeline(StandardScaler(), MoDEClassifier(**PARAMS)),
    "voting": VotingClassifier(
        [("a", MoDEClassifier(**PARAMS)), ("b", LogisticRegression())], voting="soft"
    ),
    "weights": VotingClassifier(
        [("x", "drop"), ("a", MoDEClassifier(**PARAMS)), ("b", MoDEClassifier(alpha=0, **PARAMS))],
        voting="soft",
        weights=[5, 1, 2],
    ),
    "stacking": StackingClassifier(
        [("a", MoDEClassifier(**PARAMS)), ("b", LogisticRegression())],
        final_estimator=MoDEClassifier(**PARAMS),
        cv=2,
    ),
}
REGRESSORS = {
    "voting": VotingRegressor([("a", MoDERegressor(**PARAMS)), ("b", Ridge())], weights=[1, 3]),
    "stacking": StackingRegressor([("a", MoDERegressor(**PARAMS)), ("b", Ridge())], cv=2),
    "pipeline": make_pipeline(StandardScaler(), MoDERegressor(**PARAMS)),
}


@pytest.mark.parametrize(
    "inference", ["top_expert", pytest.param("mixture", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("model", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_ensembles_of_classifiers(flowers, model, inference, assert_parity):
    X, y = flowers
    for name in model.get_params():
        if name.endswith("inference"):
            model.set_params(**{name: inference})
    if isinstance(model, FrozenEstimator):
        model.estimator.set_params(inference=inference).fit(X, y)
    model.fit(X, y)
    for dtype in (np.float32, np.float64):
        assert_parity(model, X.astype(dtype))


@pytest.mark.parametrize("model", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_probabilities_are_dicts_by_default(flowers, model):
    X, y = flowers
    if isinstance(model, FrozenEstimator):
        model.estimator.fit(X, y)
    model.fit(X, y)
    for dtype in (np.float32, np.float64):
        rows = X.astype(dtype)
        converted = skl2onnx.to_onnx(model, rows[:1], target_opset=18).SerializeToString()
        session = onnxruntime.InferenceSession(converted, providers=["CPUExecutionProvider"])
        labels, dicts = session.run(None, {session.get_inputs()[0].name: rows})
        assert_array_equal(labels, model.predict(rows))
        answers = [[row[label] for label in model.classes_] for row in dicts]
        assert_allclose(answers, model.predict_proba(rows), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", REGRESSORS.values(), ids=REGRESSORS)
def test_ensembles_of_regressors(flowers, model, dtype, assert_parity):
    X, _ = flowers
    assert_parity(model.fit(X, X[:, 0] + 3), X.astype(dtype))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_isotonic_calibration_of_a_frozen_estimator(flowers, n_classes, assert_parity):
    X, y = flowers
    y = np.minimum(y, n_classes - 1)
    # Trained for longer, so that no row lies on a steep part of the isotonic function.
    frozen = FrozenEstimator(MoDEClassifier(**PARAMS | {"max_epochs": 4}).fit(X, y))
    model = CalibratedClassifierCV(frozen, method="isotonic").fit(X, y)
    assert_parity(model, X, atol=1e-3)


def soft_vote(model):
    """A model that holds an estimator beside another one."""
    return VotingClassifier([("mode", MoDEClassifier(**PARAMS)), ("other", model)], voting="soft")


DECISIONS = {
    "isotonic": (
        lambda X, y: CalibratedClassifierCV(LogisticRegression(), method="isotonic"),
        "must be sigmoid to be converted, got method='isotonic': fit with",
    ),
    "pipeline": (
        lambda X, y: CalibratedClassifierCV(make_pipeline(StandardScaler(), LogisticRegression())),
        "Calibration of Pipeline must use probabilities, got an estimator with a decision",
    ),
    "search": (
        lambda X, y: CalibratedClassifierCV(GridSearchCV(LogisticRegression(), {"C": [1]}), cv=2),
        "Calibration of GridSearchCV must use probabilities",
    ),
    "frozen": (
        lambda X, y: CalibratedClassifierCV(
            FrozenEstimator(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y))
        ),
        "Calibration of Pipeline must use probabilities",
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(each, marks=pytest.mark.slow) if each in ("search", "isotonic") else each
        for each in DECISIONS
    ],
)
def test_unsupported_calibration_raises(flowers, case, convert):
    """skl2onnx would calibrate probabilities instead of the decision function."""
    X, y = flowers
    make, message = DECISIONS[case]
    with pytest.raises(NotImplementedError, match=message):
        convert(soft_vote(make(X, y)).fit(X, y), X)


@pytest.mark.parametrize("n_classes", [3, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", [LogisticRegression(), LinearSVC()])
def test_decision_function_of_a_frozen_estimator(flowers, model, n_classes, assert_parity):
    X, y = flowers
    y = np.minimum(y, n_classes - 1)
    frozen = FrozenEstimator(model.fit(X, y))
    calibrated = CalibratedClassifierCV(frozen).fit(X, y)
    assert_parity(calibrated, X)
    assert_parity(soft_vote(calibrated).fit(X, y), X)
    if n_classes == 2 and isinstance(model, LinearSVC):
        return  # skl2onnx cannot stack the one column of its decision function, frozen or not
    parts = [("frozen", frozen), ("mode", MoDEClassifier(**PARAMS))]
    assert_parity(StackingClassifier(parts, cv=2).fit(X, y), X)


def test_unreachable_decision_function_raises(flowers, convert):
    X, y = flowers
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    model = CalibratedClassifierCV(FrozenEstimator(pipeline)).fit(X, y)
    with pytest.raises(NotImplementedError, match="of Pipeline must use probabilities"):
        convert(model, X)
    model = StackingClassifier(
        [("a", FrozenEstimator(pipeline))], stack_method="decision_function", cv=2
    ).fit(X, y)
    with pytest.raises(NotImplementedError, match="got FrozenEstimator of Pipeline: freeze"):
        convert(model, X)
    model = soft_vote(FrozenEstimator(LinearSVC().fit(X, y))).set_params(voting="hard").fit(X, y)
    with pytest.raises(NotImplementedError, match="must have predict_proba .* one of LinearSVC"):
        convert(model, X)


def test_calibration_by_a_decision_function(flowers, assert_parity):
    X, y = flowers
    assert_parity(soft_vote(CalibratedClassifierCV(LinearSVC(), cv=2)).fit(X, y), X)


def test_temperature_calibration_raises(flowers, convert):
    X, y = flowers
    y = np.array(["few", "some", "many"])[y]
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**PARAMS))
    if "temperature" not in CalibratedClassifierCV.__doc__:
        pytest.skip("this scikit-learn knows no such method")
    model = CalibratedClassifierCV(pipeline, method="temperature", cv=2).fit(X, y)
    with pytest.raises(NotImplementedError, match="method must be .* got 'temperature': choose"):
        convert(model, X)


@pytest.mark.parametrize("names", [("few", "some", "many"), (3, 7, 9)])
def test_frozen_pipeline_in_another_model(flowers, names, assert_parity):
    X, y = flowers
    y = np.array(names)[y]
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**PARAMS)).fit(X, y)
    assert_parity(CalibratedClassifierCV(FrozenEstimator(pipeline)).fit(X, y), X)
    assert_parity(soft_vote(FrozenEstimator(pipeline)).fit(X, y), X)


def test_frozen_pipeline_of_a_regressor_in_another_model(flowers, assert_parity):
    X, _ = flowers
    pipeline = make_pipeline(StandardScaler(), MoDERegressor(**PARAMS)).fit(X, X[:, 0])
    model = VotingRegressor([("a", FrozenEstimator(pipeline)), ("b", Ridge())]).fit(X, X[:, 0])
    assert_parity(model, X)


@pytest.mark.slow
def test_positions_as_labels_of_ensembles(flowers, run, convert):
    X, y = flowers
    y = np.array(["few", "some", "many"])[y]
    model = CalibratedClassifierCV(MoDEClassifier(**PARAMS), cv=2).fit(X, y)
    positions = run(convert(model, X, nocl=True), X)[0]
    assert_array_equal(model.classes_[positions], model.predict(X))
    with pytest.raises(NotImplementedError, match="nocl must be False for a VotingClassifier"):
        convert(soft_vote(LogisticRegression()).fit(X, y), X, nocl=True)


def test_routing_is_an_option_of_the_estimator(flowers, run):
    X, y = flowers
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**PARAMS)).fit(X, y)
    search = GridSearchCV(MoDEClassifier(**PARAMS), {"n_experts": [2]}, cv=2).fit(X, y)
    for model in (pipeline, search, FrozenEstimator(pipeline)):
        options = {id(model): {"zipmap": False, "routing": "mixture"}}
        with pytest.raises(ValueError, match="routing must be set for the estimator itself, got"):
            skl2onnx.to_onnx(model, X[:1], options=options, target_opset=18)
    options = {MoDEClassifier: {"zipmap": False, "routing": "mixture"}}
    answers = run(skl2onnx.to_onnx(pipeline, X[:1], options=options, target_opset=18), X)
    expected = pipeline.set_params(modeclassifier__inference="mixture").predict_proba(X)
    assert_allclose(answers[1], expected, rtol=0, atol=1e-5)


@pytest.fixture
def shapes():
    rng = np.random.default_rng(0)
    n = 80
    return pd.DataFrame(
        {
            "text": rng.choice(["a", "b", "c d", "é"], n),
            "gap": np.where(rng.random(n) < 0.3, None, rng.choice(["x", "y"], n)),
            "number": rng.choice([0.1, 0.25, 3.0], n),
            "flag": rng.random(n) < 0.5,
            "count": rng.integers(0, 4, n),
        }
    )


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(handle_unknown="ignore", drop="if_binary", sparse_output=False),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=25),
        OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=2, drop="first"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
        OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1
        ),
    ],
)
def test_encoders_with_unseen_and_missing_categories(shapes, encoder, transform):
    encoder.fit(shapes)
    rows = shapes.copy()
    rows.loc[0, "text"], rows.loc[1, "gap"] = "new", "new"
    rows.loc[2, "number"], rows.loc[3, "count"] = 0.1000001, 9
    expected = encoder.transform(rows)
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    assert_array_equal(transform(encoder, rows), expected.astype(np.float32))


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()])
def test_unseen_category_raises_if_scikit_learn_raises(shapes, encoder, transform):
    text = shapes[["text"]]
    encoder.fit(text)
    transform(encoder, text)
    with pytest.raises(ValueError, match="unknown categories"):
        encoder.transform(pd.DataFrame({"text": ["new"]}))
    with pytest.raises(Exception, match="out of data bounds"):
        transform(encoder, pd.DataFrame({"text": ["new"]}))


def test_indistinguishable_categories_raise(transform):
    X = pd.DataFrame({"text": np.array(["", None, "a"], dtype=object)})
    with pytest.raises(NotImplementedError, match="must have one kind of missing category at most"):
        transform(OneHotEncoder().fit(X), X)


ENCODERS = [
    OneHotEncoder(handle_unknown="ignore"),
    OneHotEncoder(),
    OrdinalEncoder(),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=9),
]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_none_as_a_category(encoder, transform):
    """scikit-learn distinguishes None and NaN, and pandas 3 converts None to NaN."""
    X = np.array([["x"], [None], ["y"]], dtype=object)
    encoder.fit(X)
    expected = encoder.transform(X)
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    assert_array_equal(transform(encoder, pd.DataFrame(X, columns=["x"], dtype=object)), expected)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()])
def test_integer_categories_beyond_float64(encoder, run, convert_step):
    X = np.array([[2**53], [2**53 + 1], [7]])
    with pytest.raises(
        NotImplementedError, match=r"smaller than 2\*\*53, .* got 9007199254740993: "
    ):
        convert_step(encoder.fit(X), X[:1])
    X = np.array([[2**53 - 1], [2**53 - 2], [7]])
    expected = encoder.fit_transform(X)
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    assert_array_equal(run(convert_step(encoder, X[:1]), X)[0], expected)


@pytest.mark.parametrize("encoder", [OneHotEncoder(handle_unknown="ignore"), OrdinalEncoder()])
def test_categories_finer_than_the_input(encoder, run, convert_step):
    kinds = skl2onnx.common.data_types
    X = pd.DataFrame({"a": [0.1, 0.2, 0.3], "b": [1, 2, 3]})
    float32 = [("a", kinds.FloatTensorType([None, 1]))]
    with pytest.raises(TypeError, match="its categories, float64, got FloatTensorType from 'a'"):
        convert_step(encoder.fit(X[["a"]]), initial_types=float32)
    # Columns of several number types are cast before the steps.
    steps = ColumnTransformer([("a", encoder, ["a"]), ("b", StandardScaler(), ["b"])]).fit(X)
    types = [*float32, ("b", kinds.Int64TensorType([None, 1]))]
    with pytest.raises(TypeError, match="its categories, float64, got DoubleTensorType from 'a'"):
        convert_step(steps, initial_types=types)
    halves = pd.DataFrame({"a": [0.5, 0.25, 3]})
    converted = convert_step(encoder.fit(halves), initial_types=float32)
    expected = encoder.transform(halves)
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    assert_array_equal(run(converted, halves)[0], expected)


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(),
        SimpleImputer(strategy="median", add_indicator=True),
        SimpleImputer(strategy="constant", fill_value=-1, keep_empty_features=True),
        SimpleImputer(missing_values=3.0, strategy="most_frequent"),
    ],
)
@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_imputers_of_numbers(imputer, run, convert_step):
    X = np.random.default_rng(0).integers(0, 5, (40, 3)).astype(float)
    if np.isnan(imputer.missing_values):
        X[::3, 0], X[::7, 1], X[:, 2] = np.nan, np.nan, np.nan
    expected = imputer.fit_transform(X)
    assert_allclose(run(convert_step(imputer, X[:1]), X)[0], expected)


def test_imputer_of_strings(shapes, transform):
    X = shapes[["text", "gap"]].astype(object).where(shapes[["text", "gap"]].notna(), np.nan)
    imputer = SimpleImputer(strategy="most_frequent").fit(X)
    assert_array_equal(transform(imputer, X), imputer.transform(X))
    imputer = SimpleImputer(strategy="most_frequent", add_indicator=True).fit(X)
    with pytest.raises(NotImplementedError, match="add_indicator .* must be False for strings"):
        transform(imputer, X)


def test_columns_of_several_number_types(shapes, run, convert_step):
    X = shapes[["count", "flag", "number"]]
    steps = ColumnTransformer(
        [("scaled", StandardScaler(), ["count", "number"]), ("rest", "passthrough", ["flag"])]
    ).fit(X)
    assert_allclose(run(convert_step(steps, X[:1]), X)[0], steps.transform(X), rtol=1e-6)


def test_input_types_must_match_training(shapes, convert_step):
    kinds = skl2onnx.common.data_types
    encoder = OneHotEncoder().fit(shapes[["text"]])
    with pytest.raises(TypeError, match="the type of its categories, string, got Double"):
        convert_step(encoder, initial_types=[("text", kinds.DoubleTensorType([None, 1]))])
    scaler = StandardScaler().fit(shapes[["count"]])
    with pytest.raises(TypeError, match="must get numbers, got StringTensorType from 'count'"):
        convert_step(scaler, initial_types=[("count", kinds.StringTensorType([None, 1]))])


def test_below_opset_18_other_models_convert_as_before(shapes):
    X = shapes[["count", "number"]].astype(np.float32)
    model = make_pipeline(StandardScaler(), Ridge()).fit(X, X["count"])
    converted = skl2onnx.to_onnx(model, X[:1], target_opset=15)
    assert {entry.domain: entry.version for entry in converted.opset_import}[""] == 15


def test_forbidden_operators(flowers):
    X, y = flowers
    pipeline = make_pipeline(StandardScaler(), MoDEClassifier(**PARAMS)).fit(X, y)
    for operator in ("Sub", "Softmax"):
        with pytest.raises(RuntimeError, match=f"'{operator}' is black listed"):
            skl2onnx.to_onnx(pipeline, X[:1], target_opset=18, black_op={operator})


def test_small_integers(flowers):
    X, y = flowers
    X = pd.DataFrame({kind: X[:, i] for i, kind in enumerate(("Int8", "UInt8", "Int16", "UInt16"))})
    X = X.round().clip(0, 100).astype({name: name.lower() for name in X})
    model = MoDEClassifier(**PARAMS).fit(X, y)
    kinds = skl2onnx.common.data_types
    types = [(name, getattr(kinds, f"{name}TensorType")([None, 1])) for name in X]
    options = {MoDEClassifier: {"zipmap": False}}
    converted = skl2onnx.to_onnx(model, initial_types=types, target_opset=18, options=options)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    answers = session.run(None, {name: X[[name]].to_numpy() for name in X})
    assert_allclose(answers[1], model.predict_proba(X), rtol=0, atol=1e-5)


def test_opset_that_is_too_low_for_a_mixed_table(shapes):
    steps = ColumnTransformer(
        [("a", SimpleImputer(), ["count", "number"]), ("b", OneHotEncoder(), ["text"])]
    )
    X = shapes[["text", "number", "count"]]
    pipeline = make_pipeline(steps, MoDEClassifier(**PARAMS)).fit(X, shapes["flag"])
    with pytest.raises(ValueError, match="needs opset 18 or above, got target_opset=17: pass"):
        skl2onnx.to_onnx(pipeline, X[:1], target_opset=17)
