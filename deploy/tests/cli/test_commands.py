import contextlib
import csv
import dataclasses
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import parquet

import skmode_deploy
from skmode_deploy import bundle
from skmode_deploy.cli import main

ROWS = """\
id,age,city,plan
a,30,Bern,1
b,41.5,Köln,
c,,,1
d,3,Paris,2
"""
ANSWERS = """\
id,prediction,probability_10,probability_20,probability_30,probability_40,expert,gate_probability
a,30,0,0,1,0,0,0.75
b,40,0,0,0,1,1,0.75
c,10,1,0,0,0,1,0.75
d,20,0,1,0,0,0,0.75
"""
PROGRAM = [sys.executable, "-m", "skmode_deploy"]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


@pytest.fixture
def run(capsys):
    """Run the command line in this process."""

    def run(*arguments):
        code = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return code, out, err

    return run


# Asking about a bundle.


def test_an_unknown_option_is_answered_with_the_usage_of_its_command(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("serve", "models", "--port", "80")
    said = capsys.readouterr().err
    assert said.startswith("usage: skmode-deploy serve")
    assert "--http-port" in said
    assert said.endswith("skmode-deploy serve: error: unrecognized arguments: --port 80\n")


def test_inspect(table_bundle, run):
    code, out, err = run("inspect", table_bundle)
    assert (code, err) == (0, "")
    assert "classification, top expert routing" in out
    assert "10, 20, 30, 40" in out
    assert "25.0%, 75.0%" in out
    assert "mixture 0.9000, top_expert 0.8900" in out
    assert "2026-11-22T05:00:00Z" in out
    lines = [line.split() for line in out.splitlines()]
    age, city, plan = (line for line in lines if line and line[0] in ("age", "city", "plan"))
    assert age == ["age", "number", "float32", "3", "to", "80"]
    assert city == [
        "city",
        "category",
        "string",
        "2",
        "known:",
        "Bern,",
        "Köln;",
        "may",
        "be",
        "missing",
    ]
    assert plan == ["plan", "category", "float64", "2", "known:", "1.0,", "2.0"]
    size = (table_bundle / "model.onnx").stat().st_size
    assert ["model.onnx", f"{size:,}", "bytes"] in lines


def test_inspect_leaves_the_terminal_alone(table_bundle, run, tmp_path):
    """Notes are free text, so they may contain control characters."""
    files = {path.name: path.read_bytes() for path in table_bundle.glob("*.onnx")}
    manifest = dataclasses.replace(bundle.read(table_bundle), notes="first\n\x1b[2Jsecond")
    bundle.write(tmp_path / "noted", manifest, files)
    code, out, _ = run("inspect", tmp_path / "noted")
    assert code == 0
    assert "notes       first\n            \ufffd[2Jsecond\n" in out


def test_inspect_as_json(table_bundle, run):
    code, out, _ = run("inspect", table_bundle, "--json")
    assert code == 0
    assert bundle.Manifest.from_json(out) == bundle.read(table_bundle)


def test_verify(table_bundle, run):
    code, out, err = run("verify", table_bundle)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert "verified" in out


def test_an_empty_key_path_is_an_error(table_bundle, run):
    """An unset shell variable gives an empty argument."""
    code, out, err = run("verify", table_bundle, "--public-key", "")
    assert (code, out) == (2, "")
    assert "must be the path of a PEM file, got ''" in err


@pytest.mark.parametrize(
    "arguments", [["verify"], ["inspect"], ["predict", "rows.csv", "out.csv"], ["benchmark"]]
)
def test_refused_bundles(arguments, table_bundle, run):
    command, *rest = arguments
    damaged = "manifest.json" if command == "inspect" else "model.onnx"
    with (table_bundle / damaged).open("ab") as stream:
        stream.write(b" ")
    code, out, err = run(command, table_bundle, *rest)
    assert (code, out) == (1, "")
    assert err.startswith("skmode-deploy: ")
    assert damaged in err
    assert "Traceback" not in err


def test_an_expert_that_is_refused_late(table_bundle, rows, run, tmp_path, monkeypatch):
    """With "split", an expert is read when it is first needed, and checked again."""
    load = skmode_deploy.load

    def load_and_change(path, **options):
        predictor = load(path, **options)
        (table_bundle / "expert_1.onnx").write_bytes(b"")
        return predictor

    monkeypatch.setattr(skmode_deploy, "load", load_and_change)
    options = ("--ignore-extra", "--strategy", "split")
    code, _, err = run("predict", table_bundle, rows, tmp_path / "out.csv", *options)
    assert code == 1
    assert "expert_1.onnx" in err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("strategy", ["graph", "split"])
def test_benchmark(strategy, table_bundle, run):
    options = ("--rows", 1, 100, "--seconds", 0.02, "--strategy", strategy)
    code, out, _ = run("benchmark", table_bundle, *options, "--json")
    assert code == 0
    results = json.loads(out)
    assert [result["rows"] for result in results] == [1, 100]
    for result in results:
        assert result["calls"] >= 1
        assert_allclose(result["rows_per_second"] * result["median_ms"], result["rows"] * 1e3)
    code, out, _ = run("benchmark", table_bundle, *options)
    assert len(out.splitlines()) == 3


def test_benchmark_of_an_array(make_regressor, run):
    code, out, _ = run("benchmark", make_regressor(), "--rows", 5, "--seconds", 0.01, "--json")
    assert code == 0
    assert len(json.loads(out)) == 1


# Files.


@pytest.mark.parametrize("options", [[], ["--chunk-rows", "1"], ["--strategy", "split"],
    ["--strategy", "split", "--max-loaded-experts", "1", "--threads", "2"],
    ["--provider", "CPUExecutionProvider"]])  # fmt: skip
def test_predict(options, table_bundle, rows, run, tmp_path):
    output = tmp_path / "out.csv"
    assert run("predict", table_bundle, rows, output, "--keep", "id", *options) == (0, "", "")
    assert output.read_text() == ANSWERS
    assert {path.name for path in tmp_path.iterdir()} == {"table", "rows.csv", "out.csv"}


def test_predict_equals_the_library(table_bundle, run, tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "plan": rng.choice([1.0, 2.0, 7.5, np.nan], 300),
        "city": rng.choice(["Bern", "Köln", "x,\ny", None], 300),
        "age": rng.normal(size=300),
    })  # fmt: skip
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.parquet", row_group_size=70)
    expected = skmode_deploy.load(table_bundle).predict_full(table)
    for source in ("rows.csv", "rows.parquet"):
        for target in ("out.csv", "out.parquet", "out.csv.gz"):
            options = ("--chunk-rows", 64)
            output = tmp_path / target
            assert run("predict", table_bundle, tmp_path / source, output, *options)[0] == 0
            read = pd.read_parquet if target.endswith("parquet") else pd.read_csv
            answers = read(output)
            assert_array_equal(answers["prediction"], expected.value)
            assert_array_equal(answers.iloc[:, 1:5].astype("f4"), expected.probabilities)
            assert_array_equal(answers["expert"], expected.expert)
            assert_array_equal(answers["gate_probability"].astype("f4"), expected.gate_probability)


