import csv
import io

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skmode_deploy.bundle import Column, Manifest
from skmode_deploy.running.tables import csv_files as _csv_files
from skmode_deploy.running.tables.chunks import ReadOptions
from skmode_deploy.running.tables.csv_files import CsvReader, CsvWriter
from skmode_deploy.running.tables.errors import InputError

AGE = Column("age", "age", "number", "float32")
CITY = Column("city", "city", "category", "string", ("Bern", "Köln"), True)
PLAN = Column("plan", "plan", "category", "float64", (1.0, 2.0))
COUNT = Column("count", "count", "number", "int64")


def make_manifest(*columns, **changes):
    fields = {
        "task": "regression", "routing": "top_expert", "input": "columns", "from_table": True,
        "n_outputs": 1, "classes": None, "n_experts": 1, "alpha": 0.0, "expert_usage": (1.0,),
        "validation_scores": None, "versions": {},
    }  # fmt: skip
    return Manifest(columns=columns, **fields | changes)


def make_array_manifest(n_columns):
    columns = [Column(f"x{i}", "X", "number", "float32") for i in range(n_columns)]
    return make_manifest(*columns, input="array", from_table=False)


TABLE = make_manifest(AGE, CITY, PLAN)


def read(text, manifest=TABLE, **options):
    """Read all blocks and put them together."""
    blocks = list(CsvReader(io.StringIO(text, newline=""), manifest, ReadOptions(**options)))
    n_kept = len(blocks[0].kept)
    kept = [[x for block in blocks for x in block.kept[i]] for i in range(n_kept)]
    if manifest.input == "array":
        return np.concatenate([block.rows for block in blocks]), kept
    names = [column.name for column in manifest.columns]
    return {name: [x for block in blocks for x in block.rows[name]] for name in names}, kept


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 100])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last_end", [True, False])
def test_fields(chunk_rows, line_end, last_end):
    lines = [
        "\ufeffplan,city,age",
        '1,"Köln",30',
        '2.0,"a ""b"", c",-1.5e3',
        ',"",',
        f'nan,"two{line_end}{line_end}lines",NaN',
        "TRUE, x ,false",
    ]
    text = line_end.join(lines) + line_end * last_end
    rows, _ = read(text, chunk_rows=chunk_rows)
    assert_array_equal(rows["plan"], [1, 2, np.nan, np.nan, 1])
    assert rows["city"] == ["Köln", 'a "b", c', "", f"two{line_end}{line_end}lines", " x "]
    assert_array_equal(rows["age"], [30, -1500, np.nan, np.nan, 0])


@pytest.mark.parametrize("chunk_rows", [1, 100])
def test_byte_order_mark_is_not_part_of_a_field(chunk_rows):
    """Quotation marks may follow it, and names need not."""
    options = {"chunk_rows": chunk_rows}
    assert read('\ufeff"age","city","plan"\n1,Bern,2\n', **options)[0]["age"] == [1]
    manifest = make_manifest(CITY, AGE)
    for first in ("\ufeffBern", '\ufeff"Bern"'):
        rows, _ = read(f"{first},1\n\ufeffBern,2\n", manifest, header=False, **options)
        assert rows["city"] == ["Bern", "\ufeffBern"]
    rows, _ = read("\ufeff1,2\n", make_array_manifest(2), header=False, **options)
    assert_array_equal(rows, [[1, 2]])


def test_endless_lines_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(_csv_files, "MAX_LINE_CHARACTERS", 20)
    assert len(read("age,city,plan\n" + "1,0123456789abcde,1\n")[0]["age"]) == 1
    for text, number in [("age,city,plan" * 9, 1), ("age,city,plan\n\n" + "1,B,2" * 9, 3)]:
        with pytest.raises(InputError, match=f"at most 20 characters, got more in line {number}"):
            read(text)


def test_missing_option_adds_missing_texts():
    text = "age,city,plan\nNA,NA,-9\n3,Bern,1\n-9,,x\n"
    rows, _ = read(text, missing=frozenset({"NA", "-9", "x"}))
    assert_array_equal(rows["age"], [np.nan, 3, np.nan])
    assert rows["city"] == ["", "Bern", ""]
    assert_array_equal(rows["plan"], [np.nan, 1, np.nan])


def test_words_like_na_are_strings_by_default():
    assert read("age,city,plan\n1,NA,1\n")[0]["city"] == ["NA"]


def test_integers():
    manifest = make_manifest(COUNT)
    rows, _ = read(f"count\n{2**63 - 1}\n-7\nTrue\n3.0\n-2e2\n{2**62 + 1}.00\n", manifest)
    assert rows["count"] == [2**63 - 1, -7, 1, 3, -200, 2**62 + 1]
    for field in ("1.5", '""', str(2**63), f"{2**63}.0", "nan", "1e999999999", "x"):
        with pytest.raises(InputError, match="'count' must hold 64-bit integers.* in line 3: "):
            read(f"count\n1\n{field}\n", manifest)


