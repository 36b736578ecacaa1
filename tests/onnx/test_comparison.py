"""compare_with_onnx finds where a converted graph predicts something else."""

import numpy as np
import onnx
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, KBinsDiscretizer, OneHotEncoder, StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode.onnx import compare_with_onnx
from skmode_deploy.errors import BundleError, InferenceError

# Converted models of every kind; the converters' own tests compare a few in the same way.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning"),
]
PARAMS = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 5, "random_state": 0}


@pytest.fixture(scope="module")
def rounded():
    """Numbers with one decimal, many of them at the edges of bins."""
    return np.round(np.random.default_rng(0).normal(size=(300, 3)), 1)


def labels(X, names=("a", "b")):
    return np.array(names)[(X[:, 0] + X[:, 1] > 0).astype(int)]


def assert_agrees(model, graph, X):
    found = compare_with_onnx(model, graph, X)
    assert found.n_rows == len(X)
    assert found.largest_difference < 1e-4
    assert found.different_labels == 0
    assert found.rows.tolist() == []


@pytest.mark.parametrize(
    "options",
    [{}, {"zipmap": False}, {"zipmap": "columns"}, {"zipmap": False, "nocl": True}],
    ids=str,
)
def test_each_form_of_a_classifier(rounded, options):
    model = MoDEClassifier(**PARAMS).fit(rounded, labels(rounded))
    assert_agrees(model, to_onnx(model, rounded[:1], options={MoDEClassifier: options}), rounded)


@pytest.mark.parametrize(
    "kind", [MultiOutputClassifier, pytest.param(ClassifierChain, marks=pytest.mark.slow)]
)
def test_labels_of_several_targets(rounded, kind):
    y = np.column_stack([rounded[:, 0] > 0, rounded[:, 1] > 0.5]).astype(int)
    if kind is MultiOutputClassifier:
        y[:, 1] += rounded[:, 2] > 0
    model = kind(MoDEClassifier(**PARAMS)).fit(rounded, y)
    graph = to_onnx(model, rounded[:1], options={id(model): {"zipmap": False}})
    assert_agrees(model, graph, rounded)
    other = kind(MoDEClassifier(**PARAMS | {"random_state": 1})).fit(rounded, y)
    found = compare_with_onnx(other, graph, rounded)
    assert found.largest_difference > 0.01
    assert 0 < found.different_labels < 1
    assert len(found.rows) >= found.different_labels * len(rounded)


def test_sparse_rows(rounded):
    X = scipy.sparse.csr_array(rounded)
    model = MoDEClassifier(**PARAMS).fit(X, labels(rounded))
    found = compare_with_onnx(model, to_onnx(model, rounded[:1]), X)
    assert found.n_rows == len(rounded)
    assert found.largest_difference < 1e-4


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regressors(rounded, n_outputs, tmp_path):
    model = MoDERegressor(**PARAMS).fit(rounded, rounded[:, :n_outputs].squeeze() * 1e3)
    graph = to_onnx(model, rounded[:1])
    found = compare_with_onnx(model, graph, rounded)
    assert found.largest_difference < 0.1
    assert found.rows.tolist() == []
    other = MoDERegressor(**PARAMS | {"random_state": 1}).fit(
        rounded, rounded[:, :n_outputs].squeeze() * 1e3
    )
    assert len(compare_with_onnx(other, graph, rounded).rows) > 200
    onnx.save(graph, tmp_path / "model.onnx")
    assert compare_with_onnx(model, tmp_path / "model.onnx", rounded).rows.tolist() == []


@pytest.mark.parametrize("wrap", [pd.DataFrame, pl.DataFrame])
def test_tables_with_missing_values(rounded, wrap):
    table = {
        "n": np.where(rounded[:, 0] > 1, np.nan, rounded[:, 0]).tolist(),
        "city": [None if x > 1 else "BK"[int(x > 0)] for x in rounded[:, 1]],
    }
    model = MoDEClassifier(**PARAMS).fit(wrap(table), labels(rounded))
    types = [("city", StringTensorType([None, 1])), ("n", FloatTensorType([None, 1]))]
    graph = to_onnx(model, initial_types=types[::-1])
    assert_agrees(model, graph, wrap(table))
    assert_agrees(model, graph.SerializeToString(), wrap(table))


def test_what_differs_is_listed(rounded):
    model = MoDEClassifier(**PARAMS).fit(rounded, labels(rounded))
    graph = to_onnx(model, rounded[:1], options={"zipmap": False})
    other = rounded.copy()
    predict = model.predict_proba

    class Other(MoDEClassifier):
        def predict_proba(self, X):
            found = predict(X)
            found[[3, 7]] = found[[3, 7], ::-1]
            return found

    model.__class__ = Other
    found = compare_with_onnx(model, graph, other)
    assert_array_equal(found.rows, [3, 7])
    assert found.largest_difference > 0.01
    assert found.different_labels == pytest.approx(2 / 300)
    assert compare_with_onnx(model, graph, other, tolerance=2).rows.tolist() == [3, 7]


