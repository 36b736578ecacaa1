"""Tables and arrays become numbers and codes."""

import re
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import StandardScaler

from skmode import MoDEClassifier, MoDERegressor
from skmode._encoding.tables import TableEncoder, weighted_quantiles

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

QUICK = {"n_experts": 2, "hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}
NAN = np.nan


def fit(X, categorical_features="from_dtype"):
    return TableEncoder(categorical_features).fit(X, np.ones(len(X)))


def objects(*values):
    return np.array(values, dtype=object)


# One column of numbers and one of strings, in each kind of table that is read.
NUMBERS = {
    "float": pd.Series([1.0, NAN, 0.0]),
    "Int64": pd.array([1, None, 0], dtype="Int64"),
    "Float64": pd.array([1.0, pd.NA, 0.0], dtype="Float64"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "object numbers": objects(1, None, 0.0),
    "object bools": objects(True, pd.NA, False),
    "pandas arrow": pd.array([1, None, 0], dtype="int64[pyarrow]"),
    "polars": pl.Series([1, None, 0]),
    "polars NaN": pl.Series([1.0, NAN, 0.0]),
    "polars bool": pl.Series([True, None, False]),
    "arrow": pa.array([1, None, 0]),
    "arrow bool": pa.array([True, None, False]),
}
STRINGS = {
    "object None": objects("b", None, "a"),
    "object NaN": objects("b", NAN, "a"),
    "object NA": objects("b", pd.NA, "a"),
    "object empty": objects("b", "", "a"),
    "string": pd.array(["b", pd.NA, "a"], dtype="string"),
    "category": pd.Categorical(["b", None, "a"], categories=["z", "b", "a"]),
    "category empty": pd.Categorical(["b", "", "a"]),
    "pandas arrow": pd.array(["b", None, "a"], dtype="string[pyarrow]"),
    "polars": pl.Series(["b", None, "a"]),
    "polars empty": pl.Series(["b", "", "a"]),
    "polars categorical": pl.Series(["b", None, "a"], dtype=pl.Categorical),
    "polars enum": pl.Series(["b", None, "a"], dtype=pl.Enum(["z", "b", "a"])),
    "arrow": pa.array(["b", None, "a"]),
    "arrow dictionary": pa.array(["b", None, "a"]).dictionary_encode(),
}
NUMERIC_CATEGORIES = {
    "category of ints": pd.Categorical([7, None, 3]),
    "category of floats": pd.Categorical([7.0, None, 3.0]),
    "arrow dictionary": pa.array([7, None, 3]).dictionary_encode(),
}


def table(column):
    if isinstance(column, pl.Series):
        return pl.DataFrame({"c": column})
    if isinstance(column, pa.Array | pa.DictionaryArray):
        return pa.table({"c": column})
    return pd.DataFrame({"c": column})


@pytest.mark.parametrize("column", NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_of_every_type_are_read_alike(column):
    numbers, codes = fit(table(column)).transform(table(column))
    assert_array_equal(numbers, [[1], [NAN], [0]])
    assert codes.shape == (3, 0)
    assert (numbers.dtype, codes.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("column", STRINGS.values(), ids=STRINGS.keys())
def test_strings_of_every_type_get_the_same_codes(column):
    numbers, codes = fit(table(column)).transform(table(column))
    assert_array_equal(codes, [[2], [3], [1]])
    assert numbers.shape == (3, 0)
    assert (numbers.dtype, codes.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("column", NUMERIC_CATEGORIES.values(), ids=NUMERIC_CATEGORIES.keys())
def test_categories_may_be_numbers(column):
    assert_array_equal(fit(table(column)).transform(table(column))[1], [[2], [3], [1]])


@pytest.mark.parametrize("column", NUMBERS.values(), ids=NUMBERS.keys())
def test_number_columns_may_be_categories_on_request(column):
    encoder = fit(table(column), ["c"])
    assert_array_equal(encoder.transform(table(column))[1], [[2], [3], [1]])


@pytest.mark.parametrize("seen", STRINGS.values(), ids=STRINGS.keys())
def test_codes_do_not_depend_on_the_type_at_prediction(seen):
    encoder = fit(table(STRINGS["object None"]))
    assert_array_equal(encoder.transform(table(seen))[1], [[2], [3], [1]])


def test_codes_of_numbers_do_not_depend_on_the_type_at_prediction():
    encoder = fit(table(NUMERIC_CATEGORIES["category of ints"]))
    for seen in (*NUMERIC_CATEGORIES.values(), objects(7, None, 3), objects("7", None, "3")):
        assert_array_equal(encoder.transform(table(seen))[1], [[2], [3], [1]])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_unseen_category_is_code_zero(frame):
    encoder = fit(frame({"c": ["a", "b", None]}))
    assert_array_equal(encoder.transform(frame({"c": ["b", "new", ""]}))[1], [[2], [0], [3]])


def test_unseen_number_is_code_zero():
    encoder = fit(pd.DataFrame({"c": [1, 2, 2]}), ["c"])
    assert_array_equal(encoder.transform(pd.DataFrame({"c": [2, 3, 1.5]}))[1], [[2], [0], [0]])


@pytest.mark.parametrize("missing", [None, NAN, pd.NA, ""])
def test_missing_category_first_seen_at_prediction_is_code_zero(missing):
    encoder = fit(pd.DataFrame({"c": ["a", "b"]}))
    new = pd.DataFrame({"c": objects("b", missing)})
    assert_array_equal(encoder.transform(new)[1], [[2], [0]])


@pytest.mark.parametrize("column", NUMBERS.values(), ids=NUMBERS.keys())
def test_range_of_numbers_of_every_type(column):
    (learnt,) = fit(table(column)).columns_
    assert (learnt.minimum, learnt.maximum) == (0.0, 1.0)
    assert type(learnt.minimum) is type(learnt.maximum) is float


def test_range_is_computed_in_float32():
    (column,) = fit(np.array([[0.1], [NAN], [-16777217.0]])).columns_
    assert column.minimum == -16777216.0
    assert column.maximum == float(np.float32(0.1)) != 0.1


def test_categories_and_numbers_that_are_all_missing_have_no_range():
    encoder = fit(pd.DataFrame({"s": ["a", "b"], "c": [1, 2], "n": [NAN, NAN]}), ["s", "c"])
    assert [(c.minimum, c.maximum) for c in encoder.columns_] == [(None, None)] * 3


def test_rows_of_zero_weight_do_not_widen_the_range():
    X, y = np.array([[1.0], [2.0], [900.0]]), [0, 1, 0]
    estimator = MoDEClassifier(**QUICK).fit(X, y, sample_weight=[1, 1, 0])
    (column,) = estimator.encoder_.columns_
    assert (column.minimum, column.maximum) == (1.0, 2.0)


@pytest.mark.parametrize(
    "new",
    [
        pd.DataFrame({"n": [None], "s": [None]}),
        pd.DataFrame({"n": [NAN], "s": [NAN]}),
        pl.DataFrame({"n": [None], "s": [None]}),
        pa.table({"n": pa.nulls(1), "s": pa.nulls(1)}),
    ],
    ids=["pandas None", "pandas NaN", "polars", "arrow"],
)
def test_a_row_may_be_all_missing(new):
    encoder = fit(pd.DataFrame({"n": [1.0, 2.0], "s": ["a", None]}))
    numbers, codes = encoder.transform(new)
    assert_array_equal(numbers, [[NAN]])
    assert_array_equal(codes, [[2]])


@pytest.mark.parametrize(
    "column", [objects(None, None), pl.Series([None, None]), pa.nulls(2), [NAN, NAN]], ids=type
)
def test_a_column_may_be_all_missing(column):
    frame = table(column)
    assert np.isfinite(MoDEClassifier(**QUICK).fit(frame, [0, 1]).predict_proba(frame)).all()


def test_all_missing_numbers_keep_centre_and_scale():
    (column,) = fit(np.full((3, 1), NAN)).columns_
    assert (column.center, column.scale, column.has_missing) == (0.0, 1.0, True)


def test_constant_column_is_centred():
    (column,) = fit(np.full((3, 1), 5.0)).columns_
    assert (column.center, column.scale, column.has_missing) == (5.0, 1.0, False)


def test_column_with_a_constant_middle_is_scaled_by_its_range():
    (column,) = fit(np.array([[0.0]] * 9 + [[8.0]])).columns_
    assert (column.center, column.scale) == (0.0, 4.0)


@pytest.mark.parametrize("far", [1e4, 999_999_999, -1e30])
@pytest.mark.parametrize("values", [[8.0], [1.0, 2.0, 2.5, 8.0]])
def test_far_numbers_do_not_widen_that_range(values, far):
    X = np.array([0.0] * 400 + values * 20 + [far])[:, None]
    (column,) = fit(X).columns_
    assert (column.center, column.scale) == (0.0, 4.0)


@pytest.mark.parametrize("share", [0.8, 0.85])
def test_a_middle_that_differs_by_rounding_is_constant(share):
    rng = np.random.default_rng(0)
    rounded = rng.random(2000) < share
    X = np.where(rounded, 1e-14 * rng.normal(size=2000), rng.uniform(0, 8, 2000))
    (column,) = fit(X[:, None]).columns_
    assert column.scale == pytest.approx(4, rel=0.02)


def test_normal_column_is_scaled_to_unit_variance():
    (column,) = fit(np.random.default_rng(0).normal(3, 10, size=(20_000, 1))).columns_
    assert column.center == pytest.approx(3, abs=0.3)
    assert column.scale == pytest.approx(10, rel=0.02)


mixed = pd.DataFrame({"n": [1.0, 2.0], "s": ["a", "b"], "k": [5, 6]})


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ("from_dtype", ["number", "category", "number"]),
        ([False, True, True], ["number", "category", "category"]),
        (np.array([1, 2]), ["number", "category", "category"]),
        (["s", "k"], ["number", "category", "category"]),
        (pd.Index(["s"]), ["number", "category", "number"]),
    ],
)
def test_categorical_features_choose_columns(asked, kinds):
    assert [column.kind for column in fit(mixed, asked).columns_] == kinds


@pytest.mark.parametrize("asked", [None, [], [False, False]])
def test_no_categorical_features(asked):
    encoder = fit(mixed[["n", "k"]], asked)
    assert [column.kind for column in encoder.columns_] == ["number", "number"]


def test_positions_choose_columns_of_an_array():
    X = np.array([[1.0, 7.0], [2.0, 3.0]])
    numbers, codes = fit(X, [1]).transform(X)
    assert_array_equal(numbers, [[1], [2]])
    assert_array_equal(codes, [[2], [1]])


def test_object_array_with_string_columns_on_request():
    X = np.array([["a", 1.0], ["b", 2.0], [None, NAN]], dtype=object)
    estimator = MoDERegressor(**QUICK, categorical_features=[0]).fit(X, [1.0, 2.0, 3.0])
    numbers, codes = estimator.encoder_.transform(X)
    assert_array_equal(numbers, [[1], [2], [NAN]])
    assert_array_equal(codes, [[1], [2], [3]])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("s", "got 's': put a single name into a list"),
        ([True], r"needs one entry per column: 3, got shape \(1,\)"),
        ([3], r"positions must lie in 0\.\.2, got \[3\]"),
        ([-1], r"positions must lie in 0\.\.2, got \[-1\]"),
        (["s", "z"], r"names must be columns of a DataFrame, got \['z'\]"),
    ],
)
def test_wrong_categorical_features_are_an_error(asked, message):
    with pytest.raises(ValueError, match=message):
        fit(mixed, asked)


@pytest.mark.parametrize("parameter", ["categorical_features", "text_features", "image_features"])
def test_names_that_a_column_transformer_changed_are_an_error_that_says_so(parameter):
    table = pd.DataFrame({"age": np.arange(4.0), "town": ["Bern", "Chur"] * 2})
    prepare = ColumnTransformer([("scale", StandardScaler(), ["age"])], remainder="passthrough")
    prepare.set_output(transform="pandas")
    estimator = MoDERegressor(**QUICK, **{parameter: ["town"]})
    with pytest.raises(ValueError, match=f"{parameter} names.*verbose_feature_names_out=False"):
        estimator.fit(prepare.fit_transform(table), table["age"])
    with pytest.raises(ValueError, match=r"'town'\]\.$"):  # nothing of a ColumnTransformer
        estimator.set_params(**{parameter: ["city"]}).fit(table, table["age"])
    if parameter == "categorical_features":
        prepare.set_params(verbose_feature_names_out=False)
        estimator.set_params(**{parameter: ["town"]})
        estimator.fit(prepare.fit_transform(table), table["age"])
        assert estimator.encoder_.columns_[1].kind == "category"


def test_names_of_array_columns_are_an_error():
    with pytest.raises(ValueError, match=r"names must be columns of a DataFrame, got \['x0'\]"):
        fit(np.ones((2, 2)), ["x0"])


def test_category_column_of_mixed_types_is_an_error():
    frame = pd.DataFrame({"c": objects(1, "a", None)})
    with pytest.raises(ValueError, match="only strings or only numbers, got 'mixed.* column 'c'"):
        fit(frame, ["c"])


def test_number_column_of_mixed_types_is_an_error():
    with pytest.raises(ValueError, match="Column 'c' must hold numbers, but reading it failed"):
        fit(pd.DataFrame({"c": objects(1, "a", None)}))


def test_duplicate_column_names_are_an_error():
    frame = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])
    with pytest.raises(ValueError, match="unique column names, got"):
        MoDERegressor(**QUICK).fit(frame, [1.0, 2.0])


