import dataclasses
import decimal
import functools
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import skmode_deploy
from skmode_deploy import batch, bundle
from skmode_deploy.cli import main
from skmode_deploy.running import predictor_cache as _predictor_cache
from skmode_deploy.running.tables import record_batches as _record_batches

PROBABILITIES = [f"probability_{label}" for label in (10, 20, 30, 40)]
CITIES = ["Bern", "Köln", "Paris", "", None]


def make_rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "id": pa.array(np.arange(n)),
            "age": pa.array(rng.uniform(3, 80, n), mask=rng.random(n) < 0.1),
            "city": pa.array([CITIES[i] for i in rng.integers(0, 5, n)]),
            "plan": pa.array(rng.integers(1, 3, n).astype(float)),
        }
    )


def score_table(table, path, **options):
    return pa.Table.from_batches(batch.score(table.to_batches(), path, **options))


@pytest.fixture
def opened(monkeypatch):
    """Each bundle that is opened, from an empty start on."""
    paths = []

    class Counted(skmode_deploy.Predictor):
        def __init__(self, path, **options):
            paths.append(path)
            time.sleep(0.05)  # so that threads which open at the same time would be seen
            super().__init__(path, **options)

    monkeypatch.setattr(_predictor_cache, "Predictor", Counted)
    monkeypatch.setattr(batch, "_PREDICTORS", _predictor_cache.PredictorCache())
    return paths


@pytest.fixture
def make_folder(tmp_path):
    """Write a table as a folder of Parquet files with some rows each."""

    def make(table, n_rows=30, name="rows"):
        folder = tmp_path / name
        folder.mkdir()
        for start in range(0, max(len(table), 1), n_rows):
            file = folder / f"part-{start // n_rows:03}.parquet"
            parquet.write_table(table.slice(start, n_rows), file)
        return folder

    return make


def read_folder(folder):
    files = sorted(folder.rglob("*.parquet"))
    return pa.concat_tables(parquet.read_table(f, partitioning=None) for f in files)


def test_predictions_equal_those_of_a_predictor(table_bundle):
    rows = make_rows(100)
    answers = score_table(rows, table_bundle, keep=["id"], chunk_rows=7)
    expected = skmode_deploy.load(table_bundle).predict_full(rows.drop_columns("id"))
    assert answers.column_names == [
        "id",
        "prediction",
        *PROBABILITIES,
        "expert",
        "gate_probability",
    ]
    assert answers["id"].equals(rows["id"])
    assert answers["prediction"].type == pa.int32()  # as the labels had in training
    assert answers["prediction"].to_pylist() == expected.value.tolist()
    probabilities = np.column_stack([answers[name].to_numpy() for name in PROBABILITIES])
    np.testing.assert_array_equal(probabilities, expected.probabilities)
    assert answers["expert"].to_pylist() == expected.expert.tolist()
    assert answers["gate_probability"].to_numpy().dtype == np.float32


@pytest.mark.parametrize(("chunk_rows", "sizes"), [(8192, [5, 0, 3]), (2, [2, 2, 1, 0, 2, 1])])
def test_batches_come_back_in_their_order(chunk_rows, sizes, table_bundle):
    rows = make_rows(8)
    parts = [rows[:5], rows[:0], rows[5:]]
    batches = [
        pa.RecordBatch.from_arrays([c.combine_chunks() for c in part.columns], schema=rows.schema)
        for part in parts
    ]
    answers = list(batch.score(iter(batches), table_bundle, keep=["id"], chunk_rows=chunk_rows))
    assert [answer.num_rows for answer in answers] == sizes
    assert pa.Table.from_batches(answers)["id"].to_pylist() == list(range(8))


def test_batches_are_read_lazily(table_bundle):
    seen = []

    def batches():
        for part in make_rows(6).to_batches(max_chunksize=2):
            seen.append(part.num_rows)
            yield part

    answers = batch.score(batches(), table_bundle, keep=["id"])
    assert seen == []
    next(answers)
    assert seen == [2]


def test_no_batches(table_bundle):
    assert list(batch.score([], table_bundle)) == []


