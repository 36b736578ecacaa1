"""The experiments with language models run, on generated texts and with hardly any training."""

from __future__ import annotations

import gzip
import itertools
import json
import sys

import numpy as np
import pytest

from benchmarks.language import __main__ as command
from benchmarks.language import _bench, multilingual
from benchmarks.language._texts import ALL, load_texts

# Importing transformers and tracing a model take seconds.
pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A file of texts, as `pack` writes it; results go beside it."""
    monkeypatch.setattr(_bench, "RESULTS", tmp_path)
    monkeypatch.setattr(_bench, "TEST_BYTES", 600)
    rng = np.random.RandomState(0)
    parts = {"train": {}, "test": {}}
    for at, domain in enumerate(ALL):
        words = ["".join(rng.choice(list("abcdefgh"), 4)) + chr(97 + at) for _ in range(30)]
        for part, n in (("train", 30), ("test", 8)):
            parts[part][domain] = ["".join(_line(words, rng) for _ in range(9)) for _ in range(n)]
    path = tmp_path / "texts.json.gz"
    path.write_bytes(gzip.compress(json.dumps(parts).encode()))
    return path


def _line(words, rng):
    return " ".join(rng.choice(words, 14)) + "\n"


def run(monkeypatch, data, name, *options):
    small = ["--steps", "2", "--seeds", "0", "--student", "tiny", "--teacher", "tiny"]
    small += ["--vocab-size", "300", "--max-length", "16", "--batch-size", "4", "--device", "cpu"]
    arguments = ["benchmarks.language", name, "--data", str(data), *small, *options]
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()
    return json.loads((data.parent / f"language_{name}.json").read_text())


# The others differ from these in what they compare.
@pytest.mark.parametrize("name", ["teacher", "setups"])
def test_runs(monkeypatch, data, name):
    found = run(monkeypatch, data, name)
    assert found["lines"]
    assert found["made_by"]["command"] == f"python -m benchmarks.language {name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["router", "alpha", "schedules", "domains", "large"])
def test_runs_the_others(monkeypatch, data, name):
    assert run(monkeypatch, data, name)["lines"]


def test_the_router_is_measured_with_each_seed(monkeypatch, data):
    found = run(monkeypatch, data, "router", "--seeds", "0", "3")
    assert found["made_by"]["seeds"] == "[0, 3]"
    assert found["made_by"].keys() == {"seeds", "data", "command", "processor_seconds", "torch"}
    counts = [
        [line["seed"] for line in found["lines"] if "length" in line].count(i) for i in (0, 3)
    ]
    assert counts == [8, 8]


def test_forgetting_compares_equal_steps(monkeypatch, data):
    lines = run(monkeypatch, data, "forgetting")["lines"]
    longer = data.parent / "longer" / "forgetting.json"
    kept = run(monkeypatch, data, "forgetting", "--results", str(longer), "--steps", "1")["lines"]
    assert kept == lines  # the file of before
    assert json.loads(longer.read_text())["made_by"]["steps"] == "1"
    means = {line["training"]: line["mean"] for line in lines[:-1]}
    balanced = "balanced", "balanced, rate falls late"
    in_sequence = [f"in sequence, after {name}" for name in ("en", "fr", "de", "py")]
    assert set(means) == {*balanced, "cold experts", "warm experts", *in_sequence}
    expected = means["warm experts"] / min(means[name] for name in balanced)
    assert lines[-1]["warm / balanced"] == pytest.approx(expected, abs=1e-3)


def test_experts_of_a_multilingual_teacher_are_compared_with_equal_time(monkeypatch, data):
    ticks = itertools.count()
    monkeypatch.setattr(multilingual, "clock", lambda device: float(next(ticks) ** 2))
    lines = run(monkeypatch, data, "multilingual")["lines"]
    own = {line["way"]: line for line in lines if line.get("expert") == "own"}
    assert list(own) == [*multilingual.WAYS, "no teacher, longer"]
    # By that clock the teacher takes 1, what is no training 5, a fit alone 9, a taught one 13.
    assert own["no teacher, longer"]["steps"] == round(2 * (1 + 13 - 5) / (9 - 5))
    matrix = [line for line in lines if line.get("expert") in ("en", "fr", "de", "py")]
    assert len(matrix) == 4 * len(own)
    for line in matrix:
        assert line[line["expert"]] == own[line["way"]][line["expert"]]
    gaps = {line["way"]: line["minus no teacher"] for line in lines if "standard error" in line}
    for way, line in own.items():
        assert gaps[way] == pytest.approx(line["mean"] - own["no teacher"]["mean"], abs=2e-4)


def test_experts_of_8_bits_are_compared(monkeypatch, data):
    whole, small = run(monkeypatch, data, "quantized")["lines"]
    assert (whole["bits of a weight"], small["bits of a weight"]) == (32, 8)
    assert small["MB of an expert"] < whole["MB of an expert"]
    assert small["mean"] == pytest.approx(whole["mean"], abs=0.2)


def test_minutes_choose_the_steps(monkeypatch, data):
    monkeypatch.setattr(_bench.Bench, "seconds_per_step", lambda bench, size: 0.5)
    options = type("Options", (), {"steps": None, "minutes": 1.0, "student": "s", "teacher": "t"})
    assert _bench.choose_steps(object.__new__(_bench.Bench), options, 2.0, 1.0) == 34


def test_texts_are_cut_as_asked(data):
    texts = load_texts(("en", "fr"), data)
    assert {len(each.split()) for each in texts.passages("en", 9, 5)} == {5}
    assert len(texts.lines("fr", 3)) == 3
    assert len(texts.sample("en", 600)) == 600
    assert sum(map(len, texts.pairs(("en",), 2000)[0])) < 4000
