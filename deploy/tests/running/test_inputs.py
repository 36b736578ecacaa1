from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from skmode_deploy import bundle
from skmode_deploy.running.inputs.tables import FEW_ROWS, TableReader

COLUMNS = (
    bundle.Column("age", "age", "number", "float32"),
    bundle.Column("city", "city", "category", "string", ("Bern", "Köln"), True),
    bundle.Column("plan", "plan", "category", "float64", (1.0, 2.0)),
    bundle.Column("count", "count_input", "number", "int64"),
)
TABLE = {
    "age": [30.0, 41.5, None, 3.0],
    "city": ["Bern", "Köln", None, "Paris"],
    "plan": [1.0, None, 1.0, 2.0],
    "count": [3, 0, -1, 2**62],
}
EXPECTED = {
    "age": np.array([[30.0], [41.5], [np.nan], [3.0]], np.float32),
    "city": np.array([["Bern"], ["Köln"], [""], ["Paris"]], object),
    "plan": np.array([[1.0], [np.nan], [1.0], [2.0]]),
    "count_input": np.array([[3], [0], [-1], [2**62]]),
}


def make_reader(columns=COLUMNS, kind="columns", from_table=True, max_rows=None):
    manifest = bundle.Manifest(
        task="regression",
        routing="top_expert",
        input=kind,
        from_table=from_table,
        columns=columns,
        n_outputs=1,
        classes=None,
        n_experts=1,
        alpha=0.5,
        expert_usage=(1.0,),
        validation_scores=None,
        versions={},
    )
    return TableReader(manifest, max_rows)


class _Unreadable:
    """As a tensor of torch that requires a gradient."""

    shape = (1, 3)

    def __array__(self, *arguments, **keywords):
        raise RuntimeError("requires grad.")


def make_array_reader(dtype="float32", max_rows=None):
    kind = "category" if dtype == "string" else "number"
    categories = ("a", "b") if dtype == "string" else None
    columns = tuple(bundle.Column(f"x{i}", "X", kind, dtype, categories) for i in range(3))
    return make_reader(columns, "array", from_table=False, max_rows=max_rows)


@pytest.fixture
def read():
    return make_reader()


def assert_same(feeds, expected):
    assert feeds.keys() == expected.keys()
    for name, array in expected.items():
        assert feeds[name].dtype == array.dtype
        assert_array_equal(feeds[name], array)


def to_arrays(table):
    return {name: pd.Series(values).to_numpy() for name, values in table.items()}


TABLE_KINDS = [
    dict,
    to_arrays,
    pd.DataFrame,
    lambda table: pd.DataFrame(table).convert_dtypes(),
    lambda table: pd.DataFrame(table).astype({"city": "category", "count": "category"}),
    lambda table: pd.DataFrame(table)[["plan", "count", "city", "age"]],
    lambda table: pd.DataFrame(table).astype({"count": "uint64"}) if min(table["count"]) >= 0
    else pd.DataFrame(table),
    pl.DataFrame,
    lambda table: pl.DataFrame(table).with_columns(pl.col("city").cast(pl.Categorical)),
    pa.table,
    lambda table: pa.table(table).to_batches()[0],
    lambda table: pa.table({k: pa.array(v).dictionary_encode() for k, v in table.items()}),
    lambda table: {k: pd.Series(v) for k, v in table.items()},
    lambda table: {k: tuple(v) for k, v in table.items()},
]  # fmt: skip


@pytest.mark.parametrize("to_table", TABLE_KINDS)
@pytest.mark.parametrize("repeats", [1, FEW_ROWS])
def test_tables(to_table, repeats, read):
    """Few rows of a DataFrame are read in another way than many."""
    table = {name: values * repeats for name, values in TABLE.items()}
    expected = {name: np.tile(array, (repeats, 1)) for name, array in EXPECTED.items()}
    assert_same(read(to_table(table)), expected)