def test_sliced_batches(table_bundle):
    rows = make_rows(50)
    whole = score_table(rows, table_bundle, keep=["id", "city"])
    (long,) = rows.combine_chunks().to_batches()
    (part,) = batch.score([long.slice(13, 20)], table_bundle, keep=["id", "city"])
    assert pa.Table.from_batches([part]).equals(whole[13:33])


TEXT = pa.array(["Bern", None, "Köln", "", "Paris"])
NUMBERS = pa.array([1, None, 3, 4, 5], pa.float64())


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("city", TEXT.dictionary_encode()),
        ("city", TEXT.cast(pa.large_string())),
        ("city", pa.array(TEXT.to_pylist(), pa.string_view())),
        # A null among the values of the dictionary, and one among its indices.
        ("city", pa.DictionaryArray.from_arrays(
            pa.array([1, 0, 2, None, 3], pa.int8()), pa.array([None, "Bern", "Köln", "Paris"]))),
        ("age", NUMBERS.cast(pa.int32())),
        ("age", NUMBERS.cast(pa.uint8())),
        ("age", NUMBERS.cast(pa.float16())),
        ("age", NUMBERS.dictionary_encode()),
        ("age", pa.array([None if v is None else decimal.Decimal(f"{v}.00")
                          for v in (1, None, 3, 4, 5)], pa.decimal128(9, 2))),
        ("age", pa.nulls(5)),
    ],
)  # fmt: skip
def test_types_of_columns(column, values, table_bundle):
    table = {"age": NUMBERS, "city": TEXT, "plan": pa.array([1.0] * 5)}
    columns = {**table, column: values}
    found = score_table(pa.table(columns), table_bundle)
    plain = {name: array.to_pylist() for name, array in columns.items()}
    plain["age"] = [None if v is None else float(v) for v in plain["age"]]
    expected = skmode_deploy.load(table_bundle).predict_full(plain)
    assert found["prediction"].to_pylist() == expected.value.tolist()
    assert found["expert"].to_pylist() == expected.expert.tolist()
    if column == "city":
        assert found["prediction"].to_pylist()[0] == 30  # what is in the dictionary, not its code


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("age", ["1", "2", "x"], "Row 3: Column 'age' must hold numbers, but reading it failed: "),
        (
            "plan",
            [True, True, True],
            "Row 1: Column 'plan' must hold numbers, but reading it failed: ",
        ),
        ("age", [1.0, 2.0, float("inf")], "Row 3: Numbers must be finite or missing"),
        ("age", pa.array([0, 1, 2], pa.timestamp("s")), "Row 1: Column 'age' must hold numbers"),
        ("city", [b"Bern", b"", b""], "Row 1: Column 'city' must hold strings, got b'Bern'"),
        ("city", [1, 2, 3], "Row 1: Column 'city' must hold strings, got 1"),
        ("age", [[1.0], [2.0], [3.0]], "must hold numbers or strings, got 'age' of type list<"),
        ("city", [["a", "b"]] * 3, "must hold numbers or strings, got 'city' of type list<"),
        ("age", [{"a": 1}] * 3, "must hold numbers or strings, got 'age' of type struct<a: int64>"),
        (
            "city",
            pa.DictionaryArray.from_arrays([0, 0, 0], pa.array([["a"]])),
            "The rows from 1 on must hold numbers and strings, but reading them failed: ",
        ),
    ],
)
def test_refused_rows(column, values, message, table_bundle):
    table = {"age": [1.0] * 3, "city": [""] * 3, "plan": [1.0] * 3}
    with pytest.raises(ValueError, match=re.escape(message)):
        score_table(pa.table({**table, column: values}), table_bundle)


