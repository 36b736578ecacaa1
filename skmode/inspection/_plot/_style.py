"""What the pictures share: colours, markers, labels, and where matplotlib comes from."""

from __future__ import annotations

from typing import Any

import numpy as np

# Okabe and Ito's palette, which colour-blind readers tell apart, without its yellow, which is too
# pale for points. Markers and dashes say the same again for readers without colour.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#8C8C8C")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))

# Longest name of a column in a picture, in letters.
NAME_LENGTH = 40

METRIC_LABELS = {
    "accuracy": "accuracy (share of rows)",
    "log_loss": "log loss (nats)",
    "rmse": "root mean squared error (units of y)",
}


def pyplot() -> Any:
    """Matplotlib's pyplot."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn by matplotlib, which is not installed: run `pip install matplotlib`"
            " or install skmode with its extra `plot`."
        ) from error
    return plt


def make_axes(ax: Any, n_axes: int, *, size: tuple[float, float]) -> Any:
    """Axes to draw on: those given, or new ones below one another."""
    if ax is None:
        _, axes = pyplot().subplots(
            n_axes, 1, figsize=size, sharex=True, squeeze=False, layout="constrained"
        )
        return axes[:, 0]
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(axes) not in {1, n_axes}:
        raise ValueError(
            f"ax must be one Axes or {n_axes} of them, got {len(axes)}: pass as many, or None."
        )
    return axes


def single_axes(ax: Any, *, size: tuple[float, float]) -> Any:
    """One Axes to draw on: that given, or a new one."""
    if ax is None:
        _, ax = pyplot().subplots(figsize=size, layout="constrained")
    return ax


def style(index: int) -> dict[str, Any]:
    """Colour and marker of a thing; two do not look the same before there are 88 of them."""
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def check_number(name: str, value: Any, least: int) -> None:
    """Raise a ValueError unless a parameter is None or a whole number that is large enough."""
    if value is not None and not (isinstance(value, int | np.integer) and value >= least):
        raise ValueError(
            f"{name} must be a whole number of at least {least}, got {value!r}: raise it, or pass "
            "None."
        )


def percent(share: float) -> str:
    """A share as whole per cent, in which few rows are not none."""
    if share == 0:
        return "none"
    return "<1 %" if share < 0.005 else f"{100 * share:.0f} %"


def makes_room(ax: Any) -> bool:
    """Whether the figure is laid out so that what stands beside the axes is not cut off."""
    return ax.figure.get_layout_engine() is not None


def legend(ax: Any, *, beside: bool = False, **options: Any) -> None:
    """Say what is drawn: outside of the axes where there is room for it, inside otherwise."""
    options |= {"frameon": False}
    if not makes_room(ax):
        _legend_inside(ax, options)
    elif beside:
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        ax.legend(fontsize="small", **place, **options)
    else:
        # What the axes are given is a part of the room, the rest of which labels take.
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
        _legend_as_wide_as(1.2 * ax.bbox.width, ax, "small", **place, **options)


def _legend_inside(ax: Any, options: dict[str, Any]) -> None:
    """At the top of the axes, which get higher by as much, so that nothing lies behind it."""
    place = {"loc": "upper center", "borderaxespad": 0.2}
    made = _legend_as_wide_as(ax.bbox.width, ax, "x-small", **place, **options)
    share = min(made.get_window_extent().height / ax.bbox.height + 0.03, 0.7)
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    ax.set_ylim(low, low + (high - low) / (1 - share))
    ax.set_yticks(ticks)


def _legend_as_wide_as(width: float, ax: Any, size: str, **options: Any) -> Any:
    """A legend of as few rows as a width in pixels allows."""
    count = len(ax.get_legend_handles_labels()[1])
    for rows in range(1, count + 1):
        made = ax.legend(ncols=-(-count // rows), fontsize=size, title_fontsize=size, **options)
        if made.get_window_extent().width <= width:
            break
    return made


def tidy(ax: Any) -> None:
    """Take away what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)


def spread(values: Any, distance: float) -> Any:
    """Move labels apart that would overlap, in order, as little as needed around their middle."""
    values = np.asarray(values, dtype=float)
    order = np.argsort(values, kind="stable")
    # Each cluster is a list of labels and the place of its first one.
    clusters: list[tuple[float, list[float]]] = []
    for value in values[order]:
        members = [value]
        start = value
        while clusters and clusters[-1][0] + len(clusters[-1][1]) * distance > start:
            members = clusters.pop()[1] + members
            start = float(np.mean(members)) - (len(members) - 1) * distance / 2
        clusters.append((start, members))
    places = np.empty_like(values)
    places[order] = np.concatenate(
        [start + distance * np.arange(len(members)) for start, members in clusters]
    )
    return places