def test_columns_to_keep_and_to_leave_out():
    text = "id,age,city,note,plan\n007,1,Bern,x,2\n008,2,Köln,,1\n"
    rows, kept = read(text, keep=("id", "city"), ignore_extra=True, chunk_rows=1)
    assert kept == [["007", "008"], ["Bern", "Köln"]]
    assert rows["city"] == ["Bern", "Köln"]
    with pytest.raises(InputError, match="got 'note' as well: pass --ignore-extra"):
        read(text, keep=("id",))
    with pytest.raises(InputError, match="column to keep must be in the file, got 'ID'"):
        read(text, keep=("ID",))


def test_columns_of_an_array():
    manifest = make_array_manifest(2)
    assert_array_equal(read("x1,x0\n1,2\n", manifest)[0], [[2, 1]])
    assert_array_equal(read("1,2\n3,4\n", manifest, header=False, by_position=True)[0],
                       [[1, 2], [3, 4]])  # fmt: skip
    with pytest.raises(InputError, match="none called 'x0', 'x1': pass --by-position"):
        read("a,b\n1,2\n", manifest)
    rows, kept = read("id,b,a\n9,1,2\n", manifest, by_position=True, keep=("id",))
    assert_array_equal(rows, [[1, 2]])
    assert kept == [["9"]]
    with pytest.raises(InputError, match="the 2 columns of the model in their order, got 1"):
        read("a\n1\n", manifest, by_position=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must start with the names of its columns"),
        ("\n1,2,3\n", "must start with the names of its columns"),
        ('"age', "header must be CSV.*unexpected end of data"),
        ("age,city\n", "must have the columns of the model, got none called 'plan'"),
        ("age,city,plan,age\n", "different names, got 'age' more than once"),
        ("age,city,plan\n1,Bern,2\n1,Bern\n", "must have 3 fields.* got 2 in line 3: "),
        ("age,city,plan\n1,Bern,2,\n", "must have 3 fields.* got 4 in line 2: "),
        ("age,city,plan\n\n1,Bern,2\n", "must have 3 fields.* got 0 in line 2: "),
        ('age,city,plan\n1,"a\nb",2\nold,Bern,2\n', "'age' must hold numbers, got 'old' in line 4"),
        ("age,city,plan\n1,Bern,NA\n", "'plan' must hold numbers, got 'NA' in line 2: .*--missing"),
        ("age,city,plan\n{x},Bern,2\n", r"got '\{x\}' in line 2"),
        ("age,city,plan\n1,B,2\n-inf,B,2\n", "'age' must hold .*finite.*got '-inf' in line 3"),
        ("age,city,plan\n1,B,2\n1e39,B,2\n", "'age' must hold .*finite.*got '1e39' in line 3"),
        ('age,city,plan\n1,"B"x,2\n', "Line 2 must be CSV.*expected after"),
        ('age,city,plan\n1,B,2\n1,"B,2\n3,B,2\n', "Line 4 must be CSV.*unexpected end of data"),
    ],
)
@pytest.mark.parametrize("chunk_rows", [1, 2, 8192])
def test_refusals(text, message, chunk_rows):
    with pytest.raises(InputError, match=message):
        read(text, chunk_rows=chunk_rows)


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 100])
def test_blank_lines_are_allowed_at_the_end_only(chunk_rows):
    text = "age,city,plan\n1,Bern,2\n1,Bern,1\n\n\r\n\n"
    assert len(read(text, chunk_rows=chunk_rows)[0]["age"]) == 2
    with pytest.raises(InputError, match="got 0 in line 4"):
        read(text + "1,Bern,2\n", chunk_rows=chunk_rows)


@pytest.mark.parametrize("text", ["age,city,plan", "age,city,plan\n", "age,city,plan\n\n"])
def test_no_rows(text):
    assert read(text)[0] == {"age": [], "city": [], "plan": []}


@pytest.mark.parametrize("bad", ["", "x", "inf", "1e40", '"5"', "1_0", " 5 ", "True", "1,2", "nan"])
def test_fast_path_for_plain_numbers_agrees(bad, monkeypatch):
    """Numbers alone take a faster way, with the same answers and the same refusals."""
    manifest = make_array_manifest(2)
    rng = np.random.default_rng(0)
    lines = [f"{a!r},{b:.3e}" for a, b in rng.normal(size=(20, 2)).tolist()]
    lines[13] = lines[13].split(",")[0] + f",{bad}"
    text = "x1,x0\n" + "\n".join(lines) + "\n"

    def outcome():
        try:
            return read(text, manifest, chunk_rows=6)[0].tolist()
        except InputError as error:
            return str(error)

    fast = outcome()
    monkeypatch.setattr(CsvReader, "_read_matrix", lambda self, lines: None)
    np.testing.assert_equal(fast, outcome())


def test_written_numbers_are_read_back_exactly():
    stream = io.StringIO()
    writer = CsvWriter(stream, ["id", "prediction", "probability_a"], ";")
    values = np.random.default_rng(0).lognormal(0, 20, 500).astype(np.float32)
    labels = np.array(['a;"', "b\n", "ä", "", "5"] * 100)
    writer.write([["007"] * 500], [labels, values])
    header, *rows = csv.reader(io.StringIO(stream.getvalue(), newline=""), delimiter=";")
    assert header == ["id", "prediction", "probability_a"]
    assert [row[0] for row in rows] == ["007"] * 500
    assert [row[1] for row in rows] == labels.tolist()
    assert_array_equal(np.array([row[2] for row in rows]).astype(np.float32), values)
