"""Made-up rows: whole cells of a row and of one of its neighbours."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from skmode._encoding.tables import TableEncoder
from skmode._estimators.rows import synthetic
from skmode._estimators.rows.synthetic import find_neighbors, make_rows, take_cells


def make(X, n_rows=400, seed=0):
    encoder = TableEncoder().fit(X, np.ones(X.shape[0]))
    return make_rows(X, encoder, encoder.transform(X), n_rows, np.random.RandomState(seed))


def test_cells_stay_what_they_are(frame):
    made, base = make(frame)
    assert made.shape == (400, 5)
    assert list(made.columns) == list(frame.columns)
    assert_array_equal(made.dtypes, frame.dtypes)
    for name in frame:
        assert set(made[name].dropna()) <= set(frame[name].dropna())
    assert made["a"].isna().any()
    assert made["kind"].isna().any()
    own = frame.iloc[base].reset_index(drop=True)
    changed = (made.astype(object) != own.astype(object)) & ~(made.isna() & own.isna())
    assert 0.3 < changed["b"].mean() < 0.6
    assert_array_equal(np.bincount(base, minlength=160) >= 2, True)


def test_each_made_up_row_has_two_parents():
    """Every cell comes from the row itself or from one other."""
    X = np.arange(60.0)[:, None] + 1000 * np.arange(4)
    made, base = make(X, 100)
    parents = made - 1000 * np.arange(4)
    for row, own in zip(parents, base, strict=True):
        assert len(set(row) - {float(own)}) <= 1
        assert np.abs(row - own).max() <= 10  # a neighbour


@pytest.mark.parametrize("convert", [np.asarray, pd.DataFrame, pl.DataFrame])
def test_containers_give_the_same_rows(convert):
    X = np.random.default_rng(0).normal(size=(50, 3))
    expected, _ = make(X, 80)
    table = X if convert is np.asarray else convert(dict(zip("abc", X.T, strict=True)))
    found, _ = make(table, 80)
    assert type(found) is type(table)
    assert_array_equal(np.asarray(found), expected)


def test_sparse_rows_stay_sparse(monkeypatch):
    monkeypatch.setattr(synthetic, "BLOCK_CELLS", 200)
    X = scipy.sparse.random_array((60, 8), density=0.3, format="csr", rng=np.random.default_rng(0))
    made, base = make(X, 90)
    assert scipy.sparse.issparse(made)
    assert made.shape == (90, 8)
    dense, own = made.toarray(), X.toarray()
    for j in range(8):
        assert set(dense[:, j]) <= set(own[:, j])
    assert 0 < (dense != own[base]).mean() < 0.5


def test_neighbours_are_looked_for_in_parts(monkeypatch):
    monkeypatch.setattr(synthetic, "SEARCHED_ROWS", 30)
    space = np.random.default_rng(0).normal(size=(100, 2))
    found = find_neighbors(space, np.random.RandomState(0))
    assert found.shape == (100, 10)
    assert (found != np.arange(100)[:, None]).all()


def test_one_row_and_two():
    for n_rows in (1, 2):
        X = np.arange(2.0 * n_rows).reshape(n_rows, 2)
        made, _ = make(X, 5)
        assert made.shape == (5, 2)


def test_cells_of_a_duplicate_name_and_of_extension_arrays():
    frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": ["x", "y", None]})
    found = take_cells(frame, np.array([[2, 0], [1, 2]]))
    assert found["a"].tolist()[0] == 3
    assert found["a"].isna().tolist() == [False, True]
    assert found.dtypes.tolist() == frame.dtypes.tolist()