def test_integer_column_names_are_not_kept():
    frame = pd.DataFrame([["a", 2], ["b", 4]])
    estimator = MoDERegressor(**QUICK).fit(frame, [1.0, 2.0])
    assert not hasattr(estimator, "feature_names_in_")
    assert [column.kind for column in estimator.encoder_.columns_] == ["category", "number"]


@pytest.mark.parametrize(
    "empty",
    [np.empty((0, 2)), pd.DataFrame({"a": [], "b": []}), pl.DataFrame({"a": [], "b": []})],
    ids=["array", "pandas", "polars"],
)
def test_no_rows_are_an_error(empty):
    estimator = MoDERegressor(**QUICK)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        estimator.fit(empty, [])
    estimator.fit(pd.DataFrame({"a": [1, 2], "b": [3, 4]}), [1.0, 2.0])
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        estimator.predict(empty)


@pytest.mark.parametrize("empty", [np.empty((2, 0)), pd.DataFrame(index=[0, 1])], ids=type)
def test_no_columns_are_an_error(empty):
    with pytest.raises(ValueError, match=r"(?i)found array with 0 feature\(s\)"):
        MoDERegressor(**QUICK).fit(empty, [1.0, 2.0])


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39], ids=str)
@pytest.mark.parametrize(
    "wrap", [np.array, pd.DataFrame, lambda rows: pl.DataFrame({"a": rows[:, 0]})],
    ids=["array", "pandas", "polars"],
)  # fmt: skip
def test_infinite_values_are_an_error_in_fit_and_predict(wrap, value):
    fine = wrap(np.array([[1.0], [np.nan], [2.0]]))
    infinite = wrap(np.array([[1.0], [np.nan], [value]]))
    name = "'?(a|x0|0)'?"
    message = (
        f"Input X contains infinity or a value too large .* Column {name} has .* in row 2: cor"
    )
    with pytest.raises(ValueError, match=message):
        MoDERegressor(**QUICK).fit(infinite, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=message):
        MoDERegressor(**QUICK).fit(fine, [1.0, 2.0, 3.0]).predict(infinite)