def test_refused_rows_are_counted_over_batches(table_bundle):
    rows = make_rows(100).set_column(
        1, "age", [[float("inf") if i == 57 else 1.0 for i in range(100)]]
    )
    batches = rows.to_batches(max_chunksize=20)
    answers = batch.score(batches, table_bundle, keep=["id"], chunk_rows=6)
    with pytest.raises(ValueError, match="^Row 58: Numbers must be finite"):
        list(answers)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t, {}, "got 'id' as well: pass ignore_extra=True to leave them out, or keep="),
        (lambda t: t.drop_columns("city"), {}, "got none called 'city': add them, with nulls"),
        (lambda t: t, {"keep": ["number"]}, "in the input, got 'number': the input has 'id'"),
        (lambda t: t.append_column("age", t["age"]), {"ignore_extra": True},
         "different names, got 'age' more than once"),
    ],
)  # fmt: skip
def test_refused_columns(change, options, message, table_bundle):
    with pytest.raises(ValueError, match=re.escape(message)):
        score_table(change(make_rows(3)), table_bundle, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "id"}, r"keep must be a sequence of column names, got 'id': .*\['id'\]"),
        ({"keep": ["id", "id"]}, "different names, got 'id' more than once: name each"),
        ({"keep": ["expert"]}, "different names, got 'expert' more than once: .* rename those"),
        ({"chunk_rows": 0}, "chunk_rows must be"),
        ({"threads": 0}, "threads must be"),
        ({"strategy": "other"}, "strategy must be"),
    ],
)
def test_refused_options(options, message, table_bundle):
    with pytest.raises(ValueError, match=message):  # before any row is asked for
        batch.score(iter([]), table_bundle, **options)


@pytest.mark.parametrize("what", [lambda t: [t], lambda t: t.to_batches()[0]])
def test_invalid_batches(what, table_bundle):
    with pytest.raises(
        TypeError, match=r"an iterable of pyarrow\.RecordBatch, got \w+ in it: pass "
    ):
        list(batch.score(what(make_rows(3)), table_bundle))


def test_columns_by_position(make_regressor):
    rows = pa.table({"a": [1.0, 2.0], "id": ["x", "y"], "b": [5.0, 0.0], "c": [0.0, 9.0]})
    with pytest.raises(
        ValueError, match="got none called 'x0', 'x1', 'x2': rename them, or pass by_p"
    ):
        score_table(rows, make_regressor(), keep=["id"])
    answers = score_table(rows, make_regressor(), keep=["id"], by_position=True)
    assert answers.select(["id", "prediction", "expert"]).to_pylist() == [
        {"id": "x", "prediction": 1.0, "expert": 1},
        {"id": "y", "prediction": 2.0, "expert": 2},
    ]


def test_several_values_of_a_row(make_regressor):
    rows = pa.table({f"x{i}": [float(i), float(-i)] for i in range(3)})
    answers = score_table(rows, make_regressor(n_outputs=2))
    assert answers.column_names[:2] == ["prediction_0", "prediction_1"]
    assert answers["prediction_1"].to_pylist() == [1.0, -1.0]


def test_kept_columns_keep_their_types(table_bundle):
    kept = {
        "day": pa.array([0, None], pa.date32()),
        "big": pa.array([2**60 + 1, None]),
        "code": pa.array(["a", None]).dictionary_encode(),
        "tags": pa.array([["x", "y"], None]),
        "money": pa.array([decimal.Decimal("0.10"), None], pa.decimal128(20, 2)),
    }
    rows = pa.table({**kept, "age": [1.0, 2.0], "city": ["", ""], "plan": [1.0, 1.0]})
    answers = score_table(rows, table_bundle, keep=list(kept))
    assert answers.select(list(kept)).equals(pa.table(kept))
    assert answers.schema == batch.output_schema(table_bundle, rows.schema, keep=list(kept))


def test_schema_beforehand(table_bundle, make_regressor):
    rows = make_rows(3)
    answers = score_table(rows, table_bundle, keep=["id"])
    assert batch.output_schema(table_bundle, rows.schema, keep=["id"]) == answers.schema
    assert batch.output_schema(table_bundle) == answers.drop_columns("id").schema
    assert batch.output_schema(make_regressor()).names == [
        "prediction",
        "expert",
        "gate_probability",
    ]
    with pytest.raises(ValueError, match="input_schema must give .* got None with 'id' to keep"):
        batch.output_schema(table_bundle, keep=["id"])
    with pytest.raises(ValueError, match="in the input, got 'number'"):
        batch.output_schema(table_bundle, rows.schema, keep=["number"])


