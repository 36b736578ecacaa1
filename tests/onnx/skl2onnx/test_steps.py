"""Steps before an estimator that skl2onnx does not convert, or converts wrongly."""

import inspect

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from packaging.version import Version
from scipy.special import expit, logit
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from skmode import MoDEClassifier
from skmode.onnx._skl2onnx.steps import functions

PARAMS = {
    "n_experts": 2,
    "hidden_layer_sizes": (6,),
    "max_epochs": 20,
    "batch_size": 1000,
    "learning_rate": 0.05,
    "random_state": 0,
}


@pytest.fixture
def assert_parity(assert_parity):
    """Compare predictions that are not all alike."""

    def check(model, X):
        assert len(np.unique(model.predict(X))) > 1
        assert_parity(model, X)

    return check


@pytest.fixture(scope="module")
def numbers():
    """Rows with missing values, ties, and numbers far away."""
    X = np.random.default_rng(0).normal(size=(200, 3)) * [1, 10, 0.1]
    X[:, 1] = X[:, 1].round()
    X[::11, 0] = np.nan
    return X


def assert_converts(convert_step, run, step, X, rtol=1e-6):
    """Compare a converted step with the step, in float64 and in float32."""
    for dtype in (np.float64, np.float32):
        rows = X.astype(dtype)
        answers = run(convert_step(step, rows[:1]), rows)[0]
        expected = step.transform(rows)
        expected = expected.toarray() if hasattr(expected, "toarray") else expected
        assert_allclose(answers, expected, rtol=rtol, atol=1e-6)


FUNCTIONS = {function.__name__: function for function in functions._FUNCTIONS}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value|overflow):RuntimeWarning")
def test_functions(name, convert_step, run):
    """All numbers, also those that the function is not defined for."""
    values = [-30, -2.5, -1.5, -1, -0.5, -1e-9, 0, 1e-9, 0.25, 0.5, 1, 1.5, 2.5, 30, np.nan]
    X = np.array(values)[:, None]
    step = FunctionTransformer(FUNCTIONS[name])
    answers = run(convert_step(step, X[:1]), X)[0]
    assert_allclose(answers, step.transform(X), rtol=1e-12, atol=1e-13)


def test_pairs_of_functions_undo_each_other():
    pairs = ((np.log1p, np.expm1), (np.sqrt, np.square), (np.sinh, np.arcsinh), (expit, logit))
    known = set(functions._FUNCTIONS)
    assert {function for pair in pairs for function in pair} <= known


@pytest.mark.parametrize("function", [np.log1p, np.expm1])
def test_functions_of_small_numbers(function, convert_step, run):
    X = np.array([[-3e-5], [2e-9], [1e-15], [0]])
    step = FunctionTransformer(function)
    assert_allclose(run(convert_step(step, X[:1]), X)[0], step.transform(X), rtol=1e-12)


@pytest.mark.parametrize("power", [0, 1e-12, 0.5, 2, -3])
@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
@pytest.mark.parametrize("standardize", [True, False])
def test_powers(power, method, standardize, convert_step, run):
    X = np.random.default_rng(0).lognormal(size=(50, 3)) * [1e-6, 1, 1e6]
    step = PowerTransformer(method=method, standardize=standardize).fit(X)
    step.lambdas_ = np.array([power, step.lambdas_[1], power])
    X[::7, 1] = np.nan
    rows = X if method == "box-cox" else np.concatenate([X, -X, 0 * X])
    answers = run(convert_step(step, rows[:1]), rows)[0]
    if power == 1e-12 and Version(sklearn.__version__) < Version(
        "1.7"
    ):  # there it loses all digits itself
        step.lambdas_ = np.where(step.lambdas_ == power, 0, step.lambdas_)
    # The outputs are float32.
    assert_allclose(answers, step.transform(rows), rtol=1e-6)
    if method == "box-cox":
        with pytest.raises(ValueError, match="strictly positive"):
            step.transform(-X)
        with pytest.raises(Exception, match="out of data bounds"):
            run(convert_step(step, X[:1]), -X)


@pytest.mark.parametrize("function", [lambda x: x + 1, np.maximum, [], np.nan_to_num])
def test_function_that_has_no_form(function, convert_step, numbers):
    step = FunctionTransformer(np.abs).fit(numbers)
    step.func = function
    with pytest.raises(NotImplementedError, match="must be a known one of numpy or scipy"):
        convert_step(step, numbers[:1])


def test_function_with_arguments(convert_step, numbers):
    step = FunctionTransformer(np.round, kw_args={"decimals": 2}).fit(numbers)
    with pytest.raises(NotImplementedError, match="without further arguments, .* got 'round'"):
        convert_step(step, numbers[:1])