def test_an_infinite_number_among_strings_is_named():
    with pytest.raises(ValueError, match="infinity .* Column 1 has inf in row 2: correct it"):
        MoDERegressor(**QUICK).fit(
            np.array([["1.5", "2"], ["0", "1"], ["3", "inf"]], dtype=object), [1.0, 2.0, 3.0]
        )


def test_time_stamps_warn_that_float32_cannot_tell_them_apart():
    X = 1.7e9 + np.arange(10.0)[:, None]
    message = "column 'x0' varies by only .* subtract a constant"
    with pytest.warns(UserWarning, match=message) as found:
        MoDERegressor(**QUICK).fit(X, np.arange(10.0))
    (own,) = (each for each in found if "float32" in str(each.message))
    assert own.filename == __file__  # the user's line


DAYS = pd.date_range("2024-01-01", periods=30).strftime("%Y-%m-%d")
AMOUNTS = [*map(str, range(30)), "unknown", None]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (DAYS, r"got column 'a': .*parse_dates=\['a'\]"),
        (DAYS + "T12:00:00Z", "Dates that are strings"),
        (pd.Series(DAYS).repeat(2), "Dates that are strings"),
        ([f"{i % 28 + 1}.{i % 12 + 1}.2024 10:00" for i in range(30)], "dayfirst=True"),
        ([f"{i % 12 + 1}/{i % 28 + 1}/2024" for i in range(30)], "dayfirst=False"),
        (AMOUNTS, r"got 'unknown' among the numbers of column 'a'.*na_values=\['unknown'\]"),
        ([f"{i},5" for i in range(30)], r"got '0,5' in column 'a'.*decimal=','"),
        ([f"{i},{500 + i}" for i in range(1, 31)], r"got '1,501' in column 'a'.*thousands=','"),
        ([f"0,{500 + i}" for i in range(30)], "decimal=','"),
        ([f"{i}.000,5" for i in range(1, 31)], "decimal=',', thousands='.'"),
        ([f"{i}.000.000" for i in range(1, 31)], r"read_csv\(..., thousands='.'\)"),
        ([f"C{i}" for i in range(30)], r"30 different ones in 30 rows.*text_features=\['a'\]"),
        ([None, "", *(f"a note no. {i}" for i in range(30)), "a note no. 7"], "30 .* in 31 rows"),
    ],
)
@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_strings_that_a_csv_file_left_warn(values, message, make):
    with pytest.warns(UserWarning, match=message) as found:
        fit(make({"a": list(values)}))
    (own,) = (each for each in found if "are read as categories" in str(each.message))
    assert own.filename == __file__  # the user's line


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"a": DAYS}).astype("category"),
        pl.DataFrame({"a": list(DAYS)}, schema={"a": pl.Categorical}),
        pd.DataFrame({"a": DAYS[:5].repeat(6)}),
        pd.DataFrame({"postcode": [str(8000 + i) for i in range(30)] * 2}),
        pd.DataFrame({"rooms": ["1", "2", "3 or more"] * 10}),
        pd.DataFrame({"code": [f"A{i}" for i in range(30)] * 2}),
        pd.DataFrame({"code": [f"A{i}" for i in range(19)]}),
        pd.DataFrame({"version": [f"1.2.{i}" for i in range(30)] * 2}),
        pd.DataFrame({"phone": [f"030-{i}" for i in range(30)] * 2}),
        pd.DataFrame({"group": [f"{i}-{i + 9}" for i in range(30)] * 2}),
    ],
)
def test_strings_that_are_meant_as_categories_do_not_warn(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(table)


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ([f"{i}.5 €" for i in range(30)], np.arange(30) + 0.5),
        ([f"${i},000.50" for i in range(1, 31)], 1000 * np.arange(1, 31) + 0.5),
        ([f"-CHF {i}.000,5" for i in range(1, 31)], -1000 * np.arange(1, 31) - 0.5),
        ([f"{i}'000" for i in range(1, 31)], 1000 * np.arange(1, 31)),
        ([*(f"{i} %" for i in range(29)), None], [*range(29), NAN]),
        ([*(f"€{i}" for i in range(29)), "on request"], [*range(29), NAN]),
    ],
)
def test_the_warning_of_amounts_has_a_line_that_makes_numbers(values, numbers):
    X = pd.DataFrame({"a": values})
    with pytest.warns(UserWarning, match="Numbers with signs or commas are read as ") as found:
        fit(X)
    line = re.search(r"pd\.to_numeric\(.*\)(?=\. If)", str(found[0].message))[0]
    assert_array_equal(eval(line, {"pd": pd, "X": X}), numbers)


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y %H:%M"])
def test_the_warning_of_dates_has_a_line_that_reads_them(form):
    days = pd.date_range("2024-01-01", periods=30)
    X = pd.DataFrame({"a": days.strftime(form)})
    with pytest.warns(UserWarning, match="Dates that are strings") as found:
        fit(X)
    line = re.search(r"pd\.to_datetime\(.*?\)(?=, and)", str(found[0].message))[0]
    assert_array_equal(eval(line, {"pd": pd, "X": X}), days)