def test_parquet_keeps_types(table_bundle, run, tmp_path):
    table = pa.table({
        "age": pa.array([30, None], pa.int8()),
        "city": pa.array(["Bern", None]).dictionary_encode(),
        "plan": pa.array([1.0, 2.0], pa.float32()),
        "day": pa.array([0, 1], pa.date32()),
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "rows.parquet")
    arguments = (table_bundle, tmp_path / "rows.parquet")
    assert run("predict", *arguments, tmp_path / "out.parquet", "--keep", "day")[0] == 0
    answers = parquet.read_table(tmp_path / "out.parquet")
    assert answers["day"].equals(table["day"])
    assert answers["prediction"].to_pylist() == [30, 10]
    assert answers.schema.field("prediction").type == pa.int32()
    assert answers.schema.field("gate_probability").type == pa.float32()
    assert run("predict", *arguments, tmp_path / "out.csv", "--keep", "day")[0] == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[2].startswith("1970-01-02,10,")


def test_rows_of_an_array_and_several_values(make_regressor, run, tmp_path):
    (tmp_path / "rows.csv").write_text("1;2;3\n6;5;4\n")
    options = ("--no-header", "--delimiter", ";")
    code, _, _ = run(
        "predict", make_regressor(2), tmp_path / "rows.csv", tmp_path / "out.csv", *options
    )
    assert code == 0
    header, *lines = csv.reader((tmp_path / "out.csv").open(), delimiter=";")
    assert header == ["prediction_0", "prediction_1", "expert", "gate_probability"]
    assert [line[:3] for line in lines] == [["1", "2", "2"], ["6", "5", "0"]]
    table = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "c"])
    table.to_parquet(tmp_path / "rows.parquet")
    arguments = (tmp_path / "array", tmp_path / "rows.parquet", tmp_path / "out.parquet")
    assert run("predict", *arguments)[0] == 3
    assert run("predict", *arguments, "--by-position")[0] == 0
    assert pd.read_parquet(tmp_path / "out.parquet")["prediction_1"].tolist() == [2]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_no_rows(suffix, table_bundle, run, tmp_path):
    table = pa.table({"age": pa.array([], "f8"), "city": pa.array([], "str"),
                      "plan": pa.array([], "f8")})  # fmt: skip
    table.to_pandas().to_csv(tmp_path / "rows.csv", index=False)
    parquet.write_table(table, tmp_path / "rows.parquet")
    for target in ("csv", "parquet"):
        arguments = (tmp_path / f"rows.{suffix}", tmp_path / f"out.{target}")
        assert run("predict", table_bundle, *arguments)[0] == 0
    assert (tmp_path / "out.csv").read_text() == ANSWERS.splitlines()[0][3:] + "\n"
    assert pd.read_parquet(tmp_path / "out.parquet").shape == (0, 7)


