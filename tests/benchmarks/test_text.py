"""The report of benchmarks/text says which bars are met; its plain bag learns."""

import json

import numpy as np
import pytest

from benchmarks.text import _report
from benchmarks.text._bag import BagOfWords


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(_report, "RESULTS", tmp_path)
    return tmp_path


def line(model, how, accuracy, log_loss, seconds=20.0):
    scores = {how: {"accuracy": accuracy, "log_loss": log_loss}}
    return {"seed": 0, "model": model, "seconds": seconds, "scores": scores}


def write(folder, log_loss):
    lines = [
        {"set": name} | each
        for name in _report.BARS
        for each in (
            line("mode", "mixture", 0.98, log_loss),
            line("logistic_regression", "linear", 0.97, 0.2),
        )
    ]
    folder.joinpath("text.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = {"labels_equal": 1.0, "n_texts": 9, "microseconds_of_one": 90, "texts_a_second": 2e4}
    folder.joinpath("text_serving.json").write_text(json.dumps(found))


def test_all_bars_are_met(results):
    write(results, log_loss=0.1)
    assert _report.report() == 0
    assert "MISSED" not in (results / "text.md").read_text()


def test_a_missed_bar_is_named(results):
    write(results, log_loss=0.18)
    assert _report.report() == 1
    text = (results / "text.md").read_text()
    assert "MISSED: reuters-r8: log loss 0.900 of the logistic regression's" in text


def test_nothing_measured_is_no_success(results):
    assert _report.report() == 1


def test_the_plain_bag_learns():
    texts = ["a fine film", "a dull film", "fine actors", "dull actors"] * 20
    target = np.array([1, 0, 1, 0] * 20)
    probabilities = BagOfWords(0).fit(texts, target).predict_proba(texts)
    assert (probabilities.argmax(axis=1) == target).all()