@pytest.mark.parametrize("to_table", TABLE_KINDS)
def test_one_row(to_table, read):
    table = {name: values[:1] for name, values in TABLE.items()}
    assert_same(read(to_table(table)), {name: array[:1] for name, array in EXPECTED.items()})


@pytest.mark.parametrize("to_table", [dict, pd.DataFrame, pl.DataFrame, pa.table])
def test_no_rows(to_table, read):
    feeds = read(to_table({name: [] for name in TABLE}))
    assert_same(feeds, {name: array[:0] for name, array in EXPECTED.items()})


def test_fast_and_slow_paths_agree(read):
    rng = np.random.default_rng(0)
    for n in (1, 7):
        columns = [
            rng.normal(size=n),
            rng.choice(np.array(["Bern", "", None, np.nan, "x"], object), n),
            rng.integers(0, 3, n).astype(np.uint8),
            rng.random(n) < 0.5,
        ]
        for variant in (columns, [column.tolist() for column in columns]):
            plain = read._convert_plain(variant)
            assert plain is not None
            assert_same(plain, read._convert(variant))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_numbers(missing, read):
    feeds = read(TABLE | {"age": [missing, 1.0, 2.0, 3.0]})
    assert_array_equal(feeds["age"][:, 0], [np.nan, 1, 2, 3])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, ""])
def test_missing_strings(missing, read):
    feeds = read(TABLE | {"city": [missing, "Bern", "Bern", "Bern"]})
    assert feeds["city"][:, 0].tolist() == ["", "Bern", "Bern", "Bern"]


def test_lists_do_not_count_as_missing_strings(read):
    pa = pytest.importorskip("pyarrow")
    lists = pa.array([["Bern", "x"], ["a", "b"], [], ["c"]])
    with pytest.raises(ValueError, match="'city' must hold strings"):
        read(TABLE | {"city": lists})


def test_numbers_of_other_kinds(read):
    numbers = [Decimal("1.5"), Fraction(1, 2), np.float16(2), np.True_]
    assert_array_equal(read(TABLE | {"age": numbers})["age"][:, 0], [1.5, 0.5, 2, 1])


@pytest.mark.parametrize(
    "values",
    [[1, 0, 2, 1], [True, False, 2, 1], [1.0, 0.0, 2.0, 1.0],
     np.array([1, 0, 2, 1], np.uint64), np.array([1, 0, 2, 1], np.uint8),
     np.array([1.0, 0.0, 2.0, 1.0]), pd.array([1, 0, 2, 1], dtype="Int64")],
)  # fmt: skip
def test_integers(values, read):
    assert read(TABLE | {"count": values})["count_input"][:, 0].tolist() == [1, 0, 2, 1]


def test_infinite_category_is_unseen(read):
    assert read(TABLE | {"plan": [np.inf, 1, 2, 1]})["plan"][0] == np.inf