def test_dates_that_are_named_as_categories_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(pd.DataFrame({"a": DAYS}), ["a"])


@pytest.mark.parametrize("column", [1.7e9 + 1e6 * np.arange(10.0), np.full(10, 1.7e9)])
def test_numbers_distinct_in_float32_do_not_warn(column):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(column[:, None])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_columns_in_another_order_are_an_error(frame):
    estimator = MoDERegressor(**QUICK).fit(frame({"a": [1, 2], "b": ["x", "y"]}), [1.0, 2.0])
    with pytest.raises(ValueError, match="must be in the same order"):
        estimator.predict(frame({"b": ["x", "y"], "a": [1, 2]}))


def test_pandas_polars_and_arrow_give_the_same_model():
    frame = pd.DataFrame({"n": [1.0, NAN, 3.0, 4.0], "s": ["x", "y", None, "x"]})
    frames = [frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)]
    estimators = [MoDEClassifier(**QUICK).fit(each, [0, 1, 0, 1]) for each in frames]
    probabilities = [estimator.predict_proba(each) for estimator in estimators for each in frames]
    for other in probabilities[1:]:
        assert_array_equal(probabilities[0], other)


values = arrays(np.float64, st.integers(1, 30), elements=st.integers(-50, 50).map(float))


@given(values, st.data())
def test_weighted_quantiles_equal_repeated_rows(values, data):
    weight = data.draw(arrays(np.int64, len(values), elements=st.integers(1, 5)))
    levels = np.linspace(0, 1, 49)
    repeated = np.repeat(values, weight)
    expected = np.quantile(repeated, levels, method="inverted_cdf")
    ones = np.ones(len(repeated))
    assert_array_equal(weighted_quantiles(values, weight / 1.0, levels), expected)
    assert_array_equal(weighted_quantiles(values, weight / weight.mean(), levels), expected)
    assert_array_equal(weighted_quantiles(repeated, ones, levels), expected)


