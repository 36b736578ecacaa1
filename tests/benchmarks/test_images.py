"""The report of benchmarks/images says which bars are met."""

import json

import pytest

from benchmarks.images import _report


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(_report, "RESULTS", tmp_path)
    return tmp_path


def line(model, accuracies, seconds=100.0):
    scores = {how: {"accuracy": each, "log_loss": 0.2} for how, each in accuracies.items()}
    return {"seed": 0, "model": model, "seconds": seconds, "scores": scores}


def write(folder, top):
    lines = [
        {"set": name} | each
        for name in ("fashion", "mnist")
        for each in (
            line("mode", {"mixture": 0.99, "top_expert": top}),
            line("one_network", {"network": 0.97}),
        )
    ]
    folder.joinpath("images.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = {"256": {"ratio": 2.6, "largest_difference": 1e-6, "labels_equal": True}}
    folder.joinpath("images_routing.json").write_text(json.dumps(found))


def test_all_bars_are_met(results):
    write(results, top=0.989)
    assert _report.report() == 0
    assert "MISSED" not in (results / "images.md").read_text()


def test_a_missed_bar_is_named(results):
    write(results, top=0.96)
    assert _report.report() == 1
    text = (results / "images.md").read_text()
    assert "MISSED: mnist: top expert 0.9600, at least 0.98" in text
    assert "MISSED: fashion: better than one network of equal compute (0.9700)" in text


def test_nothing_measured_is_no_success(results):
    assert _report.report() == 1