@pytest.mark.parametrize("mode", ["constant", "linear", "continue", "periodic", "error"])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_splines(numbers, convert_step, run, mode, degree):
    # Of several features scikit-learn extrapolates only the first as documented, if degree < 2.
    X = numbers[:, 1:2] if mode == "linear" and degree < 2 else numbers[:, 1:]
    step = SplineTransformer(5, degree=degree, extrapolation=mode).fit(X)
    spread = [X.mean(axis=0) + scale * (X - X.mean(axis=0)) for scale in (1, 3)]
    knots = np.column_stack([spline.t for spline in step.bsplines_])
    edges = knots[degree : len(knots) - degree]
    inside = mode == "error" or (mode == "constant" and not degree)
    rows = np.concatenate([X, edges] if inside else [*spread, knots])
    if not degree:  # rounding to float32 moves values across the knots, where splines jump
        converted = convert_step(step, rows[:1])
        assert_allclose(run(converted, rows)[0], step.transform(rows), rtol=1e-9)
        return
    # Rounding moves the last knot out of the range, where an extrapolated cube is steep.
    rows = rows if mode != "error" else X.clip(*(edges[[0, -1]] * (1 - 1e-6)))
    assert_converts(convert_step, run, step, rows, rtol=1e-4)


@pytest.mark.parametrize(
    "params",
    [
        {"knots": "quantile", "n_knots": 6},
        {"include_bias": False},
        {"n_knots": 2, "degree": 2},
        {"knots": np.array([[-2.0, -20], [0, 1], [1, 30]])},
        {"sparse_output": True},
    ],
    ids=str,
)
def test_forms_of_splines(numbers, convert_step, run, params):
    X = numbers[:, [2, 1]]
    assert_converts(convert_step, run, SplineTransformer(**params).fit(X), X, rtol=1e-5)


