"""Thresholds, searches, chains and transformed targets around an estimator."""

import numpy as np
import pytest
import skl2onnx
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multioutput import ClassifierChain, RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skmode import MoDEClassifier, MoDERegressor
from skmode._common.sklearn import HalvingGridSearchCV, HalvingRandomSearchCV
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._skl2onnx.models.thresholds import Threshold

PARAMS = {
    "n_experts": 2,
    "hidden_layer_sizes": (6,),
    "max_epochs": 3,
    "learning_rate": 0.05,
    "random_state": 0,
}
CLASSIFY = MoDEClassifier(**PARAMS)
REGRESS = MoDERegressor(**PARAMS)


@pytest.fixture
def assert_parity(assert_parity):
    """Compare predictions that are not all alike."""

    def check(model, X):
        assert len(np.unique(model.predict(X))) > 1
        assert_parity(model, X)

    return check


@pytest.fixture(scope="module")
def binary(flowers):
    X, _ = flowers
    return X, (X[:, 0] + X[:, 3] > 0).astype(int)


@pytest.mark.parametrize("positive", [None, 0, 1])
@pytest.mark.parametrize("threshold", ["auto", 0.2, 0.55])
def test_fixed_threshold(binary, assert_parity, positive, threshold):
    model = FixedThresholdClassifier(CLASSIFY, threshold=threshold, pos_label=positive)
    assert_parity(model.fit(*binary), binary[0])


@pytest.mark.slow
def test_threshold_on_strings(binary, assert_parity, convert, run):
    X, y = binary
    y = np.array(["good", "bad"])[y]
    scorer = make_scorer(f1_score, pos_label="bad")
    tuned = TunedThresholdClassifierCV(CLASSIFY, scoring=scorer, cv=2).fit(X, y)
    assert_parity(tuned, X)
    for positive in ("good", "bad"):
        model = FixedThresholdClassifier(tuned.estimator_, threshold=0.7, pos_label=positive)
        model.fit(X, y)
        assert len(np.unique(model.predict(X))) == 2
        assert_parity(model, X)
        positions = run(convert(model, X, nocl=True), X)[0]
        assert_array_equal(model.classes_[positions], model.predict(X))


def test_threshold_that_is_reached_exactly(run):
    """A score that equals the threshold belongs to the positive class."""
    scores = np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]], dtype=np.float32)
    for positive, expected in ((0, [0, 0, 1]), (1, [0, 1, 1])):
        graph = GraphBuilder()
        value = graph.add_input("X", 1, ["n", 2])
        value = graph.add("Identity", [Threshold(positive, 0.5).emit(graph, value)], "label")
        graph.add_output(value, 7, ["n"])
        assert_array_equal(run(graph.to_model("threshold", {}), scores)[0], expected)


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: GridSearchCV(inner, {"threshold": [0.2]}, cv=2),
        lambda inner: make_pipeline(StandardScaler(), inner),
        pytest.param(
            lambda inner: make_pipeline(StandardScaler(), GridSearchCV(inner, {}, cv=2)),
            marks=pytest.mark.slow,
        ),
        lambda inner: VotingClassifier([("a", inner), ("b", LogisticRegression())]),
        pytest.param(
            lambda inner: StackingClassifier([("a", inner)], cv=2), marks=pytest.mark.slow
        ),
        lambda inner: FixedThresholdClassifier(inner, threshold=0.55),
        lambda inner: FixedThresholdClassifier(make_pipeline(StandardScaler(), inner)),
        lambda inner: ClassifierChain(inner),
    ],
)
def test_threshold_in_another_model(binary, assert_parity, around):
    X, y = binary
    model = around(FixedThresholdClassifier(CLASSIFY, threshold=0.25))
    if isinstance(model, ClassifierChain):
        y = np.column_stack([y, X[:, 1] > 0]).astype(int)
    model.fit(X, y)
    if isinstance(model, VotingClassifier):
        converted = skl2onnx.to_onnx(
            model, X[:1], options={id(model): {"zipmap": False}}, target_opset=18
        )
        labels = next(iter(_answers(converted, X)))
        assert_array_equal(labels, model.predict(X))
    else:
        assert_parity(model, X)
    frozen = FrozenEstimator(model)
    if not isinstance(model, ClassifierChain | VotingClassifier):
        assert_parity(frozen, X)


