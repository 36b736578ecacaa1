import numpy as np
from numpy.testing import assert_array_equal

from skmode_deploy import bundle, load
from skmode_deploy._benchmark import draw_rows, measure


def test_rows_are_as_the_manifest_says(table_bundle):
    manifest = bundle.read(table_bundle)
    rows = draw_rows(manifest, 1000)
    assert 3 <= rows["age"].min() < 10
    assert 70 < rows["age"].max() <= 80
    assert set(rows["city"]) == {"Bern", "Köln"}
    assert set(rows["plan"]) == {1.0, 2.0}
    for name, values in draw_rows(manifest, 1000).items():
        assert_array_equal(values, rows[name])
    assert not np.array_equal(draw_rows(manifest, 1000, seed=1)["age"], rows["age"])


def test_rows_of_an_array_whose_ranges_are_not_known(make_regressor):
    rows = draw_rows(bundle.read(make_regressor()), 50)
    assert rows.shape == (50, 3)
    assert rows.dtype == np.float32
    assert ((rows >= 0) & (rows <= 1)).all()


def test_one_call_at_least_is_measured(table_bundle):
    speed = measure(load(table_bundle), n_rows=10, seconds=1e-9)
    assert (speed.rows, speed.calls) == (10, 1)
    assert speed.median_ms > 0
