"""Sparse input gives what the same dense input gives, and only blocks of it become dense."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from skmode import MoDEClassifier, MoDERegressor
from skmode._training.rows import SparseNumbers

FAST = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
ESTIMATOR = MoDEClassifier(**FAST)

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6)) * (rng.random((200, 6)) < 0.4)
    return X, (X[:, 0] + X[:, 1] > 0).astype(int), rng.random(200)


@pytest.mark.parametrize("numeric_embedding", [None, "periodic_bias", "piecewise_linear"])
@pytest.mark.parametrize(
    "form",
    [
        "csr_matrix",
        "coo_array",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("csc_array", "lil_matrix")),
    ],
)
def test_sparse_and_dense_fits_are_equal(rows, form, numeric_embedding):
    X, y, _ = rows
    estimator = clone(ESTIMATOR).set_params(numeric_embedding=numeric_embedding)
    dense, sparse = (
        clone(estimator).fit(X, y),
        clone(estimator).fit(getattr(scipy.sparse, form)(X), y),
    )
    assert_array_equal(sparse.predict_proba(scipy.sparse.csc_array(X)), dense.predict_proba(X))
    assert_array_equal(sparse.predict_proba(X), dense.predict_proba(X))
    assert_array_equal(dense.gate_proba(scipy.sparse.coo_array(X)), dense.gate_proba(X))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_other_dtypes(rows, dtype):
    X, y = rows[0].astype(dtype), rows[1]
    dense, sparse = clone(ESTIMATOR).fit(X, y), clone(ESTIMATOR).fit(scipy.sparse.csr_array(X), y)
    assert_array_equal(
        sparse.predict_proba(scipy.sparse.csr_array(X)), dense.predict_proba(X.astype(np.float64))
    )


def test_missing_values_weights_and_several_targets(rows):
    X, y, weight = rows[0].copy(), rows[0][:, :2], rows[2]
    X[3, 2] = X[50:60, 5] = np.nan
    dense = MoDERegressor(**FAST).fit(X, y, weight)
    sparse = MoDERegressor(**FAST).fit(scipy.sparse.csr_array(X), y, weight)
    assert_array_equal(sparse.predict(scipy.sparse.csr_array(X)), dense.predict(X))
    assert sparse.score(scipy.sparse.csr_array(X), y) == dense.score(X, y)


def test_partial_fit_early_stopping_pickles_and_cross_validation(rows):
    X, y, weight = rows
    S = scipy.sparse.csr_array(X)
    dense, sparse = clone(ESTIMATOR), clone(ESTIMATOR)
    for half in (slice(100), slice(100, 200)):
        dense.partial_fit(X[half], y[half], [0, 1], weight[half])
        sparse.partial_fit(S[half], y[half], [0, 1], weight[half])
    assert_array_equal(sparse.predict_proba(S), dense.predict_proba(X))
    stopping = clone(ESTIMATOR).set_params(early_stopping=True)
    dense, sparse = clone(stopping).fit(X, y), clone(stopping).fit(S, y)
    assert_array_equal(pickle.loads(pickle.dumps(sparse)).predict_proba(S), dense.predict_proba(X))
    assert_array_equal(
        cross_val_score(ESTIMATOR, S, y, cv=2), cross_val_score(ESTIMATOR, X, y, cv=2)
    )


def test_chosen_columns_of_a_sparse_matrix_are_categories(rows):
    X, y = (rows[0] > 0).astype(int), rows[1]
    estimator = clone(ESTIMATOR).set_params(categorical_features=[1, 4])
    dense = clone(estimator).fit(X, y)
    sparse = clone(estimator).fit(scipy.sparse.csr_array(X), y)
    assert_array_equal(sparse.predict_proba(scipy.sparse.csr_array(X)), dense.predict_proba(X))


def test_sparse_columns_of_a_table(rows):
    X, y, _ = rows
    rng = np.random.default_rng(1)
    text = pd.DataFrame({"city": rng.choice(list("abcd"), 200)})
    dense, sparse = (pd.get_dummies(text, sparse=sparse) for sparse in (False, True))
    words = rng.choice(["low", "high"], 200)
    for table in (dense, sparse):
        table["number"], table["text"] = X[:, 0], words
        table["other fill"] = pd.arrays.SparseArray(X[:, 1], fill_value=1.0)
        table["filled with NaN"] = pd.arrays.SparseArray(
            np.where(X[:, 2] > 0, X[:, 2], np.nan), fill_value=np.nan
        )
    for name in ("other fill", "filled with NaN"):
        dense[name] = dense[name].sparse.to_dense()
    of_dense, of_sparse = clone(ESTIMATOR).fit(dense, y), clone(ESTIMATOR).fit(sparse, y)
    assert_array_equal(of_sparse.predict_proba(sparse), of_dense.predict_proba(dense))
    assert_array_equal(of_sparse.predict_proba(dense), of_dense.predict_proba(sparse))


def test_only_batches_become_dense(rows, monkeypatch):
    heights = []

    def counted(numbers):
        heights.append(len(numbers))
        return torch.as_tensor(numbers.matrix.toarray()).to(numbers.device, numbers.dtype)

    monkeypatch.setattr(SparseNumbers, "dense", counted)
    X = scipy.sparse.random_array((3000, 5), density=0.1, rng=0, format="csr")
    y = (X[:, [0]].toarray()[:, 0] > 0).astype(int)
    clone(ESTIMATOR).set_params(batch_size=100).fit(X, y).predict(X)
    assert max(heights) == 1024


def test_infinite_values_are_refused(rows):
    X = scipy.sparse.csr_array(np.where(rows[0] > 1, np.inf, rows[0]))
    with pytest.raises(ValueError, match="Input X contains infinity"):
        clone(ESTIMATOR).fit(X, rows[1])
    fitted = clone(ESTIMATOR).fit(rows[0], rows[1])
    with pytest.raises(ValueError, match="Input X contains infinity or a value too large"):
        fitted.predict(scipy.sparse.csr_array(rows[0] * 1e200))
