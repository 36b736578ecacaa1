"""The measurements for a GPU run to their end on a CPU, on tiny data."""

from __future__ import annotations

import json
import time

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import wheels
from benchmarks.gpu._record import Part, Record, Setting, Skipped, run

QUICK = Setting("cpu", quick=True)


def measure(arguments, path):
    status = command.main(["--device", "cpu", "--quick", "--output", str(path), *arguments])
    return status, json.loads(path.read_text())


def test_some_parts(tmp_path):
    status, found = measure(["--only", "peak", "small"], tmp_path / "gpu.json")
    assert status == 0
    assert found["made_by"]["device"] == "cpu"
    assert found["made_by"]["quick"]
    assert list(found["parts"]) == ["peak", "small"]
    assert all(part["lines"] and "error" not in part for part in found["parts"].values())
    training = [line for line in found["parts"]["peak"]["lines"] if line["what"] == "training"]
    assert all(line["tera_per_second"] > 0 for line in training)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_all_parts(tmp_path):
    status, found = measure(["--minutes", "20"], tmp_path / "gpu.json")
    assert status == 0
    assert list(found["parts"]) == [part.name for part in command.PARTS]
    for part in found["parts"].values():
        assert part["lines"]
        assert not {"error", "skipped", "cut_off"} & set(part)
        assert all(line.get("holds", True) for line in part["lines"])
        assert not any("failed" in line for line in part["lines"])
    answers = found["parts"]["answers"]["lines"]
    assert {line["estimator"] for line in answers} == {"classifier", "regressor"}
    assert all(line["prediction_difference"] == 0 for line in answers)  # of the CPU and itself


def test_failures_and_late_parts_leave_the_others_alone(tmp_path, capsys):
    def fails(setting):
        yield {"n": 1}
        raise RuntimeError("out of memory")

    def sleeps(setting):
        yield {"n": 2}
        try:
            time.sleep(60)
        except Exception:  # as a library might
            pytest.fail("the end of the time must not be caught")
        yield {"n": 3}

    def lacks(setting):
        raise Skipped("no tokenizers")
        yield

    def ends(setting):
        yield {"n": 4, "first": json.loads(path.read_text())["parts"]["fails"]["lines"]}

    path = tmp_path / "gpu.json"
    record = Record(path, QUICK)
    parts = [Part("fails", fails, 1), Part("sleeps", sleeps, 1)]
    parts += [Part("lacks", lacks, 1), Part("ends", ends, 1)]
    start = time.monotonic()
    run(parts, QUICK, record, 2.0)
    assert time.monotonic() - start < 20
    found = json.loads(path.read_text())["parts"]
    assert record.failed
    assert "out of memory" in found["fails"]["error"]
    assert "Traceback" in found["fails"]["error"]
    assert found["sleeps"]["cut_off"]
    assert found["sleeps"]["lines"] == [{"n": 2}]
    assert found["lacks"] == found["lacks"] | {"skipped": "no tokenizers", "lines": []}
    assert found["ends"]["lines"] == [{"n": 4, "first": [{"n": 1}]}]


def test_wheels_are_what_a_machine_with_torch_and_sklearn_lacks(capsys, tmp_path):
    def listed(*arguments):
        wheels.main([str(tmp_path), "--list", *arguments])
        return {line.partition("==")[0] for line in capsys.readouterr().out.split()}

    few = listed()
    assert {"skorch", "rtdl-num-embeddings", "tabulate", "narwhals"} <= few
    assert not {"torch", "numpy", "scikit-learn", "pandas", "scipy", "onnx"} & few
    assert {"onnx", "onnxruntime"} <= listed("--onnx")
    assert {"tokenizers", "transformers"} <= listed("--language")
