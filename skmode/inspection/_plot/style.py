"""What all displays share: colours, markers, axes, legends, and the import of matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np

# Okabe and Ito's palette, whose colours colour-blind readers can tell apart, without its yellow,
# which is too pale for points. Markers and dashes say the same for readers without colour.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#8C8C8C")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))

# Longest name of a column in a picture, in characters.
MAX_NAME_LENGTH = 40

METRIC_LABELS = {
    "accuracy": "accuracy (share of rows)",
    "log_loss": "log loss (nats)",
    "rmse": "root mean squared error (units of y)",
}


def pyplot() -> Any:
    """Import matplotlib's pyplot, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays need matplotlib, which is not installed: run `pip install matplotlib`"
            " or install skmode with its extra `plot`."
        ) from error
    return plt


def make_axes(ax: Any, n_axes: int, *, size: tuple[float, float]) -> Any:
    """Return the given axes, one or `n_axes`, or new ones below one another."""
    if ax is None:
        _, axes = pyplot().subplots(
            n_axes, 1, figsize=size, sharex=True, squeeze=False, layout="constrained"
        )
        return axes[:, 0]
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(axes) not in {1, n_axes}:
        raise ValueError(
            f"ax must be one Axes or {n_axes} of them, got {len(axes)}: pass one, {n_axes} or None."
        )
    return axes


def single_axes(ax: Any, *, size: tuple[float, float]) -> Any:
    """Return the given Axes, or a new one."""
    if ax is None:
        _, ax = pyplot().subplots(figsize=size, layout="constrained")
    return ax


def style(index: int) -> dict[str, Any]:
    """Return colour and marker of one of many; the first 88 combinations all differ."""
    return {"color": COLORS[index % len(COLORS)], "marker": MARKERS[index % len(MARKERS)]}


def check_number(name: str, value: Any, least: int) -> None:
    """Raise a ValueError unless a parameter is None or a whole number of at least `least`."""
    if value is not None and not (isinstance(value, int | np.integer) and value >= least):
        raise ValueError(
            f"{name} must be a whole number of at least {least}, got {value!r}: raise it, or pass "
            "None."
        )


def percent(share: float) -> str:
    """Write a share as whole per cent, where "none" means no row at all."""
    if share == 0:
        return "none"
    return "<1 %" if share < 0.005 else f"{100 * share:.0f} %"


def makes_room(ax: Any) -> bool:
    """Whether the figure's layout leaves room for legends beside the axes."""
    return ax.figure.get_layout_engine() is not None


def legend(ax: Any, *, beside: bool = False, **options: Any) -> None:
    """Add a legend, outside of the axes if there is room for it, inside otherwise."""
    options |= {"frameon": False}
    if not makes_room(ax):
        _legend_inside(ax, options)
    elif beside:
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        ax.legend(fontsize="small", **place, **options)
    else:
        # Labels take room beside the axes, so a legend may be somewhat wider than these.
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
        _legend_as_wide_as(1.2 * ax.bbox.width, ax, "small", **place, **options)


def _legend_inside(ax: Any, options: dict[str, Any]) -> None:
    """Put the legend at the top of the axes, and raise their limit so that it hides nothing."""
    place = {"loc": "upper center", "borderaxespad": 0.2}
    made = _legend_as_wide_as(ax.bbox.width, ax, "x-small", **place, **options)
    share = min(made.get_window_extent().height / ax.bbox.height + 0.03, 0.7)
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    ax.set_ylim(low, low + (high - low) / (1 - share))
    ax.set_yticks(ticks)


def _legend_as_wide_as(width: float, ax: Any, size: str, **options: Any) -> Any:
    """Make a legend with as few rows as a width in pixels allows."""
    count = len(ax.get_legend_handles_labels()[1])
    for rows in range(1, count + 1):
        made = ax.legend(ncols=-(-count // rows), fontsize=size, title_fontsize=size, **options)
        if made.get_window_extent().width <= width:
            break
    return made


def tidy(ax: Any) -> None:
    """Remove the top and right spines, which carry no information."""
    ax.spines[["top", "right"]].set_visible(False)


def spread(values: Any, distance: float) -> Any:
    """Move labels apart that would overlap, as little as possible and keeping their order."""
    values = np.asarray(values, dtype=float)
    order = np.argsort(values, kind="stable")
    # A cluster is the place of its first label, and the values of all its labels.
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
