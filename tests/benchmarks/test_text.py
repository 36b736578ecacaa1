"""The report of benchmarks/text says which bars are met; its plain bag learns."""

import json

import numpy as np
import pytest

from benchmarks.text import _alpha, _domains, _report
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
    scores = {"accuracy": 0.78, "log_loss": 0.59}
    folder.joinpath("text_birds.json").write_text(json.dumps({"with": scores, "without": scores}))


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


def of_alpha(alpha, mixture, top_expert, seed=0):
    losses = {"mixture": {"log_loss": mixture}, "top_expert": {"log_loss": top_expert}}
    return {"n_texts": 9, "width": 8, "mixing": "expected", "alpha": alpha, "seed": seed} | losses


def test_only_seeds_with_all_alphas_are_tabulated(results, monkeypatch):
    path = results / "text_alpha.jsonl"
    monkeypatch.setattr(_alpha, "PATH", path)
    assert _alpha.alpha_tables() == []
    lines = [of_alpha(alpha, 0.2 + i, 0.4 - i / 9) for i, alpha in enumerate(_alpha.ALPHAS)]
    path.write_text("\n".join(map(json.dumps, [*lines, of_alpha(0.0, 9.0, 9.0, seed=1)])))
    line = _alpha.alpha_tables()[-2]
    assert line.startswith("| 9 | 8 | expected | 1 | **0.200** / 0.400 | 1.200 / 0.289 |")


def test_losses_are_shares_of_those_without_distillation():
    losses = [
        _domains.Loss(("a", 0), 0.0, 2.0, 4.0),
        _domains.Loss(("a", 0), 1.0, 1.0, 3.0),
        _domains.Loss(("b", 0), 0.0, 1.0, 1.0),
        _domains.Loss(("b", 0), 1.0, 2.0, 2.0),
        _domains.Loss(("c", 0), 1.0, 9.0, 9.0),  # without a counterpart
    ]
    line = _domains._line(_domains.Setting("tables", "two", "4", "expected", losses))
    expected = "2 x 1 | **1.000** / **1.414** | - | **1.000** / 1.732 | - |"
    assert line == f"| tables | two | 4 | expected | {expected}"
    assert _domains._line(_domains.Setting("tables", "c", "4", "expected", losses[-1:])) is None