def test_text_of_a_fixed_width_array(read):
    feeds = read(TABLE | {"city": np.array(list("abcd"))})
    assert feeds["city"][:, 0].tolist() == list("abcd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": ["old", 1, 2, 3]}, r"Column 'age' must hold numbers.*'old'"),
        ({"age": ["inf", 1, 2, 3]}, r"column 'age' contains infinity"),
        ({"plan": ["01", 1, 2, 3]}, r"'plan' must hold numbers.*'01' is of type str"),
        ({"city": [True, "a", "b", "c"]}, r"Column 'city' must hold strings, got True of type"),
        ({"age": [b"30", 1, 2, 3]}, r"'age' must hold numbers.*b'30' is of type bytes"),
        ({"age": np.array([b"30"] * 4)}, r"'age' must hold numbers.*b'30' is of type bytes"),
        ({"age": np.zeros(4, [("a", "f4")])}, r"'age' must hold numbers.*is of type tuple"),
        ({"age": np.array([[1], [2, 3], [4], [5]], object)}, r"'age' .*is of type list"),
        ({"age": [pd.NaT, 1, 2, 3]}, r"'age' must hold numbers.*NaT is of type NaTType"),
        ({"age": [np.datetime64("NaT"), 1, 2, 3]}, r"'age' must hold numbers.*datetime64"),
        ({"count": ["1", 1, 2, 3]}, r"'count' must hold integers.*got '1' of type str"),
        ({"count": [b"1", 1, 2, 3]}, r"'count' must hold integers.*got b'1' of type bytes"),
        ({"count": np.array(["2020-01-01"] * 4, "M8[ns]")},
         r"'count' must hold integers.*datetime64"),
        ({"count": np.array([3] * 4, "m8[s]")}, r"'count' must hold integers.*timedelta"),
        ({"age": [np.inf, 1, 2, 3]}, r"column 'age' contains infinity"),
        ({"age": [1e300, 1, 2, 3]}, r"column 'age' contains infinity or a value too large"),
        ({"age": [10**400, 1, 2, 3]}, r"Column 'age' must hold numbers.*too large"),
        ({"age": [1j, 1, 2, 3]}, r"Column 'age' must hold numbers.*complex"),
        ({"age": np.ones(4, complex)}, r"Column 'age' must hold numbers.*complex"),
        ({"age": np.array(["2020-01-01"] * 4, "M8[D]")}, r"'age' must hold numbers.*datetime64"),
        ({"age": [pd.Timestamp(0)] * 4}, r"Column 'age' must hold numbers.*Timestamp"),
        ({"age": np.ma.array([1.0] * 4)}, r"Column 'age' must not be a masked array.*filled"),
        ({"age": np.ones((4, 1))}, r"one dimension.*'age' has shape \(4, 1\)"),
        ({"age": 3.0}, r"one dimension.*'age' has shape \(\)"),
        ({"age": [3.0]}, r"same number of rows, got {'age': 1, 'city': 4"),
        ({"plan": ["gold", 1, 2, 3]}, r"Column 'plan' must hold numbers.*gold"),
        ({"city": [1, "a", "b", "c"]},
         r"Column 'city' must hold strings, got 1 of type int.*dtype=\{'city': str\}"),
        ({"city": [b"a", "a", "b", "c"]},
         r"'city' must hold strings, got b'a' of type bytes.*, as in training\.$"),
        ({"city": np.array([b"a"] * 4)}, r"'city' must hold strings, got b'a' of type bytes"),
        ({"city": "Bern"}, r"one dimension.*'city' has shape \(\)"),
        ({"count": [1.5, 1, 2, 3]}, r"'count' must hold integers.*got 1.5 of type float"),
        ({"count": [None, 1, 2, 3]}, r"'count' must hold integers.*without missing.*got None"),
        ({"count": [np.nan, 1, 2, 3]}, r"'count' must hold integers.*got nan"),
        ({"count": [pd.NA, 1, 2, 3]}, r"'count' must hold integers.*got <NA>"),
        ({"count": [2**63, 1, 2, 3]}, r"'count' must hold integers of 64 bits.*9223372036854"),
        ({"count": ["a", 1, 2, 3]}, r"'count' must hold integers.*got 'a' of type str"),
        ({"sex": [0, 1, 0, 1]}, r"training only, got 'sex' as well: select 'age', 'city'"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_wrong_columns(change, message, read):
    with pytest.raises(ValueError, match=message):
        read(TABLE | change)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["30", 1, "2.5", ""], [30, 1, 2.5, np.nan]),
        (["30", None, np.nan, "1e3"], [30, np.nan, np.nan, 1000]),
        (np.array(["30", "1", " 2", "-3"]), [30, 1, 2, -3]),
    ],
)
def test_numbers_that_are_text(values, expected, read):
    assert_array_equal(read(TABLE | {"age": values})["age"][:, 0], np.float32(expected))