@pytest.mark.parametrize(
    ("values", "dtype", "kind"),
    [
        (("a", "b", "c", "d"), "<U1", pa.string()),
        (("a", "b", "c", "d"), "|O", pa.string()),
        ((1, 2, 3, 4), ">i2", pa.int16()),
        ((1.5, 2.5, 3.5, 4.5), "<f8", pa.float64()),
        ((1, 2, 3, 4), "|O", pa.int64()),
    ],
)
def test_types_of_labels(values, dtype, kind, table_bundle):
    label = "value" if dtype == ">i2" or isinstance(values[0], str) else "index"
    classes = bundle.Classes(values, dtype, label)
    manifest = dataclasses.replace(bundle.read(table_bundle), classes=classes)
    bundle.write(table_bundle, manifest, {"model.onnx": b"not looked at"})
    assert batch.output_schema(table_bundle).field("prediction").type == kind
    array = _record_batches._to_arrow(
        np.array(values, dtype), kind
    )  # labels as a predictor gives them
    assert array.type == kind
    assert array.to_pylist() == list(values)


def test_a_process_opens_a_bundle_once(table_bundle, opened):
    rows = make_rows(10)
    for _ in range(3):
        score_table(rows, table_bundle, keep=["id"])
    score_table(rows, str(table_bundle), keep=["id", "city"], chunk_rows=3)
    assert len(opened) == 1


def test_threads_open_a_bundle_once(table_bundle, opened):
    rows = make_rows(10)
    work = functools.partial(score_table, rows, table_bundle, keep=["id"])
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1


def test_other_options_open_another_predictor(table_bundle, opened):
    for options in ({}, {"strategy": "split"}, {"strategy": "split", "max_loaded_experts": 1}, {}):
        score_table(make_rows(10), table_bundle, keep=["id"], **options)
    assert len(opened) == 3


def replace_bundle(path):
    """The same model, created later."""
    manifest = bundle.read(path)
    files = {name: (path / name).read_bytes() for name in manifest.files if name != "README.md"}
    later = dataclasses.replace(manifest, created="2026-11-23T05:00:00Z")
    bundle.write(path, later, files)


def test_a_bundle_that_is_replaced_is_opened_again(table_bundle, opened):
    rows = make_rows(10)
    before = batch.manifest_sha256(table_bundle)
    score_table(rows, table_bundle, keep=["id"], sha256=before)
    replace_bundle(table_bundle)
    with pytest.raises(bundle.BundleError, match=f"sha256 {before}, got .*it was replaced"):
        score_table(rows, table_bundle, keep=["id"], sha256=before)
    assert len(opened) == 1
    score_table(rows, table_bundle, keep=["id"], sha256=batch.manifest_sha256(table_bundle))
    score_table(rows, table_bundle, keep=["id"])
    assert len(opened) == 2


@pytest.mark.slow
def test_a_process_keeps_few_bundles(table_bundle, opened):
    predictors = _predictor_cache.PredictorCache()
    first = predictors.get(table_bundle, None, {})
    for n in range(_predictor_cache.MAX_OPEN):
        predictors.get(table_bundle, None, {"max_rows": n + 1})
    assert predictors.get(table_bundle, None, {"max_rows": n + 1}) is predictors.get(
        table_bundle, None, {"max_rows": n + 1}
    )
    assert len(opened) == _predictor_cache.MAX_OPEN + 1
    assert predictors.get(table_bundle, None, {}) is not first


def test_a_damaged_bundle_is_refused_at_once(table_bundle):
    (table_bundle / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(bundle.BundleError, match=r"model\.onnx"):
        batch.score([], table_bundle)
    with pytest.raises(
        bundle.BundleError, match=r"A bundle must be a folder with a manifest\.json"
    ):
        batch.score([], table_bundle.parent / "nowhere")


def test_pickles_for_workers_contain_no_model(table_bundle):
    work = functools.partial(batch.score, bundle=str(table_bundle), keep=("id",))
    expected = list(work(make_rows(10).to_batches()))
    pickled = pickle.dumps(work)
    assert len(pickled) < 300
    assert list(pickle.loads(pickled)(make_rows(10).to_batches())) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_children_predict(table_bundle):
    rows = make_rows(10)
    expected = score_table(rows, table_bundle, keep=["id"])
    with batch._PREDICTORS._lock:  # as if another thread were opening a bundle
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # which ends it, rather than to wait for the lock for ever
            try:
                same = score_table(rows, table_bundle, keep=["id"]).equals(expected)
                os._exit(0 if same else 1)
            finally:
                os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_folder(table_bundle, make_folder, tmp_path):
    rows = make_rows(100)
    folder, target = make_folder(rows), tmp_path / "new" / "answers"
    (folder / "_SUCCESS").touch()
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "part-000.parquet").write_bytes(b"half")
    (folder / ".part-000.parquet.crc").touch()
    assert batch.score_folder(table_bundle, folder, target, keep=["id"], chunk_rows=8) == 100
    names = sorted(path.name for path in target.iterdir())
    assert names == ["_SUCCESS", *(f"part-{i:03}.parquet" for i in range(4))]
    assert read_folder(target).equals(score_table(rows, table_bundle, keep=["id"]))