def test_what_does_not_fit(rounded):
    model = MoDEClassifier(**PARAMS).fit(rounded, labels(rounded))
    graph = to_onnx(model, rounded[:1])
    with pytest.raises(ValueError, match="X must have rows, got 0"):
        compare_with_onnx(model, graph, rounded[:0])
    encoded = make_pipeline(OneHotEncoder(), MoDEClassifier(**PARAMS))
    encoded.fit(rounded.round(), labels(rounded))
    with pytest.raises(InferenceError, match="onnxruntime .* must predict the 300 rows"):
        compare_with_onnx(encoded, to_onnx(encoded, rounded[:1]), rounded + 0.25)
    with pytest.raises(BundleError, match="must be a model that onnxruntime .* can open"):
        compare_with_onnx(model, b"no model", rounded)


def test_other_columns(rounded):
    model = MoDEClassifier(**PARAMS).fit(rounded, labels(rounded))
    message = "X must have the 3 columns that the graph reads, got {}: pass rows as they were"
    unstated = [("X", FloatTensorType([None, None]))]
    for graph in (to_onnx(model, rounded[:1]), to_onnx(model, initial_types=unstated)):
        assert_agrees(model, graph, rounded)
        wide = np.column_stack([rounded, rounded])
        for X, width in ((rounded[:, :2], 2), (wide, 6), (rounded[0], 1)):
            with pytest.raises(ValueError, match=message.format(width)):
                compare_with_onnx(model, graph, X)
    narrow = MoDEClassifier(**PARAMS).fit(rounded[:, :2], labels(rounded))
    with pytest.raises(ValueError, match="graph must read the 2 columns .* got 3: pass the graph"):
        compare_with_onnx(narrow, to_onnx(model, rounded[:1]), rounded)
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]})
    model = MoDEClassifier(**PARAMS).fit(frame, [0, 1])
    with pytest.raises(ValueError, match="must have the 2 columns that the graph reads, got 1"):
        compare_with_onnx(model, to_onnx(model, frame[:1]), frame[["a"]])


def test_inputs_of_several_columns(rounded):
    model = MoDEClassifier(**PARAMS).fit(rounded, labels(rounded))
    types = [("left", FloatTensorType([None, 2])), ("right", FloatTensorType([None, 1]))]
    graph = to_onnx(model, initial_types=types)
    assert_agrees(model, graph, rounded)
    with pytest.raises(ValueError, match="X must have the 3 columns that the graph reads, got 2"):
        compare_with_onnx(model, graph, rounded[:, :2])


def test_inputs_are_some_of_the_columns(rounded):
    """A ColumnTransformer may drop columns, which the graph then need not read."""
    frame = pd.DataFrame(rounded, columns=["a", "b", "c"])
    steps = make_column_transformer((StandardScaler(), ["c", "a"]))
    model = make_pipeline(steps, MoDEClassifier(**PARAMS)).fit(frame, labels(rounded))
    types = [(name, FloatTensorType([None, 1])) for name in "ac"]
    assert_agrees(model, to_onnx(model, initial_types=types), frame)


# Older releases of scikit-learn have no such choice.
HAS_METHOD = "quantile_method" in KBinsDiscretizer().get_params()
QUANTILES = {"quantile_method": "averaged_inverted_cdf"} if HAS_METHOD else {}
BINS = {
    "uniform": KBinsDiscretizer(5, encode="ordinal", strategy="uniform"),
    "quantile": KBinsDiscretizer(5, encode="onehot-dense", **QUANTILES),
    "kmeans": KBinsDiscretizer(4, encode="ordinal", strategy="kmeans"),
    "constant": KBinsDiscretizer(2, encode="ordinal", strategy="uniform"),
    "sparse": make_column_transformer(
        (KBinsDiscretizer(3, strategy="uniform"), [0, 1]), sparse_threshold=0
    ),
    "scaled": make_pipeline(
        StandardScaler(), KBinsDiscretizer(5, encode="ordinal", strategy="uniform")
    ),
    "binarizer": Binarizer(threshold=0.3),
    "binarizer of integers": Binarizer(threshold=1),
}


@pytest.mark.parametrize("dtype", [pytest.param(np.float64, marks=pytest.mark.slow), np.float32])
@pytest.mark.parametrize("step", BINS)
def test_values_at_edges(rounded, step, dtype):
    """The model reads float64; a graph of float32 decides as it does for numbers of few digits."""
    model = make_pipeline(BINS[step], MoDEClassifier(**PARAMS)).fit(rounded, labels(rounded))
    if step == "scaled" and dtype == np.float32:
        pytest.skip("scaled numbers have many digits")
    graph = to_onnx(model, rounded[:1].astype(dtype), options={"zipmap": False})
    assert_agrees(model, graph, rounded)


def test_values_at_edges_of_float32(rounded):
    X = rounded.astype(np.float32)
    model = make_pipeline(BINS["uniform"], MoDEClassifier(**PARAMS)).fit(X, labels(X))
    assert_agrees(model, to_onnx(model, X[:1]), X)


def test_encoders_of_tables(rounded):
    frame = pd.DataFrame({"n": rounded[:, 0], "c": [str(x) for x in rounded[:, 1]]})
    steps = make_column_transformer(
        (KBinsDiscretizer(4, encode="ordinal", strategy="uniform"), ["n"]),
        (OneHotEncoder(handle_unknown="ignore"), ["c"]),
        sparse_threshold=0,
    )
    model = make_pipeline(steps, MoDEClassifier(**PARAMS)).fit(frame, labels(rounded))
    assert_agrees(model, to_onnx(model, frame[:1]), frame.assign(c="unseen"))