def test_encodings_and_compression(table_bundle, run, tmp_path):
    text = ROWS.replace(",", "\t")
    with gzip.open(tmp_path / "rows.csv.gz", "wb") as stream:
        stream.write(text.encode("latin-1"))
    options = ("--keep", "id", "--delimiter", "tab")
    arguments = (table_bundle, tmp_path / "rows.csv.gz", tmp_path / "out.csv", *options)
    code, _, err = run("predict", *arguments)
    assert code == 3
    assert "must be utf-8 text" in err
    assert run("predict", *arguments, "--encoding", "latin-1") == (0, "", "")
    assert (tmp_path / "out.csv").read_text() == ANSWERS.replace(",", "\t")
    whole = (tmp_path / "rows.csv.gz").read_bytes()
    for damaged in (whole[:-9], whole[:30] + b"\xff" * 30 + whole[60:], text.encode()):
        (tmp_path / "rows.csv.gz").write_bytes(damaged)
        code, _, err = run("predict", *arguments, "--encoding", "latin-1")
        assert code == 3
        assert "must be a gzip file" in err


@pytest.mark.parametrize("options", [[], ["--no-header"]])
def test_a_byte_order_mark(options, table_bundle, run, tmp_path):
    # After a mark, city would be a column, or Bern a city, that nobody knows.
    text = "\ufeff30,Bern,1\n" if options else '\ufeff"city",age,plan\nBern,30,1\n'
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    assert run("predict", table_bundle, tmp_path / "rows.csv", tmp_path / "out.csv", *options) == (
        0, "", "",
    )  # fmt: skip
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("30,")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("target", ["out.csv", "out.csv.gz", "out.parquet"])
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_the_output_keeps_its_mode(mode, target, table_bundle, rows, run, tmp_path):
    (tmp_path / target).touch()
    (tmp_path / target).chmod(mode)
    assert run("predict", table_bundle, rows, tmp_path / target, "--keep", "id")[0] == 0
    assert (tmp_path / target).stat().st_size > 0
    assert (tmp_path / target).stat().st_mode & 0o777 == mode


# Refusals.


@pytest.mark.parametrize("target", ["out.csv", "out.csv.gz", "out.parquet"])
def test_a_bad_row_leaves_no_output(target, table_bundle, rows, run, tmp_path):
    rows.write_text(ROWS + "e,old,Bern,1\n", encoding="utf-8")
    arguments = (table_bundle, rows, tmp_path / target, "--keep", "id", "--chunk-rows", 2)
    code, out, err = run("predict", *arguments)
    assert (code, out) == (3, "")
    assert "Column 'age' must hold numbers, got 'old' in line 6" in err
    assert {path.name for path in tmp_path.iterdir()} == {"table", "rows.csv"}
    (tmp_path / target).write_text("before")
    assert run("predict", *arguments)[0] == 3
    assert (tmp_path / target).read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("bad", "row"), [(0, 1), (5, 6), (63, 64), (64, 65), (99, 100)])
def test_a_bad_row_of_a_parquet_file(bad, row, table_bundle, run, tmp_path):
    table = pd.DataFrame({"age": np.ones(100), "city": "Bern", "plan": 1.0})
    table.loc[bad, "age"] = np.inf
    table.to_parquet(tmp_path / "rows.parquet")
    arguments = (tmp_path / "rows.parquet", tmp_path / "out.csv", "--chunk-rows", 64)
    code, _, err = run("predict", table_bundle, *arguments)
    assert code == 3
    assert f"Row {row}: " in err
    assert "'age'" in err


@pytest.mark.parametrize("encoding", ["undefined", "idna", "utf-32"])
def test_encodings_that_do_not_fit(encoding, table_bundle, rows, run, tmp_path):
    arguments = (rows, tmp_path / "out.csv", "--encoding", encoding)
    code, _, err = run("predict", table_bundle, *arguments)
    assert code == 3
    assert f"must be {encoding} text" in err