def test_folder_equals_the_command_line(table_bundle, make_folder, tmp_path):
    folder, answers = make_folder(make_rows(50), 50), tmp_path / "answers.parquet"
    batch.score_folder(table_bundle, folder, tmp_path / "answers", keep=["id"])
    file = str(folder / "part-000.parquet")
    assert main(["predict", str(table_bundle), file, str(answers), "--keep", "id"]) == 0
    assert parquet.read_table(answers).equals(read_folder(tmp_path / "answers"))


def test_folders_in_a_folder(table_bundle, make_folder, tmp_path):
    rows = make_rows(40)
    folder = make_folder(rows[:20])
    make_folder(rows[20:], name="rows/year=2026")
    target = tmp_path / "answers"
    batch.score_folder(table_bundle, folder, target, keep=["id"])
    assert (target / "year=2026" / "part-000.parquet").exists()
    found = parquet.read_table(target / "year=2026")
    assert found["id"].to_pylist() == list(range(20, 40))
    assert read_folder(target).num_rows == 40


def test_folder_of_empty_files_and_dictionaries(table_bundle, make_folder, tmp_path):
    rows = make_rows(90)
    coded = rows.set_column(2, "city", rows["city"].dictionary_encode())
    folder, target = make_folder(coded), tmp_path / "answers"
    parquet.write_table(coded[:0], folder / "part-900.parquet")
    assert batch.score_folder(table_bundle, folder, target, keep=["id", "city"]) == 90
    answers = read_folder(target)
    assert answers["city"].to_pylist() == rows["city"].to_pylist()
    assert answers["prediction"].equals(score_table(rows, table_bundle, keep=["id"])["prediction"])
    empty = parquet.read_table(target / "part-900.parquet")
    assert empty.num_rows == 0
    assert empty.column_names == answers.column_names


def test_long_files_have_few_row_groups(make_regressor, tmp_path, monkeypatch):
    n = 2**17 + 5
    (tmp_path / "rows").mkdir()
    rows = pa.table({f"x{i}": np.arange(n, dtype=np.float32) for i in range(3)})
    parquet.write_table(rows, tmp_path / "rows" / "a.parquet")
    assert batch.score_folder(make_regressor(), tmp_path / "rows", tmp_path / "answers") == n
    answers = parquet.ParquetFile(tmp_path / "answers" / "a.parquet")
    assert answers.num_row_groups == 2
    assert answers.read()["prediction"].equals(rows["x0"])


def test_only_the_columns_that_are_needed_are_read(table_bundle, make_folder, tmp_path):
    rows = make_rows(30).append_column("extra", [["x" * 1000] * 30])
    folder, file = make_folder(rows), tmp_path / "rows" / "part-000.parquet"
    group = parquet.ParquetFile(file).metadata.row_group(0)
    (extra,) = [group.column(i) for i in range(5) if group.column(i).path_in_schema == "extra"]
    damaged = bytearray(file.read_bytes())
    start = extra.dictionary_page_offset or extra.data_page_offset
    damaged[start : start + extra.total_compressed_size] = b"\xff" * extra.total_compressed_size
    file.write_bytes(damaged)
    options = {"keep": ["id"], "ignore_extra": True}
    assert batch.score_folder(table_bundle, folder, tmp_path / "answers", **options) == 30


def test_errors_name_file_and_row(table_bundle, make_folder, tmp_path):
    rows = make_rows(100)
    ages = [float("inf") if i == 70 else 1.0 for i in range(100)]
    folder = make_folder(rows.set_column(1, "age", [ages]))
    with pytest.raises(
        ValueError, match=r"^In 'part-002\.parquet': Row 11: Numbers must be finite"
    ):
        batch.score_folder(table_bundle, folder, tmp_path / "answers", keep=["id"], chunk_rows=4)
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == [
        "part-000.parquet", "part-001.parquet"]  # fmt: skip


