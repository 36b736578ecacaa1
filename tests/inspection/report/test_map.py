"""The map has the two columns that matter to the gate."""

import re

import numpy as np
import pandas as pd

from skmode import MoDEClassifier
from skmode.inspection import report
from skmode.inspection._report.measuring import describe_columns
from skmode.inspection._report.pictures import map_axes

QUICK = {
    "hidden_layer_sizes": (8,),
    "max_epochs": 3,
    "batch_size": 100,
    "random_state": 0,
    "balance": 0.1,
}


def test_the_map_has_the_columns_that_matter_to_the_gate():
    X = pd.DataFrame(
        {
            "flag": [0, 1] * 20,
            "word": list("ab") * 20,
            "a": np.arange(40.0),
            "b": np.arange(40) ** 2,
            "holes": [1.0, 2, 3, 4, 5, np.nan, np.nan, np.nan] * 5,
        }
    )
    columns = describe_columns(X)
    assert columns.numeric.tolist() == [True, False, True, True, True]
    assert columns.missing.sum(axis=0).tolist() == [0, 0, 0, 0, 15]
    assert map_axes(columns, np.array([9, 8, 1, 2, 3])) == (4, 3)
    assert map_axes(columns, np.array([9, 8, 1, 2, -3])) == (3, 2)
    assert map_axes(describe_columns(X[:8]), np.arange(5)) is None  # too few rows


def test_numeric_column_names_are_names_not_positions(tmp_path, read, pictures):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(80, 3)), columns=[2, 0, 1])
    y = X[2] > 0
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    page = read(report(classifier, X, y, tmp_path / "a.html", n_repeats=1))
    axes = re.search(r"rows by “(\d)” and “(\d)”", page.text).groups()
    texts = ["".join(node.itertext()).strip() for node in pictures(page)[1].iter()]
    assert set(axes) <= set(texts)


def test_without_numbers_there_is_no_map(tmp_path, read, pictures):
    X = pd.DataFrame({"a": list("xyz") * 20, "b": list("uv") * 30})
    y = np.arange(60) % 2
    classifier = MoDEClassifier(n_experts=2, **QUICK).fit(X, y)
    page = read(report(classifier, X, y, tmp_path / "a.html", n_repeats=1))
    assert "There is no map: it needs two columns of numbers" in page.text
    assert len(pictures(page)) == 2