@pytest.mark.parametrize("labels", [None, ["good", "bad"]], ids=["numbers", "strings"])
@pytest.mark.parametrize("inside", [lambda final: final, lambda final: make_pipeline(final)])
def test_threshold_of_a_final_estimator(binary, assert_parity, labels, inside):
    X, y = binary
    y = y if labels is None else np.array(labels)[y]
    final = FixedThresholdClassifier(LogisticRegression())
    model = StackingClassifier([("a", CLASSIFY)], inside(final), cv=2).fit(X, y)
    most_probable = model.predict(X)
    quarter = np.sort(model.predict_proba(X)[:, 1])[[37, 38]].mean()
    fitted = model.final_estimator_
    getattr(fitted, "steps", [("", fitted)])[-1][1].set_params(threshold=quarter)
    assert (model.predict(X) != most_probable).any()
    assert_parity(model, X)


def _answers(model, X):
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"X": X})


def test_threshold_gives_dicts_of_probabilities(binary):
    X, y = binary
    model = FixedThresholdClassifier(CLASSIFY, threshold=0.25).fit(X, y)
    labels, rows = _answers(skl2onnx.to_onnx(model, X[:1], target_opset=18), X)
    assert_array_equal(labels, model.predict(X))
    answers = [row[1] for row in rows]
    assert_allclose(answers, model.predict_proba(X)[:, 1], rtol=0, atol=1e-5)


def test_threshold_on_a_decision_function(binary):
    X, y = binary
    stacking = StackingClassifier([("a", CLASSIFY)], LogisticRegression(), cv=2)
    model = FixedThresholdClassifier(stacking, response_method="decision_function").fit(X, y)
    with pytest.raises(NotImplementedError, match="function of StackingClassifier: set response"):
        skl2onnx.to_onnx(model, X[:1], target_opset=18)
    with pytest.raises(NotFittedError):
        skl2onnx.to_onnx(FixedThresholdClassifier(CLASSIFY), X[:1], target_opset=18)


SEARCHES = [
    GridSearchCV(CLASSIFY, {"n_experts": [2]}, cv=2),
    RandomizedSearchCV(CLASSIFY, {"n_experts": [2]}, n_iter=1, cv=2),
    HalvingGridSearchCV(CLASSIFY, {"n_experts": [2]}, cv=2, min_resources=60),
    HalvingRandomSearchCV(CLASSIFY, {"n_experts": [2]}, cv=2, n_candidates=1, min_resources=60),
]


@pytest.mark.parametrize(
    "search",
    [SEARCHES[0], *(pytest.param(search, marks=pytest.mark.slow) for search in SEARCHES[1:])],
    ids=lambda search: type(search).__name__,
)
def test_searches(binary, assert_parity, search):
    X, y = binary
    search.set_params(refit=True).fit(X, y)
    assert_parity(search, X)
    assert_parity(VotingClassifier([("a", search), ("b", search)], voting="soft").fit(X, y), X)
    if not isinstance(search, HalvingGridSearchCV | HalvingRandomSearchCV):
        assert_parity(search.set_params(refit=lambda results: 0).fit(X, y), X)
    name = type(search).__name__
    with pytest.raises(NotFittedError, match=f"this {name} has no best_estimator_: set refit"):
        skl2onnx.to_onnx(search.set_params(refit=False).fit(X, y), X[:1], target_opset=18)
    with pytest.raises(NotFittedError, match=f"this {name} has no best_estimator_: set refit"):
        skl2onnx.to_onnx(clone(search).fit(X, y), X[:1], target_opset=18)


