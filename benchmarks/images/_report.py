"""Tables of what was measured, and the bars."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.images._measure import RESULTS, read

# What is served, and the network that it is compared with.
TOP = ("mode", "top_expert")
BARS = {"fashion": 0.925, "mnist": 0.98}
SECONDS, LARGEST_GAP, FASTER = 300, 0.002, 2.5

Scores = dict[tuple[str, str], list[dict[str, Any]]]


def report() -> int:
    """Write images.md; return 1 if a bar is missed or not measured yet."""
    lines = list(read(RESULTS / "images.jsonl"))
    text = [
        "# Images",
        "",
        "Written by `python -m benchmarks.images report`. Processor seconds are those of the fit",
        "and of predicting the test images in each way.",
        "",
    ]
    verdicts = []
    for name in BARS:
        scores = _by_contender([line for line in lines if line["set"] == name])
        text += _table(name, scores)
        verdicts += list(_check(name, scores))
    text += _alphas() + _refits()
    verdicts += list(_check_routing())
    text += ["## Bars", "", *(f"- {'met' if met else 'MISSED'}: {what}" for met, what in verdicts)]
    RESULTS.joinpath("images.md").write_text("\n".join(text) + "\n")
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
        rows.append(
            f"| {model} | {how} | {len(each)} | {_mean(each, 'accuracy'):.4f}{spread} | "
            f"{_mean(each, 'log_loss'):.4f} | {_mean(each, 'seconds'):.0f} |"
        )
    return [*rows, ""]


def _mean(each: list[dict[str, Any]], what: str) -> float:
    return float(np.mean([one[what] for one in each]))


def _check(name: str, scores: Scores) -> Iterator[tuple[bool, str]]:
    if TOP not in scores:
        yield False, f"{name}: not measured yet"
        return
    top = _mean(scores[TOP], "accuracy")
    yield top >= BARS[name], f"{name}: top expert {top:.4f}, at least {BARS[name]}"
    gap = _mean(scores["mode", "mixture"], "accuracy") - top
    yield gap <= LARGEST_GAP, f"{name}: {gap:.4f} behind its mixture, at most {LARGEST_GAP}"
    if name == "fashion":
        one = scores.get(("one_network", "network"))
        better = one is not None and top > _mean(one, "accuracy")
        shown = "not measured yet" if one is None else f"{_mean(one, 'accuracy'):.4f}"
        yield better, f"{name}: better than one network of equal compute ({shown})"
        seconds = _mean(scores[TOP], "seconds")
        yield seconds <= SECONDS, f"{name}: {seconds:.0f} processor seconds, at most {SECONDS}"


def _alphas() -> list[str]:
    lines = list(read(RESULTS / "images_alpha.jsonl"))
    rows = [
        "## alpha",
        "",
        "Fashion-MNIST, trained on a part of the training images, judged by 5,000 others.",
        "",
        "| images | network | mixing | alpha | mixture | log loss | top expert | log loss "
        "| use of experts |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        cells = [
            f"{line['scores'][how][what]:.4f}"
            for how in ("mixture", "top_expert")
            for what in ("accuracy", "log_loss")
        ]
        usage = ", ".join(f"{share:.2f}" for share in line["expert_usage"])
        about = [f"{line['rows']:,}", line["network"], line["mixing"], f"{line['alpha']:g}"]
        rows.append(f"| {' | '.join([*about, *cells, usage])} |")
    return [*rows, ""] if lines else []


def _refits() -> list[str]:
    lines = list(read(RESULTS / "images_refit.jsonl"))
    rows = [
        "## Epochs of a refit with a teacher",
        "",
        'The same with `teacher="ensemble"`, whose refit takes `refit_fraction` of `max_epochs`.',
        "",
        "| images | seed | refit_fraction | top expert | log loss | processor seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        top = line["scores"]["top_expert"]
        rows.append(
            f"| {line['rows']:,} | {line['seed']} | {line['refit_fraction']:g} | "
            f"{top['accuracy']:.4f} | {top['log_loss']:.4f} | {line['seconds']:.0f} |"
        )
    return [*rows, ""] if lines else []


def _check_routing() -> Iterator[tuple[bool, str]]:
    path = RESULTS / "images_routing.json"
    if not path.exists():
        yield False, "routing: not measured yet"
        return
    found = json.loads(path.read_text())
    ratio = found["256"]["ratio"]
    yield ratio >= FASTER, f"routing: {ratio:.2f} times faster at 256 images, at least {FASTER}"
    worst = max(each["largest_difference"] for each in found.values())
    equal = all(each["labels_equal"] for each in found.values())
    yield worst <= 1e-5 and equal, f"routing: probabilities differ by {worst:.1e}, labels equal"