@given(values, st.data())
def test_encoder_learns_the_same_from_weights_and_from_repeated_rows(values, data):
    weight = data.draw(arrays(np.int64, len(values), elements=st.integers(1, 5)))
    weighted = TableEncoder().fit(values[:, None], weight / 1.0)
    repeated = fit(np.repeat(values, weight)[:, None])
    assert weighted.columns_ == repeated.columns_


def test_reordered_columns_are_an_error_whatever_the_table():
    encoder = fit(pl.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}))
    with pytest.raises(ValueError, match="X must have the columns of training in their order"):
        encoder.transform(pl.DataFrame({"b": [3.0, 4.0], "a": [1.0, 2.0]}))


def test_integer_categories_that_float64_cannot_tell_apart_are_an_error():
    frame = pd.DataFrame({"c": pd.Categorical([2**60, 2**60 + 1])})
    with pytest.raises(ValueError, match=r"within 2\*\*53 of zero.*column 'c'.*to strings"):
        fit(frame)


def test_lazy_tables_and_duplicate_names_are_errors_that_say_what_to_do():
    with pytest.raises(TypeError, match=r"got LazyFrame: pass X.collect\(\)"):
        MoDERegressor(**QUICK).fit(pl.LazyFrame({"a": [1.0, 2.0]}), [1.0, 2.0])
    with pytest.raises(ValueError, match="(?s)Column names must be unique .*rename the columns"):
        MoDERegressor(**QUICK).fit(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), [1.0, 2.0])


