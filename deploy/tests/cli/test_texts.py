"""The command line and batch scoring, with texts."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from skmode_deploy import batch
from skmode_deploy.cli import main

ROWS = 'id,review\n1,good\n2,"a bad,\nbad day"\n3,\n4,"good ""bad"" good"\n'
LABELS = ["good", "bad", "bad", "good"]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def predictions(path):
    return pd.read_csv(path)["prediction"].tolist()


def test_csv_files(make_text_bundle, rows, tmp_path):
    """The only column that is not kept holds the texts, whatever its name."""
    folder, out = make_text_bundle(), tmp_path / "out.csv"
    assert main(["predict", str(folder), str(rows), str(out), "--keep", "id"]) == 0
    assert predictions(out) == LABELS
    assert pd.read_csv(out)["id"].tolist() == [1, 2, 3, 4]
    arguments = ["--strategy", "split", "--chunk-rows", "1"]
    assert main(["predict", str(folder), str(rows), str(out), "--keep", "id", *arguments]) == 0
    assert predictions(out) == LABELS
    (tmp_path / "plain.csv.gz").write_bytes(gzip.compress(b"good\nbad bad good\n"))
    arguments = [str(folder), str(tmp_path / "plain.csv.gz"), str(out), "--no-header"]
    assert main(["predict", *arguments]) == 0
    assert predictions(out) == ["good", "bad"]


def test_it_must_be_clear_which_column_holds_texts(make_text_bundle, rows, tmp_path, capsys):
    arguments = [str(make_text_bundle()), str(rows), str(tmp_path / "out.csv")]
    assert main(["predict", *arguments]) == 3
    assert "got none called 'text': pass --by-position" in capsys.readouterr().err
    rows.write_text(ROWS.replace("review", "text"))
    assert main(["predict", *arguments]) == 3
    assert "got 'id' as well: pass --ignore-extra" in capsys.readouterr().err
    assert main(["predict", *arguments, "--ignore-extra"]) == 0


@pytest.mark.parametrize("table", [False, True])
def test_parquet_files_and_batches(make_text_bundle, tmp_path, table):
    folder = make_text_bundle(table=table)
    data = pa.table({"review": ["good", "bad bad", None, "good bad good"]})
    if table:
        data = data.append_column("age", pa.array([0.0, 0, 0, 0]))
    parquet.write_table(data, tmp_path / "rows.parquet")
    out = tmp_path / "out.csv"
    assert main(["predict", str(folder), str(tmp_path / "rows.parquet"), str(out)]) == 0
    assert predictions(out) == LABELS
    scored = pa.Table.from_batches(batch.score(data.to_batches(), folder))
    assert scored["prediction"].to_pylist() == LABELS
    (tmp_path / "in").mkdir()
    parquet.write_table(data, tmp_path / "in" / "a.parquet")
    assert batch.score_folder(folder, tmp_path / "in", tmp_path / "out") == 4


def test_tables_as_csv(make_text_bundle, tmp_path):
    folder, out = make_text_bundle(table=True), tmp_path / "out.csv"
    (tmp_path / "rows.csv").write_text("review,age\ngood,1\nbad,2\n,90\n")
    assert main(["predict", str(folder), str(tmp_path / "rows.csv"), str(out)]) == 0
    assert predictions(out) == ["good", "bad", "good"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * 2000, "at most 1,000 bytes, as in the manifest, but text 1 has at least 2,000"),
        ("x" * 200_000, "at most 1,000 bytes, as in the manifest, but text 1 has at least 200,000"),
        ("a\0b", "null characters"),
    ],
)
def test_bad_texts(make_text_bundle, tmp_path, capsys, text, message):
    folder, path = make_text_bundle(), tmp_path / "rows.csv"
    path.write_text(f"text\ngood\n{text}\n")
    assert main(["predict", str(folder), str(path), str(tmp_path / "out.csv")]) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
    parquet.write_table(pa.table({"text": ["good", text]}), tmp_path / "rows.parquet")
    arguments = [str(folder), str(tmp_path / "rows.parquet"), str(tmp_path / "out.csv")]
    assert main(["predict", *arguments]) == 3
    assert "Row 2: A text must have" in capsys.readouterr().err


def test_numbers_among_texts(make_text_bundle, tmp_path, capsys):
    parquet.write_table(pa.table({"text": [1, 2]}), tmp_path / "rows.parquet")
    arguments = [str(make_text_bundle()), str(tmp_path / "rows.parquet"), str(tmp_path / "o.csv")]
    assert main(["predict", *arguments]) == 3
    assert "Text 0 must be a string, None or NaN, got 1 of type int" in capsys.readouterr().err


def test_inspect_verify_and_benchmark(make_text_bundle, capsys):
    folder = make_text_bundle()
    assert main(["inspect", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "tokens of tokenizer.json, up to 8 different ones and 1,000 bytes of a text" in output
    assert "inputs      tokens, int64, and counts, float32 (n, length)" in output
    assert main(["verify", str(folder)]) == 0
    assert "7 files verified" in (output := capsys.readouterr().out)
    assert "8 sample rows match the export's predictions" in output
    assert main(["benchmark", str(folder), "--rows", "1", "9", "--seconds", "0.01", "--json"]) == 0
    assert [speed["rows"] for speed in json.loads(capsys.readouterr().out)] == [1, 9]
    table = make_text_bundle("table", table=True)
    assert main(["inspect", str(table)]) == 0
    assert "review  text      string   " in capsys.readouterr().out


def test_verify_reads_the_tokenizer_without_samples(make_text_bundle, capsys):
    """A tokenizer with more tokens than the graph knows has no samples here."""
    assert main(["verify", str(make_text_bundle(n_tokens=100))]) == 1
    assert "at most the 100 tokens that the graph knows" in capsys.readouterr().err


def test_folders_are_of_images(make_text_bundle, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    arguments = [str(make_text_bundle()), str(tmp_path / "folder"), str(tmp_path / "out.csv")]
    assert main(["predict", *arguments]) == 2
    assert "INPUT must be" in capsys.readouterr().err


def test_triton(make_text_bundle, tmp_path, capsys):
    """Texts become tokens outside the graph, so requests hold these."""
    folder = make_text_bundle(table=True)
    assert main(["triton", str(folder), str(tmp_path / "models"), "--name", "reviews"]) == 0
    config = (tmp_path / "models" / "reviews" / "config.pbtxt").read_text()
    for name, kind in (("tokens_review", "TYPE_INT64"), ("counts_review", "TYPE_FP32")):
        assert f'  name: "{name}"\n  data_type: {kind}\n  dims: [ -1 ]\n' in config
    assert (tmp_path / "models" / "reviews" / "1" / "model.onnx").exists()
