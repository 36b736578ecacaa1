"""Made-up rows: mixtures of two rows, whose numbers are averaged and whose other cells stay."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

from skmode._estimators.rows.synthetic import make_rows


def make(X, n_rows=400, seed=0):
    return make_rows(X, n_rows, np.random.RandomState(seed))


def test_cells_that_are_no_fractions_stay_what_they_are(frame):
    made, base = make(frame)
    assert made.shape == (400, 5)
    assert list(made.columns) == list(frame.columns)
    assert_array_equal(made.dtypes, frame.dtypes)
    fractions = frame.select_dtypes("floating").columns
    for name in frame.columns.drop(fractions):
        assert set(made[name].dropna()) <= set(frame[name].dropna())
    for name in fractions:
        assert made[name].between(frame[name].min(), frame[name].max())[made[name].notna()].all()
        assert not set(made[name].dropna()) <= set(frame[name].dropna())
    assert made["a"].isna().any()
    assert made["kind"].isna().any()
    own = frame.iloc[base].reset_index(drop=True)
    changed = (made["kind"].astype(object) != own["kind"].astype(object)) & own["kind"].notna()
    assert 0.05 < changed.mean() < 0.3  # a quarter comes from the other row, often the same
    assert_array_equal(np.bincount(base, minlength=160) >= 2, True)


def test_each_made_up_row_lies_between_its_two_parents():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    X = np.column_stack([X, X @ [1.0, -2.0, 0.5] + 1])  # all rows lie in a plane
    made, base = make(X, 100)
    assert_allclose(made[:, 3], made[:, :3] @ [1.0, -2.0, 0.5] + 1, atol=1e-12)
    spread = np.linalg.norm(X - X.mean(axis=0), axis=1).mean()
    away = np.linalg.norm(made - X[base], axis=1)
    assert 0.1 * spread < away.mean() < spread  # nearer to the first one


def test_whole_numbers_may_be_codes():
    X = np.column_stack([np.arange(50.0), np.arange(50.0) / 2])
    made, _ = make(X, 200)
    assert set(made[:, 0]) <= set(X[:, 0])
    assert not set(made[:, 1]) <= set(X[:, 1])


@pytest.mark.parametrize(
    "convert", [np.asarray, pd.DataFrame, pl.DataFrame, scipy.sparse.csr_array]
)
def test_categories_that_are_fractions_are_not_averaged(convert):
    X = np.random.default_rng(0).choice([0.5, 1.5, 2.5], size=(50, 2))
    table = convert(X) if convert is not pl.DataFrame else pl.DataFrame(X, schema=["a", "b"])
    made, _ = make_rows(table, 200, np.random.RandomState(0), categories=[1])
    found = made.toarray() if scipy.sparse.issparse(made) else np.asarray(made)
    assert set(found[:, 1]) == {0.5, 1.5, 2.5}
    assert len(set(found[:, 0])) > 3


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
    assert_allclose(np.asarray(found), expected, rtol=1e-6)


def test_columns_of_polars_and_arrow_keep_their_types():
    table = pl.DataFrame(
        {"plan": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y", "z"])), "price": [0.5, 1, 2]}
    )
    assert make(table, 5)[0].schema == table.schema
    arrow = pa.table({"plan": pa.array(["x", "y", "x"]).dictionary_encode(), "price": [0.5, 1, 2]})
    assert make(arrow, 5)[0].schema == arrow.schema


def test_a_missing_number_is_not_averaged():
    X = np.array([[0.5], [np.nan]])
    made, base = make(X, 40)
    assert_allclose(made[:, 0], X[base, 0])


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


def test_wide_sparse_rows_cost_what_they_store():
    X = scipy.sparse.random_array((500, 2**20), density=1e-5, rng=np.random.default_rng(0))
    made, _ = make(X, 1500)
    assert made.shape == (1500, 2**20)
    assert made.nnz < 10 * X.nnz


@pytest.mark.parametrize("n_rows", [1, 2])
def test_one_row_and_two(n_rows):
    X = np.arange(2.0 * n_rows).reshape(n_rows, 2)
    made, _ = make(X, 5)
    assert made.shape == (5, 2)


def test_duplicate_names_and_extension_arrays():
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None, 3], dtype="Int64"),
            "b": ["x", "y", None],
            "c": pd.array([0.5, None, 1.5], dtype="Float64"),
        }
    ).set_axis(["a", "a", "c"], axis=1)
    made, base = make(frame, 60)
    assert made.dtypes.tolist() == frame.dtypes.tolist()
    assert made.columns.tolist() == ["a", "a", "c"]
    assert made["c"].isna().tolist() == (base == 1).tolist()
    assert set(made.iloc[:, 0].dropna()) == {1, 3}
