"""The figures of the report, readable without colours."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.tabular._models import OURS, labels
from benchmarks.tabular._results import contender_of
from benchmarks.tabular._statistics import cliques, critical_difference

# Of Okabe and Ito's palette, which the colour-blind can tell apart; in grey, dark against lighter.
OUR_COLOUR, PEER_COLOUR = "#0072B2", "#D55E00"
POINTS_PER_INCH = 72
# From a point to the left end of its name.
LINE = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.6, "relpos": (0, 0.5)}
# Of the names beside points: their size, and how far from the point they begin.
NAME_SIZE, GAP = 8.5, 8.0
# Left, bottom, right, top.
Box = tuple[float, float, float, float]


def draw_ranks(ranks: pd.DataFrame, path: Path) -> None:
    """Draw the critical-difference plot (Demsar 2006).

    Parameters
    ----------
    ranks : DataFrame
        A row per set, a column per model.
    path : Path
        Where to write it; the suffix is the format.
    """
    means = ranks.mean().sort_values(kind="stable")
    difference = critical_difference(max(len(means), 2), len(ranks))
    groups = cliques(list(means), difference)
    half = (len(means) + 1) // 2
    depth = 0.6 + 0.35 * len(groups)  # of the labels below the axis, to leave room for the groups
    figure = Figure(figsize=(9, 1.4 + 0.32 * (half + len(groups))), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(1, max(len(means), 2)), ylim=(-depth - half, 2.2))
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    axes.spines["top"].set_position(("data", 0))
    axes.xaxis.set_ticks_position("top")
    axes.xaxis.set_label_position("top")
    axes.set_yticks([])
    axes.set_xticks(range(1, len(means) + 1))
    axes.set_xlabel(
        f"mean rank over {len(ranks)} sets (1 is the best; skmode's networks in bold)", labelpad=8
    )
    _draw_labels(axes, means, depth, half)
    for row, (first, last) in enumerate(groups):
        y = -0.4 - 0.35 * row
        axes.plot(
            means.iloc[[first, last]], [y, y], color="black", linewidth=4, solid_capstyle="round"
        )
    y = 1.7
    axes.plot([1, 1 + difference], [y, y], color="black", linewidth=1.5, marker="|", clip_on=False)
    said = f"critical difference {difference:.2f}; bars join what Nemenyi's test cannot tell apart"
    axes.text(1, y + 0.25, said, fontsize=9, va="bottom")
    _save(figure, path)


def _draw_labels(axes: Axes, means: pd.Series, depth: float, half: int) -> None:
    """Names at both sides, the better half to the left, each with a line to its mean rank."""
    low, high = axes.get_xlim()
    for position, (model, value) in enumerate(means.items()):
        left = position < half
        row = position if left else len(means) - 1 - position
        y, edge = -depth - row, low if left else high
        axes.plot([value, value, edge], [0, y, y], color="black", linewidth=0.8, clip_on=False)
        text = f"{labels()[model]}  {value:.2f}" if left else f"{value:.2f}  {labels()[model]}"
        axes.annotate(
            text,
            (edge, y),
            xytext=(-5 if left else 5, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=9,
            fontweight="bold" if _is_ours(model) else "normal",
            annotation_clip=False,
        )


def draw_latency(improvability: pd.Series, microseconds: pd.Series, path: Path) -> None:
    """Draw improvability against the time of one row.

    Parameters
    ----------
    improvability : Series
        Mean per model, in percent.
    microseconds : Series
        Per model.
    path : Path
        Where to write it; the suffix is the format.
    """
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    known = microseconds[microseconds > 0].index
    for ours, marker, face in ((True, "o", OUR_COLOUR), (False, "s", "white")):
        models = [model for model in known if _is_ours(model) == ours]
        axes.scatter(
            microseconds[models],
            improvability[models],
            marker=marker,
            s=45,
            facecolor=face,
            edgecolor=OUR_COLOUR if ours else PEER_COLOUR,
            linewidth=1.5,
            zorder=3,
            label="skmode, exported to ONNX, from arrays"
            if ours
            else "others, through Python, from a DataFrame",
        )
    axes.set_xscale("log")
    axes.set_xlabel("time to answer one row (microseconds, one thread, median over sets)")
    axes.set_ylabel("improvability (%, mean over sets; 0 is the best on every set)")
    axes.grid(which="major", color="0.88", linewidth=0.6)
    axes.margins(x=0.25, y=0.08)
    axes.legend(frameon=False)
    _name_points(figure, axes, microseconds[known], improvability[known])
    _save(figure, path)


def _name_points(figure: Figure, axes: Axes, x: pd.Series, y: pd.Series) -> None:
    """Names beside the points; those that would cover others move up and get a line."""
    FigureCanvasAgg(figure).draw()  # positions are known once the layout is
    scale = POINTS_PER_INCH / figure.dpi
    places = axes.transData.transform([*zip(x, y, strict=True)]) * scale
    points = dict(zip(x.index, map(tuple, places), strict=True))
    taken: list[Box] = []
    for model in y.sort_values(kind="stable").index:
        others = [_around(*point) for name, point in points.items() if name != model]
        left, height = points[model]
        box = _box_of_name(labels()[model], left, height)
        while any(_overlap(box, other) for other in [*taken, *others]):
            height += 1
            box = _box_of_name(labels()[model], left, height)
        taken.append(box)
        moved = height - points[model][1] > 2
        axes.annotate(
            labels()[model],
            (x[model], y[model]),
            xytext=(GAP, height - points[model][1]),
            textcoords="offset points",
            va="center",
            fontsize=NAME_SIZE,
            fontweight="bold" if _is_ours(model) else "normal",
            arrowprops=LINE if moved else None,
        )


def _box_of_name(name: str, left: float, height: float) -> Box:
    """Where a name stands, roughly: letters are about two thirds as wide as they are high."""
    start = left + GAP
    return (
        start,
        height - 0.65 * NAME_SIZE,
        start + 0.66 * NAME_SIZE * len(name),
        height + 0.65 * NAME_SIZE,
    )


def _around(left: float, height: float) -> Box:
    return left - 4, height - 4, left + 4, height + 4


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _is_ours(model: str) -> bool:
    contender = contender_of(model)
    return contender is not None and contender.module == OURS


def _save(figure: Figure, path: Path) -> None:
    """The same results give the same file."""
    with matplotlib.rc_context({"svg.hashsalt": "league"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
