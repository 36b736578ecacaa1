"""The tables of ablations.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.defaults._candidates import CANDIDATES
from benchmarks.defaults._lines import PRESENT, Line, place, read
from benchmarks.tabular._sets import SETS

TASKS = ["binary", "multiclass", "regression"]
FORMS = ["mixture", "top_expert"]


def geometric_mean(ratios: Iterable[float]) -> float:
    """Geometric mean; NaN of nothing."""
    logs = np.log(list(ratios))
    return float(np.exp(logs.mean())) if len(logs) else float("nan")


def summarize(path: Path) -> None:
    """Print ratios to the defaults: of the present code, then of the last before it."""
    lines = read(path)
    print("With the present code:\n")
    present = [line for line in lines if line["version"] == PRESENT]
    shown = print_table(present)
    print("\nWith earlier code, each against the defaults of that code:\n")
    print_table([line for line in lines if line["version"] != PRESENT], without=shown)


def print_table(lines: list[Line], without: Iterable[str] = ()) -> list[str]:
    """Print a row per candidate, each task by the newest code that measured it; return which."""
    print("| candidate | " + " | ".join(TASKS) + " | top expert: " + " | ".join(TASKS), end="")
    print(" | fit time | worse than the defaults on |")
    print("| --- " * 9 + "|")
    defaults = {
        (line["set"], line["repeat"], line["version"]): line
        for line in lines
        if line["candidate"] == "defaults"
    }
    shown = [name for name in CANDIDATES if name not in without]
    found = {name: list(pairs_of(name, lines, defaults)) for name in shown}
    shown = [name for name in shown if found[name]]
    for candidate in shown:
        pairs = found[candidate]
        cells = [
            geometric_mean(a[key] / b["mixture"] for a, b in pairs if SETS[a["set"]].task == task)
            for key in ("mixture", "top_expert")
            for task in TASKS
        ]
        cells.append(geometric_mean(a["seconds"] / b["seconds"] for a, b in pairs))
        worse = sum(a["mixture"] > b["mixture"] for a, b in pairs)
        print(
            f"| {candidate} | "
            + " | ".join("-" if math.isnan(cell) else f"{cell:.3f}" for cell in cells)
            + f" | {worse} of {len(pairs)} |"
        )
    return shown


def pairs_of(
    candidate: str, lines: list[Line], defaults: dict[Any, Line]
) -> Iterator[tuple[Line, Line]]:
    """A candidate's lines and those of the defaults, for each task of one code."""
    for task in TASKS:
        own = [
            line
            for line in lines
            if line["candidate"] == candidate
            and SETS[line["set"]].task == task
            and (line["set"], line["repeat"], line["version"]) in defaults
        ]
        newest = {place(line): line for line in own if line["version"] == own[-1]["version"]}
        for line in newest.values():
            yield line, defaults[line["set"], line["repeat"], line["version"]]


def print_differences(path: Path, against: str, repeats: Iterable[int]) -> None:
    """Print how much each candidate's errors differ from another's, by the newest code with both.

    Differences are those of logarithms, averaged over the splits of a set, then over sets; the
    standard error is over sets.
    """
    chosen = (line for line in read(path) if line["repeat"] in repeats)
    lines = {(line["version"], *place(line)): line for line in chosen}
    if not any(key[1] == against for key in lines):
        raise SystemExit(f"There are no results of {against!r} in {path.name}: measure it first.")
    print(
        "| candidate | mixture | top expert | better on | top expert: binary | multiclass "
        "| regression | top expert against its mixture | accuracy lost | fit time | fits |"
    )
    print("| --- " * 11 + "|")
    for candidate in CANDIDATES:
        common = {
            (version, *where): line
            for (version, name, *where), line in lines.items()
            if name == candidate and (version, against, *where) in lines
        }
        if not common:
            continue
        newest = list(common)[-1][0]
        pairs = [
            (line, lines[version, against, *where])
            for (version, *where), line in common.items()
            if version == newest
        ]
        mixture, alone = (_by_set((a, b, form, form) for a, b in pairs) for form in FORMS)
        own = _by_set((a, a, "top_expert", "mixture") for a, _ in pairs)
        tasks = alone.groupby(lambda name: SETS[name].task).mean()
        cells = [
            _with_error(mixture),
            _with_error(alone),
            f"{(alone < 0).sum()} of {len(alone)} sets",
            *(_percent(tasks[task]) if task in tasks else "-" for task in TASKS),
            _with_error(own),
            _accuracy_lost([a for a, _ in pairs]),
            f"{geometric_mean(a['seconds'] / b['seconds'] for a, b in pairs):.2f}",
            str(len(pairs)),
        ]
        print(f"| {candidate} | " + " | ".join(cells) + " |")


def _by_set(pairs: Iterable[tuple[Line, Line, str, str]]) -> Any:
    """Mean of the log ratios of each set."""
    ratios = [(a["set"], math.log(a[form] / b[other])) for a, b, form, other in pairs]
    return pd.DataFrame(ratios, columns=["set", "ratio"]).groupby("set").ratio.mean()


def _accuracy_lost(lines: Iterable[Line]) -> str:
    """Points of accuracy that the top expert has less than its mixture: the mean over sets."""
    lost = pd.DataFrame(
        [
            (line["set"], 100 * (line["mixture_accuracy"] - line["top_expert_accuracy"]))
            for line in lines
            if line["mixture_accuracy"] is not None
        ],
        columns=["set", "points"],
    )
    sets = lost.groupby("set").points.mean()
    error = sets.std() / math.sqrt(len(sets)) if len(sets) > 1 else math.nan
    return f"{sets.mean():.2f} ± {error:.2f}"


def _with_error(values: Any) -> str:
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{_percent(values.mean())} ± {100 * error:.1f} %"


def _percent(value: float) -> str:
    return f"{100 * math.expm1(value):+.1f}"