def test_splines_of_missing_values(numbers, convert_step, run):
    step = SplineTransformer(4).fit(numbers[:, 1:])
    rows = numbers[:, 1:].copy()
    rows[3, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        step.transform(rows)
    with pytest.raises(Exception, match="out of data bounds"):
        run(convert_step(step, rows[:1]), rows)
    if "handle_missing" not in inspect.signature(SplineTransformer).parameters:
        return
    for mode in ("constant", "linear", "continue"):
        step = SplineTransformer(4, handle_missing="zeros", extrapolation=mode).fit(numbers)
        assert_converts(convert_step, run, step, numbers, rtol=1e-5)


def test_splines_beyond_the_knots(numbers, convert_step, run):
    step = SplineTransformer(4, extrapolation="error").fit(numbers[:, 1:])
    rows = numbers[:, 1:] * 2
    linear = SplineTransformer(4, degree=1, extrapolation="linear").fit(rows)
    with pytest.raises(NotImplementedError, match="needs degree 2 .* got degree=1 for 2 features"):
        convert_step(linear, rows[:1])
    with pytest.raises(ValueError, match="beyond the limits"):
        step.transform(rows)
    with pytest.raises(Exception, match="out of data bounds"):
        run(convert_step(step, rows[:1]), rows)


@pytest.mark.parametrize("n_quantiles", [2, 7, 64, 200])
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_quantiles(numbers, convert_step, run, n_quantiles, distribution):
    step = QuantileTransformer(n_quantiles=n_quantiles, output_distribution=distribution)
    step.fit(numbers)
    edges = step.quantiles_ + np.array([-1e-5, 0, 1e-5])[:, None, None]
    rows = np.concatenate([numbers, 2 * numbers, *edges])
    answers = run(convert_step(step, rows[:1]), rows)[0]
    assert_allclose(answers, step.transform(rows), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("features", ["missing-only", "all"])
def test_missing_indicator(numbers, convert_step, run, features):
    step = MissingIndicator(features=features).fit(numbers)
    answers = run(convert_step(step, numbers[:1]), numbers)[0]
    assert_array_equal(answers, step.transform(numbers))
    rows = numbers.copy()
    rows[5, 2] = np.nan  # none was missing in training
    converted = convert_step(step, rows[:1])
    if features == "all":
        assert_array_equal(run(converted, rows)[0], step.transform(rows))
        return
    with pytest.raises(ValueError, match="have missing values"):
        step.transform(rows)
    with pytest.raises(Exception, match="out of data bounds"):
        run(converted, rows)
    step.set_params(error_on_new=False)
    assert_array_equal(run(convert_step(step, rows[:1]), rows)[0], step.transform(rows))


def test_missing_indicator_of_a_mixed_table(transform):
    X = pd.DataFrame({"text": ["a", np.nan, "b"], "number": [1.0, 2.0, np.nan], "full": [1, 2, 3]})
    step = MissingIndicator().fit(X)
    assert_array_equal(transform(step, X), step.transform(X))
    step = MissingIndicator(missing_values="b").fit(X[["text"]].fillna("c"))
    assert_array_equal(transform(step, X[["text"]].fillna("c")), [[0], [0], [1]])


def test_selectors_of_the_first_column(numbers, assert_parity):
    """skl2onnx cannot choose the first column alone."""
    X = numbers[:, [2, 1, 0]].copy()
    X[:, 1] = 3
    y = (X[:, 0] > 0).astype(int)
    rows = np.nan_to_num(X)
    assert_parity(make_pipeline(SelectKBest(k=1), MoDEClassifier(**PARAMS)).fit(rows, y), rows)
    model = make_pipeline(VarianceThreshold(), MoDEClassifier(**PARAMS)).fit(rows, y)
    assert_parity(model, rows)


@pytest.fixture(scope="module")
def shop():
    """A mixed table with missing values."""
    rng = np.random.default_rng(0)
    n = 120
    table = pd.DataFrame(
        {
            "age": rng.normal(size=n) * 10,
            "city": rng.choice(["Bern", "Köln", "a b"], n).astype(object),
            "visits": rng.integers(0, 5, n),
            "plan": rng.choice(["x", "y"], n).astype(object),
            "member": rng.random(n) < 0.5,
        }
    )
    table.loc[::7, "age"] = np.nan
    table.loc[::9, "city"] = np.nan
    return table, np.where(table["visits"] > 2, "often", "rarely")


NUMBERS = ["age", "visits"]
# Steps that pass strings on, and the categories of the estimator behind them.
PASSING = {
    "remainder": ([("scaled", StandardScaler(), NUMBERS)], "passthrough", "from_dtype"),
    "one by one": (
        [("city", "passthrough", ["city"]), ("scaled", StandardScaler(), NUMBERS)],
        "drop",
        ["city__city"],
    ),
    "positions": (
        [("text", "passthrough", [3, 1]), ("scaled", StandardScaler(), [2, 0])],
        "passthrough",
        "from_dtype",
    ),
    "slice": ([("all", "passthrough", slice(0, 4))], "drop", "from_dtype"),
    "identity": (
        [("all", FunctionTransformer(feature_names_out="one-to-one"), ["plan", "visits", "city"])],
        "drop",
        "from_dtype",
    ),
    "encoded": (
        [
            ("codes", OrdinalEncoder(), ["plan"]),
            ("flags", OneHotEncoder(sparse_output=False), ["plan"]),
            ("scaled", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        ],
        "passthrough",
        ["codes__plan", "remainder__city"],
    ),
    "imputed": (
        [
            (
                "text",
                SimpleImputer(strategy="most_frequent"),
                ["city", "plan"],
            ),
            ("scaled", StandardScaler(), NUMBERS),
        ],
        "drop",
        "from_dtype",
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, marks=() if case in ("remainder", "encoded", "imputed") else pytest.mark.slow
        )
        for case in PASSING
    ],
)
def test_strings_that_are_passed_on(shop, assert_parity, case):
    X, y = shop
    parts, remainder, categories = PASSING[case]
    steps = ColumnTransformer(parts, remainder=remainder).set_output(transform="pandas")
    model = make_pipeline(steps, MoDEClassifier(categorical_features=categories, **PARAMS))
    rows = X.copy()
    rows.loc[3, "city"] = "unseen"
    assert_parity(model.fit(X, y), rows)


def test_strings_and_numbers_in_one_step(shop, convert):
    """skl2onnx would turn the numbers into strings, and find none of them again."""
    X, y = shop
    for step in (
        TargetEncoder(),
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(sparse_output=False)),
    ):
        steps = ColumnTransformer([("mixed", step, ["plan", "visits"])])
        model = make_pipeline(steps, MoDEClassifier(**PARAMS)).fit(X, y)
        with pytest.raises(NotImplementedError, match="got both for 'mixed' .* split it into two"):
            convert(model, X)


def test_strings_that_are_passed_on_in_an_array(shop, assert_parity):
    X, y = shop
    steps = ColumnTransformer([("scaled", StandardScaler(), NUMBERS)], remainder="passthrough")
    model = make_pipeline(steps, MoDEClassifier(categorical_features=[2, 3], **PARAMS))
    assert_parity(model.fit(X, y), X)


def test_steps_on_a_table(shop, assert_parity):
    """Functions, splines, quantiles and indicators together."""
    X, y = shop
    steps = ColumnTransformer(
        [
            ("log", FunctionTransformer(np.log1p), ["visits"]),
            ("spline", SplineTransformer(4), ["visits"]),
            ("normal", QuantileTransformer(n_quantiles=20, output_distribution="normal"), NUMBERS),
            ("gap", MissingIndicator(features="all"), ["city", "age"]),
            (
                "union",
                FeatureUnion([("a", FunctionTransformer(np.cbrt)), ("b", StandardScaler())]),
                NUMBERS,
            ),
        ]
    )
    model = make_pipeline(steps, MoDEClassifier(**PARAMS)).fit(X, y)
    assert_parity(model, X)
    numbers = X.astype({"age": np.float32, "visits": np.float32})
    assert_parity(model, numbers)


def test_operators_have_float64(numbers, convert_step):
    """The operators exist in float64 in onnxruntime, whose sessions check that."""
    for function in functions._FUNCTIONS:
        converted = convert_step(FunctionTransformer(function).fit(numbers), numbers[:1])
        onnxruntime.InferenceSession(converted.SerializeToString())