@pytest.mark.parametrize(
    ("error", "message"),
    [(MemoryError(), "out of memory"), (TypeError("odd"), "please report it:\nTraceback")],
)
def test_internal_errors_have_their_own_exit_code(
    error, message, table_bundle, rows, run, tmp_path, monkeypatch
):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(skmode_deploy, "load", fail)
    code, _, err = run("predict", table_bundle, rows, tmp_path / "out.csv")
    assert code == 70
    assert message in err


def test_invalid_parquet_file(table_bundle, rows, run, tmp_path):
    rows.rename(tmp_path / "rows.parquet")
    code, _, err = run("predict", table_bundle, tmp_path / "rows.parquet", tmp_path / "out.csv")
    assert code == 3
    assert "must be a Parquet file" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows.csv", "out.txt"], "must be called .csv, .csv.gz or .parquet, got 'out.txt'"),
        (["none.csv", "out.csv"], "No such file or directory: 'none.csv'"),
        (["rows.csv", "none/out.csv"], "No such file or directory"),
        (["rows.csv", "folder.csv"], "OUTPUT must be a file, got 'folder.csv'"),
        (["rows.csv", "out.csv", "--delimiter", "::"], "must be one ASCII character"),
        (["rows.csv", "out.csv", "--encoding", "none"], "--encoding must be one that Python knows"),
        (["rows.parquet", "out.csv", "--missing", "NA"], "are for CSV files"),
        (["rows.csv", "out.csv", "--max-loaded-experts", "1"], "max_loaded_experts"),
        (["rows.csv", "out.csv", "--provider", "NoProvider"], "NoProvider"),
        (["twice.csv", "out.csv", "--keep", "expert"], "must have different names"),
        (["rows.csv", "./rows.csv"], "must be another file than INPUT, got './rows.csv'"),
        (["rows.csv", "out.csv", "--threads", "1025"], "threads must be at most 1,024"),
        (["rows.csv", "out.csv", "--public-key", ""], "must be the path of a PEM file, got ''"),
    ],
)
def test_usage(arguments, message, table_bundle, rows, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "twice.csv").write_text("age,city,plan,expert\n")
    code, out, err = run("predict", table_bundle, *arguments, "--ignore-extra")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["explain", "b"], ["predict", "b"], ["benchmark", "b", "--rows", "0"],
        ["predict", "b", "i", "o", "--chunk-rows", "100000000000000000000"],
        ["benchmark", "b", "--seconds", "nan"], ["predict", "b", "i", "o", "--strategy", "all"],
    ],
)  # fmt: skip
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: skmode-deploy" in capsys.readouterr().err


def test_missing_gpu(table_bundle, rows, run, tmp_path):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has CUDA")
    arguments = (rows, tmp_path / "out.csv", "--provider", "CUDAExecutionProvider")
    code, _, err = run("predict", table_bundle, *arguments)
    assert code == 2
    assert "CUDAExecutionProvider" in err


# The program.


@pytest.mark.slow
def test_help_lists_the_exit_codes():
    for arguments in (["--help"], ["predict", "--help"]):
        result = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True)
        assert result.returncode == 0
        for code in ("0", "1", "2", "3", "70", "129", "130", "141", "143"):
            assert f"\n  {code:<3}  " in result.stdout


def test_version():
    result = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True)
    assert result.stdout == f"skmode-deploy {skmode_deploy.__version__}\n"