@pytest.mark.parametrize("damage", ["columns", "text", "page"])
def test_folder_with_a_bad_file(damage, table_bundle, make_folder, tmp_path):
    folder = make_folder(make_rows(5000), 2500)
    file = folder / "part-001.parquet"
    if damage == "columns":
        parquet.write_table(make_rows(3).drop_columns("age"), file)
    elif damage == "text":
        file.write_bytes(b"id,age\n")
    else:
        whole = bytearray(file.read_bytes())
        whole[100:300] = b"\xff" * 200
        file.write_bytes(whole)
    message = {
        "columns": "Rows must have the columns of the model, got none called 'age'",
        "text": "It must be a Parquet file, but reading it failed: ",
        "page": "Row 1 must be readable, but reading it failed: ",
    }[damage]
    with pytest.raises(ValueError, match=rf"^In 'part-001\.parquet': {message}"):
        batch.score_folder(table_bundle, folder, tmp_path / "answers", keep=["id"])
    # What can be seen in the columns is seen before the first file is scored.
    assert (tmp_path / "answers" / "part-000.parquet").exists() == (damage == "page")
    assert not (tmp_path / "answers" / "_SUCCESS").exists()


KILLED = """
import os, signal, sys
from skmode_deploy import batch
from skmode_deploy.running import predictor
calls = 0
original = predictor.Predictor.predict_full
def predict_full(self, rows):
    global calls
    calls += 1
    if calls == 20:  # of 8 for each file: in the middle of the third
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, rows)
predictor.Predictor.predict_full = predict_full
batch.score_folder(*sys.argv[1:], keep=["id"], chunk_rows=4)
"""


