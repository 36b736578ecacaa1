"""Tables of what was measured, and the bars."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.text._measure import RESULTS, read

BARS = {"reuters-r8": 0.973, "reuters-r52": 0.945, "20newsgroups": 0.848}
MODE, PEER = ("mode", "mixture"), ("logistic_regression", "linear")
# Log loss as a share of the logistic regression's, and seconds.
LARGEST_SHARE, SECONDS = 0.85, 60
MICROSECONDS, TEXTS_A_SECOND = 200, 10_000

BIRDS = {"accuracy": 0.775, "log_loss": 0.60}

Scores = dict[tuple[str, str], list[dict[str, Any]]]


def report() -> int:
    """Write text.md; return 1 if a bar is missed or not measured yet."""
    lines = list(read(RESULTS / "text.jsonl"))
    text = ["# Texts", "", "Written by `python -m benchmarks.text report`.", ""]
    verdicts = []
    for name in BARS:
        scores = _by_contender([line for line in lines if line["set"] == name])
        text += _table(name, scores)
        verdicts += list(_check(name, scores))
    verdicts += list(_check_serving())
    verdicts += list(_check_birds())
    text += ["## Bars", "", *(f"- {'met' if met else 'MISSED'}: {what}" for met, what in verdicts)]
    RESULTS.joinpath("text.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))
    return int(not all(met for met, _ in verdicts))


def _by_contender(lines: list[dict[str, Any]]) -> Scores:
    found: Scores = defaultdict(list)
    for line in lines:
        for how, scores in line["scores"].items():
            found[line["model"], how].append({"seconds": line["seconds"], **scores})
    return found


def _table(name: str, scores: Scores) -> list[str]:
    rows = [
        f"## {name}",
        "",
        "| model | predicts by | seeds | accuracy | log loss | processor seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (model, how), each in scores.items():
        spread = f" ± {np.std([one['accuracy'] for one in each]):.4f}" if len(each) > 1 else ""
        loss = f"{_mean(each, 'log_loss'):.4f}" if "log_loss" in each[0] else "-"
        rows.append(
            f"| {model} | {how} | {len(each)} | {_mean(each, 'accuracy'):.4f}{spread} | "
            f"{loss} | {_mean(each, 'seconds'):.0f} |"
        )
    return [*rows, ""]


def _mean(each: list[dict[str, Any]], what: str) -> float:
    return float(np.mean([one[what] for one in each]))


def _check(name: str, scores: Scores) -> Iterator[tuple[bool, str]]:
    if MODE not in scores or PEER not in scores:
        yield False, f"{name}: not measured yet"
        return
    accuracy = _mean(scores[MODE], "accuracy")
    yield accuracy >= BARS[name], f"{name}: accuracy {accuracy:.4f}, at least {BARS[name]}"
    share = _mean(scores[MODE], "log_loss") / _mean(scores[PEER], "log_loss")
    yield (
        share <= LARGEST_SHARE,
        f"{name}: log loss {share:.3f} of the logistic regression's, at most {LARGEST_SHARE}",
    )
    seconds = _mean(scores[MODE], "seconds")
    yield seconds <= SECONDS, f"{name}: {seconds:.0f} processor seconds, at most {SECONDS}"


def _check_serving() -> Iterator[tuple[bool, str]]:
    path = RESULTS / "text_serving.json"
    if not path.exists():
        yield False, "serving: not measured yet"
        return
    found = json.loads(path.read_text())
    equal = found["labels_equal"]
    yield equal == 1, f"serving: {equal:.2%} of {found['n_texts']:,} labels equal"
    one = found["microseconds_of_one"]
    yield one <= MICROSECONDS, f"serving: one text takes {one:.0f} µs, at most {MICROSECONDS}"
    rate = found["texts_a_second"]
    yield (
        rate >= TEXTS_A_SECOND,
        f"serving: {rate:,.0f} texts a second, at least {TEXTS_A_SECOND:,}",
    )


def _check_birds() -> Iterator[tuple[bool, str]]:
    path = RESULTS / "text_birds.json"
    if not path.exists():
        yield False, "birds: not measured yet"
        return
    found = json.loads(path.read_text())
    accuracy, loss = (found["with"][name] for name in ("accuracy", "log_loss"))
    without = found["without"]
    bars = BIRDS["accuracy"], BIRDS["log_loss"]
    yield (
        accuracy >= bars[0],
        f"birds: accuracy {accuracy:.4f}, at least {bars[0]} "
        f"(without texts {without['accuracy']:.4f})",
    )
    yield (
        loss <= bars[1],
        f"birds: log loss {loss:.4f}, at most {bars[1]} (without texts {without['log_loss']:.4f})",
    )