@pytest.mark.slow
def test_standard_streams(table_bundle):
    command = [*PROGRAM, "predict", str(table_bundle), "-", "-", "--keep", "id"]
    # Whatever the locale says, files are UTF-8.
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    result = subprocess.run(
        [*command, "--progress"], input=ROWS.encode(), capture_output=True, env=environment
    )
    assert (result.returncode, result.stdout.decode()) == (0, ANSWERS)
    assert result.stderr.startswith(b"4 rows in ")
    assert result.stderr.endswith(b" rows/s\n")


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_any_encoding_of_stdout(options, table_bundle):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [*PROGRAM, "inspect", str(table_bundle), *options]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("K\\u00f6ln" if options else "K\\xf6ln") in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of POSIX")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict table rows.csv - >&-", "Standard output must be open"),
        ("predict table - - <&- >&-", "Standard input must be open"),
        ("predict table rows.csv out.txt 2>&-", ""),
        ("predict table - out.csv <&-", "Standard input must be open"),
        ("inspect table >&-", "Standard output must be open"),
        ("verify table >&-", "Standard output must be open"),
    ],
)
def test_closed_streams(arguments, message, table_bundle, tmp_path):
    (tmp_path / "rows.csv").write_text("age,city,plan\n1,Bern,1\n")
    command = f'"$0" -m skmode_deploy {arguments}'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_output_in_no_folder_is_named_as_it_was_passed(run, rows, table_bundle, tmp_path):
    target = tmp_path / "no-such-folder" / "scores.csv"
    code, _, said = run("predict", table_bundle, rows, target, "--keep", "id")
    assert code == 2
    assert f"got {str(target)!r}, and writing it gave: No such file or directory." in said


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_a_disk_without_room_leaves_no_part_and_names_the_output(
    name, rows, table_bundle, tmp_path
):
    resource = pytest.importorskip("resource")
    rows.write_text("age,city,plan\n" + "30,Bern,1\n" * 5000)
    folder = tmp_path / "scores"
    folder.mkdir()
    target = folder / name
    # The file of a measurement of coverage would not fit either.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    result = subprocess.run(
        [*PROGRAM, "predict", table_bundle, rows, target],
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert result.returncode == 2
    assert f"has room, got {str(target)!r}" in result.stderr.decode()
    assert os.listdir(folder) == []


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
@pytest.mark.parametrize("arguments", ["predict table rows.csv -", "inspect table"])
def test_a_full_disk(arguments, table_bundle, tmp_path):
    (tmp_path / "rows.csv").write_text("age,city,plan\n1,Bern,1\n")
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*PROGRAM, *arguments.split()], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE
        )
    assert result.returncode == 2
    assert result.stderr.startswith(b"skmode-deploy: [Errno 28] No space left")
    assert result.stderr.count(b"\n") == 1


@contextlib.contextmanager
def started(command, **options):
    """A process that does not outlive a test that fails: the end of Popen's block would wait."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@pytest.mark.slow
def test_broken_pipe(table_bundle, tmp_path):
    (tmp_path / "rows.csv").write_text("age,city,plan\n" + "1,Bern,1\n" * 50_000)
    command = [*PROGRAM, "predict", str(table_bundle), str(tmp_path / "rows.csv"), "-"]
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"prediction,")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def with_default_signals():
    """Tests may run under nohup or in the background, whose children ignore these signals."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)],
)
def test_interrupts_leave_nothing(name, code, table_bundle, tmp_path):
    command = [*PROGRAM, "predict", str(table_bundle), "-", str(tmp_path / "out.csv")]
    with started(
        command, stdin=subprocess.PIPE, text=True, preexec_fn=with_default_signals
    ) as process:
        process.stdin.write("age,city,plan\n" + "1,Bern,1\n" * 20_000)
        process.stdin.flush()
        while not list(tmp_path.glob(".out.csv-*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(getattr(signal, name))
        process.wait(timeout=60)
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == code
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


@pytest.mark.skipif(not shutil.which("nohup"), reason="needs nohup")
@pytest.mark.slow
def test_nohup(table_bundle, tmp_path):
    """A signal that is ignored at the start stays ignored."""
    command = ["nohup", *PROGRAM, "predict", str(table_bundle), "-", str(tmp_path / "out.csv")]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"age,city,plan\n" + b"1,Bern,1\n" * 20_000)
        process.stdin.flush()
        while not list(tmp_path.glob(".out.csv-*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "out.csv").read_bytes().count(b"\n") == 20_001


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(
    onnxruntime.__version__.startswith("1.20."), reason="onnxruntime 1.20 keeps every string"
)
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(table_bundle, tmp_path):
    """Most memory of a run on ten times as many rows."""
    # Not getrusage, whose peak begins with that of the process that started this one.
    code = (
        "import re, sys; from skmode_deploy.cli import main; "
        "assert main(sys.argv[1:]) == 0; "
        r"print(re.search(r'VmHWM:\s*(\d+) kB', open('/proc/self/status').read())[1])"
    )
    peaks = []
    for n_rows in (40_000, 400_000):
        lines = "".join(f"{i % 89},Bern,{i % 3}\n" for i in range(n_rows))
        (tmp_path / "rows.csv").write_text("age,city,plan\n" + lines)
        arguments = ["predict", table_bundle, tmp_path / "rows.csv", tmp_path / "out.csv"]
        result = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=True
        )
        peaks.append(int(result.stdout) / 1024)
        assert (tmp_path / "out.csv").read_bytes().count(b"\n") == n_rows + 1
    assert peaks[1] < peaks[0] + 5
    assert peaks[0] > 20  # it was read