@pytest.mark.skipif(os.name == "nt", reason="the system has no kill -9")
@pytest.mark.slow
def test_a_run_that_was_killed_is_started_again(table_bundle, make_folder, tmp_path):
    rows = make_rows(100)
    folder, target = make_folder(rows), tmp_path / "answers"
    command = [sys.executable, "-c", KILLED, str(table_bundle), str(folder), str(target)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    left = sorted(path.name for path in target.iterdir())
    assert left[1:] == ["part-000.parquet", "part-001.parquet"]
    assert re.fullmatch(r"\.part-002\.parquet-[0-9a-f]{16}", left[0])
    finished = {name: (target / name).stat().st_mtime_ns for name in left[1:]}
    assert batch.score_folder(table_bundle, folder, target, keep=["id"]) == 100
    assert sorted(path.name for path in target.iterdir()) == [
        "_SUCCESS", *(f"part-{i:03}.parquet" for i in range(4))]  # fmt: skip
    assert finished == {name: (target / name).stat().st_mtime_ns for name in finished}
    assert read_folder(target).equals(score_table(rows, table_bundle, keep=["id"]))


def test_a_finished_folder_is_not_scored_again(table_bundle, make_folder, tmp_path, monkeypatch):
    folder, target = make_folder(make_rows(90)), tmp_path / "answers"
    batch.score_folder(table_bundle, folder, target, keep=["id"])
    scored = []
    monkeypatch.setattr(batch, "score_batches", lambda *_: scored.append(1) or iter(()))
    assert batch.score_folder(table_bundle, folder, target, keep=["id"]) == 90
    assert scored == []


def test_files_that_are_new_or_changed_are_scored(table_bundle, make_folder, tmp_path):
    folder, target = make_folder(make_rows(60)), tmp_path / "answers"
    batch.score_folder(table_bundle, folder, target, keep=["id"])
    stays = (target / "part-001.parquet").stat().st_mtime_ns
    parquet.write_table(make_rows(7, seed=1), folder / "part-000.parquet")
    parquet.write_table(make_rows(5, seed=2), folder / "part-002.parquet")
    assert batch.score_folder(table_bundle, folder, target, keep=["id"]) == 7 + 30 + 5
    assert (target / "part-001.parquet").stat().st_mtime_ns == stays
    expected = score_table(make_rows(7, seed=1), table_bundle, keep=["id"])
    assert parquet.read_table(target / "part-000.parquet").equals(expected)


def test_success_file_is_removed_before_scoring(table_bundle, make_folder, tmp_path):
    folder, target = make_folder(make_rows(60)), tmp_path / "answers"
    batch.score_folder(table_bundle, folder, target, keep=["id"])
    bad = make_rows(3).set_column(1, "age", [["old"] * 3])
    parquet.write_table(bad, folder / "part-002.parquet")
    with pytest.raises(ValueError, match="must hold numbers"):
        batch.score_folder(table_bundle, folder, target, keep=["id"])
    assert not (target / "_SUCCESS").exists()


def change_bundle(table_bundle, folder, target):
    replace_bundle(table_bundle)
    return {"keep": ["id"]}


def change_options(table_bundle, folder, target):
    return {"keep": ["id", "city"]}


def remove_source(table_bundle, folder, target):
    (folder / "part-000.parquet").unlink()
    return {"keep": ["id"]}


def put_foreign_answers(table_bundle, folder, target):
    parquet.write_table(make_rows(3), target / "part-000.parquet")
    return {"keep": ["id"]}


def put_no_parquet(table_bundle, folder, target):
    (target / "part-000.parquet").write_bytes(b"")
    return {"keep": ["id"]}


def put_foreign_file(table_bundle, folder, target):
    (target / "notes.txt").touch()
    return {"keep": ["id"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_bundle, "must be new, empty or from a run with the same bundle and columns"),
        (change_options, "must be new, empty or from a run with the same bundle and columns"),
        (remove_source, r"only files that source has, got 'part-000\.parquet' as well: remove"),
        (put_foreign_answers, r"part-000\.parquet' from something else: choose"),
        (put_no_parquet, r"part-000\.parquet' from something else: choose"),
        (put_foreign_file, r"target must contain only \.parquet .* got 'notes\.txt'"),
    ],
)
def test_predictions_of_runs_are_not_mixed(change, message, table_bundle, make_folder, tmp_path):
    folder, target = make_folder(make_rows(60)), tmp_path / "answers"
    batch.score_folder(table_bundle, folder, target, keep=["id"])
    options = change(table_bundle, folder, target)
    before = {path: path.read_bytes() for path in target.iterdir()}
    with pytest.raises(ValueError, match=message):
        batch.score_folder(table_bundle, folder, target, **options)
    assert {path: path.read_bytes() for path in target.iterdir()} == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: (f / "none", f / "answers"), "source must be a folder, got "),
        (lambda f: (f / "rows" / "part-000.parquet", f / "a"), "score a single file with `skmode"),
        (lambda f: (f / "empty", f / "answers"), "with Parquet files, got none in"),
        (lambda f: (f / "rows", f / "rows"), "must not contain each other"),
        (lambda f: (f / "rows", f / "rows" / "_answers"), "must not contain each other"),
        (lambda f: (f / "rows", f), "must not contain each other"),
        (lambda f: (f / "rows", f / "file"), "target must be a folder, got the file"),
        (lambda f: (f / "mixed", f / "answers"), r"only \.parquet files .* got 'rows\.csv' in"),
        (lambda f: (f / "linked", f / "answers"), "got 'more', which is a link in"),
    ],
)  # fmt: skip
def test_refused_folders(make, message, table_bundle, make_folder, tmp_path):
    make_folder(make_rows(3))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (make_folder(make_rows(3), name="mixed") / "rows.csv").touch()
    os.symlink(tmp_path / "rows", make_folder(make_rows(3), name="linked") / "more")
    with pytest.raises(ValueError, match=message):
        batch.score_folder(table_bundle, *make(tmp_path), keep=["id"])
    assert not (tmp_path / "answers").exists()


def test_without_pyarrow():
    code = "import sys; sys.modules['pyarrow'] = None; import skmode_deploy.batch"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "ImportError: skmode_deploy.batch needs pyarrow, which is not installed" in done.stderr


def test_images_are_refused(make_image_bundle, tmp_path):
    """Record batches are tables."""
    folder = make_image_bundle()
    (tmp_path / "rows").mkdir()
    for call in (
        lambda: batch.score([], folder),
        lambda: batch.output_schema(folder),
        lambda: batch.score_folder(folder, tmp_path / "rows", tmp_path / "target"),
    ):
        with pytest.raises(ValueError, match="must read tables or arrays to score record batches"):
            call()
