"""The sets of the league and their splits, the same for every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from skmode.datasets import (
    fetch_bikeshare,
    fetch_census_income,
    fetch_churn,
    fetch_keel,
    fetch_rdatasets,
)

Task = Literal["binary", "multiclass", "regression"]
Frame = tuple[pd.DataFrame, pd.Series]

SPLITS = range(5)
# Sets that had no part in choosing the defaults of skmode. Of the others the training part of the
# first split had, with which the test parts of the other splits overlap.
CHOSE_NO_DEFAULTS = frozenset({"ring", "census", "penbased", "letter"})
TEST_SHARE = 0.25
# So many rows of the two largest tables keep the whole league within an afternoon.
CENSUS_ROWS, FLIGHT_ROWS = 40_000, 30_000
# Known only after the flight (and air_time + dep_delay would nearly give arr_delay away); the
# aircraft's registration, an identifier of thousands; the date once more as text.
FLIGHT_COLUMNS_LEFT_OUT = ["dep_time", "arr_time", "air_time", "tailnum", "time_hour"]


@dataclass(frozen=True)
class TabularSet:
    """A table with its task.

    Attributes
    ----------
    name : str
        What the results call it.
    task : {"binary", "multiclass", "regression"}
        What is predicted.
    rows : int
        How many it has, for the order of the work.
    fetch : callable
        Returns features (a DataFrame of numbers and categories) and target. It can be pickled, for
        worker processes call it.
    """

    name: str
    task: Task
    rows: int
    fetch: Callable[[], tuple[Any, Any]]


class Part(NamedTuple):
    """Rows to train or to test on."""

    X: pd.DataFrame
    y: NDArray[Any]


def load(table: TabularSet) -> Part:
    """Return all rows of a set.

    Parameters
    ----------
    table : TabularSet
        One of `SETS`, or one of the caller's.

    Returns
    -------
    rows : Part
        `X`, a DataFrame of numbers and pandas categories, and `y`: classes as int64 positions in
        their sorted order, or float64 values.
    """
    X, y = table.fetch()
    if table.task == "regression":
        return Part(X, np.asarray(y, dtype=np.float64))
    return Part(X, np.unique(np.asarray(y), return_inverse=True)[1].astype(np.int64))


def split(rows: Part, task: Task, repeat: int) -> tuple[Part, Part]:
    """Divide the rows into training and test part.

    The categories of a column stay those of the whole set in both parts.

    Parameters
    ----------
    rows : Part
        What `load` returned.
    task : {"binary", "multiclass", "regression"}
        Classification is stratified.
    repeat : int
        Which of the splits, one of `SPLITS`.

    Returns
    -------
    train, test : Part
        75 % and 25 % of the rows.
    """
    X, X_test, y, y_test = train_test_split(
        rows.X,
        rows.y,
        test_size=TEST_SHARE,
        random_state=repeat,
        stratify=None if task == "regression" else rows.y,
    )
    return Part(X, y), Part(X_test, y_test)


def _keel(name: str) -> Callable[[], Frame]:
    return partial(fetch_keel, name, return_X_y=True)


def _rdatasets(package: str, name: str, target: str) -> Callable[[], Frame]:
    return partial(fetch_rdatasets, package, name, target=target, return_X_y=True)


def _with_log_target(fetch: Callable[[], Frame]) -> Frame:
    """Prices and earnings: errors count relative to the value."""
    X, y = fetch()
    return X, np.log(y)


def _fetch_census() -> Frame:
    X, y = fetch_census_income(return_X_y=True)
    X, _, y, _ = train_test_split(X, y, train_size=CENSUS_ROWS, random_state=0, stratify=y)
    return _forget_unused_categories(X), y


def _fetch_flights() -> Frame:
    X, y = fetch_rdatasets("nycflights13", "flights", target="arr_delay", return_X_y=True)
    X = X.drop(columns=FLIGHT_COLUMNS_LEFT_OUT).sample(FLIGHT_ROWS, random_state=0)
    return _forget_unused_categories(X), y[X.index]


def _forget_unused_categories(X: pd.DataFrame) -> pd.DataFrame:
    categories = X.select_dtypes("category")
    return X.assign(**{name: X[name].cat.remove_unused_categories() for name in categories})


_TABLES = [
    # Numbers.
    TabularSet("phoneme", "binary", 5404, _keel("phoneme")),
    TabularSet("spambase", "binary", 4597, _keel("spambase")),
    TabularSet("ring", "binary", 7400, _keel("ring")),
    TabularSet("magic", "binary", 19_020, _keel("magic")),
    # Categories among them; german and chess have no missing values, credit, churn and census do.
    TabularSet("german", "binary", 1000, _keel("german")),
    TabularSet("chess", "binary", 3196, _keel("chess")),
    TabularSet("credit", "binary", 4454, _rdatasets("modeldata", "credit_data", "Status")),
    TabularSet("mlc_churn", "binary", 5000, _rdatasets("modeldata", "mlc_churn", "churn")),
    TabularSet("stackoverflow", "binary", 5594, _rdatasets("modeldata", "stackoverflow", "Remote")),
    TabularSet("churn", "binary", 7043, partial(fetch_churn, return_X_y=True)),
    TabularSet("lending_club", "binary", 9857, _rdatasets("modeldata", "lending_club", "Class")),
    TabularSet("census", "binary", CENSUS_ROWS, _fetch_census),
    TabularSet("vehicle", "multiclass", 846, _keel("vehicle")),
    TabularSet("vowel", "multiclass", 990, _keel("vowel")),
    TabularSet("contraceptive", "multiclass", 1473, _keel("contraceptive")),
    TabularSet("segment", "multiclass", 2310, _keel("segment")),
    TabularSet("splice", "multiclass", 3190, _keel("splice")),
    TabularSet("texture", "multiclass", 5500, _keel("texture")),
    TabularSet("optdigits", "multiclass", 5620, _keel("optdigits")),
    TabularSet("satimage", "multiclass", 6435, _keel("satimage")),
    TabularSet("marketing", "multiclass", 6876, _keel("marketing")),
    TabularSet("penbased", "multiclass", 10_992, _keel("penbased")),
    TabularSet("letter", "multiclass", 20_000, _keel("letter")),
    TabularSet(
        "concrete", "regression", 1030, _rdatasets("modeldata", "concrete", "compressive_strength")
    ),
    TabularSet(
        "ames",
        "regression",
        2930,
        partial(_with_log_target, _rdatasets("modeldata", "ames", "Sale_Price")),
    ),
    TabularSet("bikeshare", "regression", 8645, partial(fetch_bikeshare, return_X_y=True)),
    TabularSet(
        "deliveries",
        "regression",
        10_012,
        _rdatasets("modeldata", "deliveries", "time_to_delivery"),
    ),
    TabularSet("flights", "regression", FLIGHT_ROWS, _fetch_flights),
    TabularSet(
        "diamonds",
        "regression",
        53_940,
        partial(_with_log_target, _rdatasets("ggplot2", "diamonds", "price")),
    ),
    TabularSet(
        "cpssw8",
        "regression",
        61_395,
        partial(_with_log_target, _rdatasets("AER", "CPSSW8", "earnings")),
    ),
]
SETS = {table.name: table for table in _TABLES}
# Small ones, to compare the time of one row as ONNX: numbers alone, one of each task, which all
# libraries export; categories; categories and missing values.
LATENCY_SETS = ("phoneme", "vehicle", "concrete", "german", "credit")
# Small ones of every kind, for a look within minutes.
QUICK_SETS = (
    "german",
    "phoneme",
    "credit",
    "vehicle",
    "segment",
    "contraceptive",
    "concrete",
    "ames",
)