def calls_of(function):
    """Number of Python functions that a call runs."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "a few strings"])
def test_plain_numbers_of_a_table_are_read_together(text):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 600))).rename(columns=str)
    if text:
        X["0"] = X["300"] = "a"
    estimator = MoDERegressor(**QUICK, numeric_embedding=None).fit(X, np.arange(20.0))
    # Reading a column alone takes more than a hundred calls.
    assert calls_of(lambda: estimator.predict(X[:1])) < 20 * X.shape[1]


TEXTS = {
    "str": pd.Series(["b", None, "", "a", "new"]),
    "object": pd.Series(["b", None, NAN, "", "a"], dtype=object),
    "string": pd.Series(["b", pd.NA, "", "a", "new"], dtype="string"),
    "pyarrow": pd.Series(["b", None, "", "a", "new"], dtype=pd.ArrowDtype(pa.string())),
    "category": pd.Series(["b", None, "a", "new", "b"], dtype="category"),
    "category of string": pd.Series(["b", pd.NA, "a"], dtype="string").astype("category"),
    "numbers": pd.Series([1, None, 2.5, 7, 1]),
    "float32": pd.Series([1, None, 2.5, 7, 1], dtype=np.float32),
    "object numbers": pd.Series([1, None, np.float32(2.5), 7, 1], dtype=object),
    "category of numbers": pd.Series([1, None, 2.5, 7, 1], dtype="category"),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("trained", [["a", "b", "c"], ["1", "2.5", "3"]])
def test_few_rows_get_the_codes_of_many(name, trained):
    """Few rows of strings are read together."""
    column = TEXTS[name]
    encoder = fit(pd.DataFrame({"c": [*trained, None], "d": ["x", "y", "x", None]}))
    rows = pd.DataFrame({"c": column, "d": "x"})
    many = pd.concat([rows] * 20, ignore_index=True).astype(rows.dtypes)
    if trained[0] == "a" and name.endswith(("numbers", "float32")):
        for X in (rows, many):
            with pytest.raises(ValueError, match="Column 'c' must hold strings, as in training"):
                encoder.transform(X)
        return
    (_, few), (_, expected) = encoder.transform(rows), encoder.transform(many)
    assert_array_equal(np.concatenate([few] * 20), expected)
    assert len(np.unique(few[:, 0])) > 1


@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_strings_of_few_rows_are_read_together(dtype):
    X = pd.DataFrame({f"c{i}": ["a", "b"] * 10 for i in range(300)}).astype(dtype)
    encoder = fit(X)
    # With each column alone it would be more than 500.
    assert calls_of(lambda: encoder.transform(X[:1])) < 300 * X.shape[1]


def test_columns_are_learned_without_checks_of_each():
    X = np.random.default_rng(0).normal(size=(20, 300))
    # With a check of scikit-learn's for each column it would be more than 200.
    assert calls_of(lambda: fit(X)) < 100 * X.shape[1]
    X[3, 7] = 1e300
    with pytest.raises(ValueError, match="contains infinity or a value too large for dtype"):
        fit(X)