@pytest.mark.parametrize(
    "method", ["predict_proba", pytest.param("predict", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("cv", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_classifier_chain(flowers, assert_parity, method, cv):
    X, y = flowers
    Y = np.column_stack([y > 0, X[:, 2] > 0, X[:, 1] > 5]).astype(int)
    model = ClassifierChain(CLASSIFY, order=[2, 0, 1], chain_method=method, cv=cv)
    assert_parity(model.fit(X, Y), X)
    steps = make_pipeline(StandardScaler(), CLASSIFY)
    assert_parity(ClassifierChain(steps, chain_method=method).fit(X, Y), X)


def test_chain_of_several_classes(flowers, convert, run):
    X, y = flowers
    model = ClassifierChain(CLASSIFY).fit(X, np.column_stack([y, y > 0]))
    (labels,) = run(convert(model, X), X)
    assert_array_equal(labels, model.predict(X))


def test_regressor_chain(flowers, assert_parity):
    X, _ = flowers
    model = RegressorChain(REGRESS, order=[1, 0]).fit(X, X[:, [0, 2]])
    assert_parity(model, X)
    assert_parity(make_pipeline(StandardScaler(), model).fit(X, X[:, [0, 2]]), X)


TARGETS = {
    "log1p": {"func": np.log1p, "inverse_func": np.expm1},
    "log": {"func": np.log, "inverse_func": np.exp},
    "sqrt": {"func": np.sqrt, "inverse_func": np.square},
    "log2": {"func": np.log2, "inverse_func": np.exp2},
    "identity": {},
    "scaler": {"transformer": StandardScaler()},
    "robust": {"transformer": RobustScaler()},
    "min_max": {"transformer": MinMaxScaler((-1, 3), clip=True)},
    "max_abs": {"transformer": MaxAbsScaler()},
    "box_cox": {"transformer": PowerTransformer("box-cox")},
    "yeo_johnson": {"transformer": PowerTransformer(standardize=False)},
    "quantile": {"transformer": QuantileTransformer(n_quantiles=40)},
    "normal": {"transformer": QuantileTransformer(n_quantiles=40, output_distribution="normal")},
    "pipeline": {
        "transformer": make_pipeline(FunctionTransformer(np.log, np.exp), StandardScaler())
    },
}


# The others emit the same operators with other numbers.
QUICK_TARGETS = {"log1p", "sqrt", "scaler", "yeo_johnson", "quantile", "pipeline"}


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(name, marks=() if name in QUICK_TARGETS else pytest.mark.slow)
        for name in TARGETS
    ],
)
@pytest.mark.parametrize("n_outputs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_transformed_targets(flowers, assert_parity, target, n_outputs):
    X, _ = flowers
    y = np.exp(X[:, :2] / [1, 10]) + 0.5
    y = y[:, 0] if n_outputs == 1 else y
    model = TransformedTargetRegressor(REGRESS, **TARGETS[target]).fit(X, y)
    rows = np.concatenate([X, 3 * X])  # beyond the range of training
    assert_parity(model, rows)
    inner = make_pipeline(StandardScaler(), REGRESS)
    model = TransformedTargetRegressor(inner, **TARGETS[target])
    assert_parity(GridSearchCV(make_pipeline(StandardScaler(), model), {}, cv=2).fit(X, y), X)


def test_transformed_targets_that_have_no_form(flowers):
    X, _ = flowers
    y = np.abs(X[:, 0]) + 1

    def double(y):
        return 2 * y

    model = TransformedTargetRegressor(REGRESS, func=np.log, inverse_func=np.exp).fit(X, y)
    model.transformer_.inverse_func = double
    with pytest.raises(NotImplementedError, match="to be converted, got 'double': use one of"):
        skl2onnx.to_onnx(model, X[:1], target_opset=18)
    bins = KBinsDiscretizer(5, encode="ordinal")
    model = TransformedTargetRegressor(REGRESS, transformer=bins, check_inverse=False).fit(X, y)
    with pytest.raises(NotImplementedError, match="got KBinsDiscretizer: use a Pipeline of, or"):
        skl2onnx.to_onnx(model, X[:1], target_opset=18)