@pytest.mark.parametrize("n_rows", [1, FEW_ROWS + 1])
def test_wrong_columns_of_a_data_frame(n_rows, read):
    frame = pd.DataFrame({"age": 1.0, "city": "a", "plan": 1.0, "count": 1}, index=range(n_rows))
    for change, message in [
        ({"age": pd.Timestamp(0)}, r"Column 'age' must hold numbers"),
        ({"age": pd.Timedelta(1)}, r"Column 'age' must hold numbers"),
        ({"age": np.inf}, r"column 'age' contains infinity"),
        ({"city": 3}, r"Column 'city' must hold strings, got 3"),
        ({"count": 0.5}, r"Column 'count' must hold integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(frame.assign(**change))


def test_wrong_names(read):
    table = {name: values for name, values in TABLE.items() if name not in ("age", "plan")}
    with pytest.raises(ValueError, match="got none called 'age', 'plan': add them"):
        read(table)
    frame = pd.DataFrame(TABLE)
    message = "Columns must have distinct names, got 'age' more than once: rename or drop"
    for twice in (
        pd.concat([frame, frame["age"]], axis=1),
        pa.Table.from_arrays([*pa.table(TABLE).columns, pa.array([1] * 4)], [*TABLE, "age"]),
        TABLE | {_Name("age"): [1] * 4},
    ):
        with pytest.raises(ValueError, match=message):
            read(twice)


class _Name:
    """A key that reads as a string and is none."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


def test_column_names_other_than_strings():
    columns = tuple(bundle.Column(str(i), str(i), "number", "float32") for i in range(2))
    feeds = make_reader(columns)(pd.DataFrame([[1.0, 2.0]], columns=[1, 0]))
    assert {name: array.item() for name, array in feeds.items()} == {"0": 2.0, "1": 1.0}


def test_lazy_tables_are_refused(read):
    for reader in (read, make_array_reader()):
        with pytest.raises(ValueError, match=r"LazyFrame, which is not comp.*X\.collect\(\)"):
            reader(pl.DataFrame(TABLE).lazy())


def test_arrays_for_a_model_of_tables(read):
    message = r"must be a table with the columns 'age', 'city', 'plan', 'count', got ndarray"
    with pytest.raises(ValueError, match=message):
        read(np.ones((2, 4)))


def test_columns_by_position():
    """The model was trained on an array with strings."""
    reader = make_reader(COLUMNS, from_table=False)
    X = np.array([*TABLE.values()], dtype=object).T
    assert_same(reader(X), EXPECTED)
    assert_same(reader(X.tolist()), EXPECTED)
    with pytest.raises(ValueError, match=r"shape \(n_samples, 4\), got \(4, 3\)"):
        reader(X[:, :3])


@pytest.mark.parametrize(
    "make",
    [np.array, lambda rows: np.array(rows, np.float32), list, pd.DataFrame,
     lambda rows: pl.DataFrame(rows, orient="row"), lambda rows: np.array(rows, object),
     lambda rows: np.array(rows, np.float32, order="F"),
     lambda rows: pa.table(pd.DataFrame(rows)), lambda rows: pd.DataFrame(rows).convert_dtypes()],
)  # fmt: skip
def test_matrices(make):
    rows = [[1.0, np.nan, 3.0], [4.0, 5.0, 6.0]]
    assert_same(make_array_reader()(make(rows)), {"X": np.array(rows, np.float32)})


def test_matrices_of_other_types():
    assert make_array_reader("float64")([[1, 2, 3]])["X"].dtype == np.float64
    integers = make_array_reader("int64")
    assert_same(integers([[1.0, True, 3]]), {"X": np.array([[1, 1, 3]])})
    with pytest.raises(ValueError, match=r"'x1' must hold integers.*got 0.5"):
        integers([[1, 0.5, 3]])
    strings = make_array_reader("string")
    assert_same(strings(np.array([["a", "b", ""]])), {"X": np.array([["a", "b", ""]], object)})
    with pytest.raises(ValueError, match=r"'x2' must hold strings, got 1 of type int"):
        strings([["a", None, 1]])


@pytest.mark.parametrize(
    "X",
    [
        [["1", "2", "3"]],
        [[1, 2, "3"]],
        np.array([["1", "2", "3"]]),
        pd.DataFrame([[1.0, 2.0, "3"]]),
        pd.DataFrame([[1.0, 2.0, "3"]], dtype="string"),
        pl.DataFrame({"a": ["1"], "b": [2.0], "c": [3.0]}),
        pa.table({"a": ["1"], "b": [2.0], "c": [3.0]}),
    ],
    ids=repr,
)
def test_matrices_of_numbers_that_are_text(X):
    assert_same(make_array_reader("float32")(X), {"X": np.array([[1, 2, 3]], np.float32)})


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones(3, np.float32), r"shape \(n_samples, 3\), got \(3,\).*reshape\(1, -1\)"),
        (np.ones((2, 4)), r"shape \(n_samples, 3\), got \(2, 4\)"),
        (np.float32(1), r"shape \(n_samples, 3\), got \(\)"),
        (np.full((1, 3), -np.inf, np.float32), r"X contains infinity"),
        ([[1.0, 1e39, 0.0]], r"X contains infinity or a value too large for dtype\('float32'\)"),
        ([[10**400, 1, 0.0]], r"numbers only.*too large"),
        ([["a", "b", "c"]], r"numbers only.*'a'"),
        ([["1", "2", ""]], r"numbers only.*could not convert string to float: ''"),
        (np.array([[b"1", b"2", b"3"]]), r"numbers only.*b'1' is of type bytes"),
        (np.zeros((1, 3), [("a", "f4")]), r"numbers only.*is of type tuple"),
        (scipy.sparse.csr_array(np.ones((1, 3))), r"X must be dense.*csr_array.*X\.toarray\(\)"),
        (_Unreadable(), r"numbers only, but reading it failed: requires grad\. C"),
        (np.ones((1, 3), complex), r"numbers only.*complex128"),
        (np.ones((1, 3), "M8[s]"), r"numbers only.*datetime64"),
        (pd.DataFrame(np.ones((1, 3), "M8[s]")), r"numbers only.*datetime64"),
        (pd.DataFrame([[pd.Timestamp(0), 1, 2]]), r"numbers only.*datetime64"),
        (pl.DataFrame([[1.0], [1.0], [1]]).with_columns(pl.col("column_2").cast(pl.Date)),
         r"numbers only.*Date"),
        (pd.Series([1.0, 2.0]), r"shape \(n_samples, 3\), got \(2,\)"),
        (np.ma.ones((1, 3)), r"X must not be a masked array"),
        ({"a": [1.0], "b": [1.0], "c": [1.0]}, r"by position, got dict.*column_stack"),
    ],
)  # fmt: skip
def test_wrong_matrices(X, message):
    with pytest.raises(ValueError, match=message):
        make_array_reader()(X)


@pytest.mark.parametrize("to_table", [dict, to_arrays, pd.DataFrame, pl.DataFrame, pa.table])
def test_too_many_rows(to_table):
    assert len(make_reader(max_rows=4)(to_table(TABLE))["age"]) == 4
    with pytest.raises(ValueError, match="at most max_rows=3 rows, got 4: pass it in parts"):
        make_reader(max_rows=3)(to_table(TABLE))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, list])
def test_too_many_rows_of_an_array(dtype):
    X = np.ones((4, 3)).tolist() if dtype is list else np.ones((4, 3), dtype)
    assert len(make_array_reader(max_rows=4)(X)["X"]) == 4
    for kind in ("float32", "int64"):
        with pytest.raises(ValueError, match="at most max_rows=3 rows, got 4"):
            make_array_reader(kind, max_rows=3)(X)
