"""Made-up rows: cells of neighbours in tables, and mixtures of two rows in sparse matrices."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal
from sklearn.neighbors import NearestNeighbors

from skmode import MoDEClassifier
from skmode._estimators.rows import synthetic
from skmode._estimators.rows.synthetic import make_rows


def encode(X):
    """Numbers and codes, as a fit encodes them."""
    classifier = MoDEClassifier()
    checked = classifier._check_input(X, reset=True)
    classifier._fit_encoder(checked, np.ones(X.shape[0]))
    return classifier._encode_inputs(checked)[:2]


def make(X, n_rows=400, seed=0, categories=()):
    encoded = None if scipy.sparse.issparse(X) else encode(X)
    return make_rows(X, encoded, n_rows, np.random.RandomState(seed), categories)


def clusters(n_rows=80):
    """Two clusters of rows that are far from each other, and which row is in which."""
    rng = np.random.RandomState(0)
    far = np.arange(n_rows) % 2 == 1
    X = pd.DataFrame(
        {
            "number": 100 * far + rng.normal(size=n_rows),
            "missing": np.where(np.arange(n_rows) % 7, 100 * far + rng.normal(size=n_rows), np.nan),
            "colour": pd.Categorical(np.where(far, "red", "blue")),
        }
    )
    return X, far


def test_cells_come_from_the_row_or_its_neighbours():
    X, far = clusters()
    made, base = make(X)
    assert made.dtypes.equals(X.dtypes)
    assert (made["colour"].to_numpy() == X["colour"].to_numpy()[base]).all()
    assert_array_equal(made["number"] > 50, far[base])
    assert made["number"].isin(X["number"]).all()
    # Each column has its own draw: ten of eleven are neighbours.
    other = made["number"].to_numpy() != X["number"].to_numpy()[base]
    also = made["missing"].fillna(-1).to_numpy() != X["missing"].fillna(-1).to_numpy()[base]
    assert 0.8 < other.mean() < 0.97
    assert (other & ~also).any()
    assert (also & ~other).any()
    assert_array_equal(np.bincount(base), 5)


def test_neighbours_of_many_rows_are_sought_in_blocks(monkeypatch):
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", 32)
    X, far = clusters(81)
    made, base = make(X, 1000)
    assert_array_equal(made["number"] > 50, far[base])
    assert (made["number"].to_numpy() != X["number"].to_numpy()[base]).mean() > 0.8


def test_a_scale_does_not_tell_who_is_near():
    rng = np.random.default_rng(0)
    groups = rng.integers(2, size=200)
    X = np.column_stack([groups + 0.01 * rng.normal(size=200), 1e6 * rng.normal(size=200)])
    made, base = make(X, 600)
    assert ((made[:, 0] > 0.5) == groups[base]).mean() > 0.95


@pytest.mark.parametrize("kind", ["number", "category"])
def test_tables_of_numbers_or_categories_alone(kind):
    X, far = clusters()
    columns = ["colour"] if kind == "category" else ["number", "missing"]
    made, base = make(X[columns])
    found = made["colour"] == "red" if kind == "category" else made["number"] > 50
    assert_array_equal(found, far[base])


def test_rare_categories_do_not_make_the_search_wide(monkeypatch):
    widths, fit = [], NearestNeighbors.fit
    monkeypatch.setattr(
        NearestNeighbors, "fit", lambda self, X: widths.append(X.shape[1]) or fit(self, X)
    )
    names = [f"city {i}" for i in range(500)]
    make(pd.DataFrame({"city": names * 2, "size": np.arange(1000.0)}))
    assert widths == [synthetic.MOST_CATEGORIES + 1]


def test_many_columns_of_categories_do_not_make_the_search_wide(monkeypatch):
    widths, fit = [], NearestNeighbors.fit
    monkeypatch.setattr(
        NearestNeighbors, "fit", lambda self, X: widths.append(X.shape[1]) or fit(self, X)
    )
    monkeypatch.setattr(synthetic, "MOST_DUMMIES", 30)
    X = np.random.default_rng(0).integers(0, 40, size=(200, 10))
    make(pd.DataFrame(X, columns=list("abcdefghij")).astype("category"))
    assert widths == [30]


@pytest.mark.parametrize("far", [1e9, -1e30])
def test_one_far_number_does_not_hide_its_column(far):
    rng = np.random.default_rng(0)
    groups = rng.integers(2, size=200)
    X = np.column_stack([groups + 0.01 * rng.normal(size=200)] * 2 + [np.full(200, np.nan)])
    X[0, :2] = far
    made, base = make(X, 600)
    known = (base != 0) & (made[:, 0] != far)
    assert ((made[known, 0] > 0.5) == groups[base[known]]).mean() > 0.95


def test_sparse_columns_of_a_table():
    X, far = clusters()
    dense = np.where(far[:, None], np.random.default_rng(0).random((80, 6)) > 0.3, 0).astype(float)
    for j in range(6):
        X[f"word {j}"] = pd.arrays.SparseArray(dense[:, j], fill_value=0)
    made, base = make(X)
    assert made.dtypes.equals(X.dtypes)
    assert_array_equal(made["number"] > 50, far[base])
    assert not made.loc[~far[base], "word 0"].any()
    assert made.loc[far[base], "word 0"].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("convert", [np.asarray, pd.DataFrame, pl.DataFrame])
def test_containers_give_the_same_rows(convert, dtype):
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(dtype)
    X[::7, 1] = np.nan
    expected, _ = make(X, 80)
    assert expected.dtype == dtype
    assert np.isnan(expected[:, 1]).any()
    table = X if convert is np.asarray else convert(dict(zip("abc", X.T, strict=True)))
    if convert is pl.DataFrame:
        table = table.fill_nan(None)
    found, _ = make(table, 80)
    assert type(found) is type(table)
    if convert is pl.DataFrame:
        assert found["b"].null_count() == np.isnan(expected[:, 1]).sum()
        assert found.schema == table.schema
    assert_array_equal(np.asarray(found), expected)


def test_columns_of_all_kinds_keep_their_types(frame):
    made, _ = make(frame)
    assert made.shape == (400, 5)
    assert list(made.columns) == list(frame.columns)
    assert_array_equal(made.dtypes, frame.dtypes)
    for name in frame.columns:
        assert set(made[name].dropna()) <= set(frame[name].dropna())
    assert made["a"].isna().any()
    assert made["kind"].isna().any()


def test_columns_of_polars_and_arrow_keep_their_types():
    table = pl.DataFrame(
        {"plan": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y", "z"])), "price": [0.5, 1, 2]}
    )
    assert make(table, 5)[0].schema == table.schema
    arrow = pa.table({"plan": pa.array(["x", "y", "x"]).dictionary_encode(), "price": [0.5, 1, 2]})
    assert make(arrow, 5)[0].schema == arrow.schema


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_few_rows(n_rows):
    X = np.arange(2.0 * n_rows).reshape(n_rows, 2)
    made, base = make(X, 50)
    assert made.shape == (50, 2)
    assert set(made[:, 1]) == set(X[:, 1])
    assert (made[:, 0] != X[base, 0]).any() == (n_rows > 1)


def test_duplicate_names_and_extension_arrays():
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None, 3], dtype="Int64"),
            "b": ["x", "y", None],
            "c": pd.array([0.5, None, 1.5], dtype="Float64"),
        }
    )
    encoded = encode(frame)
    frame = frame.set_axis(["a", "a", "c"], axis=1)
    made, _ = make_rows(frame, encoded, 60, np.random.RandomState(0))
    assert made.dtypes.tolist() == frame.dtypes.tolist()
    assert made.columns.tolist() == ["a", "a", "c"]
    assert set(made["c"].dropna()) == {0.5, 1.5}
    assert set(made.iloc[:, 0].dropna()) == {1, 3}


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix"])
def test_sparse_rows_stay_sparse(kind):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(60, 8)) * (rng.random((60, 8)) < 0.4)
    dense[:, 4:] = np.ceil(dense[:, 4:])
    made, base = make(getattr(scipy.sparse, kind)(dense), 90)
    assert isinstance(made, getattr(scipy.sparse, kind))
    assert made.shape == (90, 8)
    found = made.toarray()
    for j in range(4, 8):
        assert set(found[:, j]) <= set(dense[:, j])
        assert 0 < (found[:, j] != dense[base, j]).mean() < 0.5
    assert (np.abs(found[:, :4]) <= np.abs(dense).max(axis=0)[:4]).all()
    assert np.isin(found[:, :4], dense).mean() < 0.6
    # Where the other row has a zero, the own value is scaled by the row's share.
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = found[:, :4] / dense[base, :4]
    assert ((shares > 0.5) & (shares < 1)).any(axis=1).mean() > 0.5


def test_sparse_categories_that_are_fractions_are_not_averaged():
    X = np.random.default_rng(0).choice([0.5, 1.5, 2.5], size=(50, 2))
    made, _ = make(scipy.sparse.csr_array(X), 200, categories=[1])
    found = made.toarray()
    assert set(found[:, 1]) == {0.5, 1.5, 2.5}
    assert len(set(found[:, 0])) > 3


def test_wide_sparse_rows_cost_what_they_store():
    X = scipy.sparse.random_array((500, 2**20), density=1e-5, rng=np.random.default_rng(0))
    made, _ = make(X, 1500)
    assert made.shape == (1500, 2**20)
    assert made.nnz < 10 * X.nnz
