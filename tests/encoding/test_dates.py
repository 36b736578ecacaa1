"""Dates are refused by the name of their column, with a line that makes numbers of them."""

import datetime
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone

from skmode import MoDEClassifier

ESTIMATOR = MoDEClassifier(n_experts=2, hidden_layer_sizes=(8,), max_epochs=1, random_state=0)
DAYS = pd.Series(pd.date_range("2020-01-01", periods=4))
TARGET = [0, 1, 0, 1]
COLUMNS = {
    "datetime": DAYS,
    "time zone": DAYS.dt.tz_localize("Europe/Berlin"),
    "duration": DAYS - DAYS[0],
    "period": DAYS.dt.to_period("D"),
    "date objects": DAYS.dt.date.astype(object),
    "date objects with None": pd.Series([None, *DAYS.dt.date[1:]], dtype=object),
    "time objects": pd.Series([datetime.time(hour) for hour in range(4)], dtype=object),
    "pyarrow dates": pd.Series(DAYS.dt.date.to_numpy(), dtype=pd.ArrowDtype(pa.date32())),
    "pyarrow time stamps": DAYS.astype("timestamp[ns][pyarrow]"),
    "pyarrow durations": (DAYS - DAYS[0]).astype("duration[ns][pyarrow]"),
}
TABLES = {
    "polars dates": pl.DataFrame({"when": DAYS.dt.date.to_list()}),
    "polars time stamps": pl.DataFrame({"when": DAYS.dt.to_pydatetime()}),
    "polars durations": pl.DataFrame({"when": [datetime.timedelta(days=1)] * 4}),
    "polars times": pl.DataFrame({"when": [datetime.time(1)] * 4}),
    "arrow dates": pa.table({"when": pa.array(DAYS.dt.date.to_list())}),
}


def line_of(message):
    """The assignment that a message proposes."""
    return re.search(
        r"(?:for example|in pandas) (X.*?)(?:, or use skrub|, or make strings|\.$)", message
    )[1]


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_a_date_column_is_refused_with_a_line_that_cures_it(column):
    X = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "when": column})
    with pytest.raises(ValueError, match=r"column 'when': make numbers of them") as caught:
        clone(ESTIMATOR).fit(X, TARGET)
    cured = X.copy()
    exec(line_of(str(caught.value)), {"X": cured, "pd": pd})  # what a user would paste
    estimator = clone(ESTIMATOR).fit(cured, TARGET)
    assert [each.kind for each in estimator.encoder_.columns_] == ["number", "number"]
    assert estimator.encoder_.columns_[1].maximum > estimator.encoder_.columns_[1].minimum
    with pytest.raises(ValueError, match=r"column 'when': make numbers of them"):
        estimator.predict(X)


@pytest.mark.parametrize("asked", [["when"], [False, True], "from_dtype"], ids=str)
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_date_categories_are_refused_with_a_line_that_cures_it(column, asked):
    X = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "when": column})
    if asked == "from_dtype":
        X["when"] = X["when"].astype("category")
    estimator = clone(ESTIMATOR).set_params(categorical_features=asked)
    match = r"column 'when': make numbers of them, .* or make strings of them, which stay categor"
    with pytest.raises(ValueError, match=match) as caught:
        estimator.fit(X, TARGET)
    cured = X.copy()
    exec(line_of(str(caught.value)), {"X": cured, "pd": pd})
    assert len(estimator.fit(cured, TARGET).predict(cured)) == 4
    strings = X.assign(when=X["when"].astype(str))
    assert estimator.fit(strings, TARGET).encoder_.columns_[1].kind == "category"


@pytest.mark.parametrize("X", TABLES.values(), ids=TABLES)
def test_dates_of_other_tables_are_refused(X):
    with pytest.raises(ValueError, match=r"column 'when': make numbers of them") as caught:
        clone(ESTIMATOR).fit(X, TARGET)
    if isinstance(X, pl.DataFrame):
        names = {"X": X, "pl": pl}
        exec(line_of(str(caught.value)), names)
        assert names["X"]["when"].dtype.is_numeric()


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_dates_where_training_saw_strings_are_refused(column):
    estimator = clone(ESTIMATOR).fit(pd.DataFrame({"when": ["a", "b", "a", "b"]}), TARGET)
    with pytest.raises(ValueError, match=r"'when' must hold the categories of training, got"):
        estimator.predict(pd.DataFrame({"when": column}))


@pytest.mark.parametrize(
    "X",
    [
        np.column_stack([DAYS, DAYS]),
        np.column_stack([DAYS - DAYS[0], DAYS - DAYS[0]]),
        np.column_stack([DAYS.dt.date, DAYS.dt.date]),
    ],
    ids=["datetime64", "timedelta64", "objects"],
)
def test_arrays_of_dates_are_refused(X):
    with pytest.raises(ValueError, match=r"column 'x0': make numbers of them"):
        clone(ESTIMATOR).fit(X, TARGET)


@pytest.mark.parametrize("column", [DAYS, DAYS.dt.to_period("D"), DAYS - DAYS[0]])
def test_categories_of_dates_are_refused_where_training_saw_others(column):
    for trained, message in (
        ([1.0, 2.0, 3.0, 4.0], r"column 'when': make numbers of them"),
        (["a", "b", "a", "b"], r"'when' must hold the categories of training, got \w+ \(category"),
    ):
        estimator = clone(ESTIMATOR).fit(pd.DataFrame({"when": trained}), TARGET)
        with pytest.raises(ValueError, match=message) as caught:
            estimator.predict(pd.DataFrame({"when": column.astype("category")}))
        empty = pd.Series([None] * 4, dtype=column.astype("category").dtype)
        assert len(estimator.predict(pd.DataFrame({"when": empty}))) == 4
        if trained[0] == 1.0:
            cured = pd.DataFrame({"when": column.astype("category")})
            exec(line_of(str(caught.value)), {"X": cured, "pd": pd})
            assert len(estimator.predict(cured)) == 4


def test_a_column_without_values_is_missing_whatever_its_type():
    X = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "when": pd.Series([pd.NaT] * 4)})
    assert len(clone(ESTIMATOR).fit(X, TARGET).predict(X)) == 4
