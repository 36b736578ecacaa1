"""Pictures of a report: drawn by the displays, embedded as SVG."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from skmode._common.quiet import hide_warnings
from skmode._common.sklearn import safe_indexing
from skmode.inspection._attention.saliency import has_gradients, measure_saliency, typical_images
from skmode.inspection._evaluation import mixtures
from skmode.inspection._plot.history import GateHistoryDisplay
from skmode.inspection._plot.images import draw_saliency, draw_typical, read_images
from skmode.inspection._plot.labels import label
from skmode.inspection._plot.probing import ExpertProbingDisplay
from skmode.inspection._plot.routing import RoutingMapDisplay
from skmode.inspection._report import formatting
from skmode.inspection._report.facts import Columns, Facts
from skmode.inspection._report.formatting import count, quoted, sentence_case
from skmode.inspection._report.measuring import describe_columns

# Points of the map; more would make the page slow.
MAP_SAMPLES = 800

# Rows and different values that columns need to be an axis of the map.
MAP_ROWS = 10
MAP_VALUES = 5

# Images of each expert, inches of an image, and points on the line of integrated gradients.
TYPICAL_IMAGES = 6
IMAGE_SIZE = 1.2
SALIENCY_STEPS = 32

SIDES = ("width", "height")

STYLE: dict[Any, Any] = {
    # Text stays text, which the browser draws in the right script; names are not formulas.
    "svg.fonttype": "none",
    "svg.hashsalt": "skmode",
    "text.parse_math": False,
    "text.usetex": False,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 11.0,
}


# One report at a time: matplotlib's settings are those of the process.
_DRAWING = threading.Lock()


class Picture(NamedTuple):
    """One picture."""

    source: str  # a data URL
    width: int  # in CSS pixels
    height: int
    alternative: str  # read out where the picture cannot be seen
    caption: str


class Pictures(NamedTuple):
    """All pictures of a report."""

    probing: Picture
    history: Picture | None
    map: Picture | None
    no_map: str  # why there is no map
    typical: Picture | None = None  # for models of images, in the place of the map
    saliency: Picture | None = None


def require_matplotlib() -> None:
    """Raise an ImportError before the work, not after it, if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The report needs matplotlib, which is not installed: run `pip install matplotlib`"
            " or install skmode with its extra `report`."
        ) from error


def all_pictures(facts: Facts) -> Pictures:
    """Draw all pictures; this imports matplotlib, and leaves its settings as they are."""
    from matplotlib import rc_context, rcdefaults

    with _DRAWING, rc_context(), hide_warnings("Glyph .* missing from"):
        rcdefaults()  # the report looks the same whatever the user's settings
        with rc_context(STYLE):
            typical, saliency = _images(facts)
            drawn, reason = (None, "") if typical else _map(facts)
            return Pictures(_probing(facts), _history(facts), drawn, reason, typical, saliency)


def _probing(facts: Facts) -> Picture:
    width = max(4.6, 2.0 + 0.5 * facts.n_experts)
    display = ExpertProbingDisplay(facts.probing)

    def plot(ax: Any) -> None:
        display.plot(ax)
        _legend_on_top(ax)

    source, size = _draw(plot, size=(width, 4.4))
    return Picture(
        source,
        *size,
        f"{sentence_case(facts.metric)} of each expert alone on its own rows and elsewhere, and of "
        "the mixture; the table of the experts has the figures.",
        f"{sentence_case(facts.metric)} of each expert alone, on its own rows and on all others, "
        "and of the mixture.",
    )


def _history(facts: Facts) -> Picture | None:
    if facts.history is None:
        return None
    display = GateHistoryDisplay(facts.history)

    def plot(axes: Any) -> None:
        display.plot(axes)
        for ax in axes[1:]:
            # Above the axes: beside them it would take half of a narrow page.
            ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0))

    source, size = _draw(plot, size=(4.6, 7.6), n_axes=3)
    return Picture(
        source,
        *size,
        "Three charts over the epochs of the training: the share of the rows of each expert, "
        "entropies, and scores; the table beside them has the first, a middle and the last epoch.",
        "The training, epoch by epoch: the rows of each expert, how undecided the gate is, and the "
        "scores that result.",
    )


def _map(facts: Facts) -> tuple[Picture | None, str]:
    """Draw a map of two columns that matter to the gate, or say why there is none."""
    if mixtures.reads_texts(facts.mixture):
        return None, "There is no map, because texts have no columns."
    columns = describe_columns(facts.X)
    axes = map_axes(columns, facts.attention.importances["gate"].to_numpy())
    if axes is None:
        return None, (
            f"There is no map: it needs two columns of numbers, each with at least {MAP_VALUES} "
            f"different values, and at least {MAP_ROWS} rows where neither is missing."
        )
    missing = columns.missing[:, list(axes)].any(axis=1)
    rows, weight = facts.X, facts.part_weight[~missing]
    if missing.any():
        rows = safe_indexing(rows, np.flatnonzero(~missing))
    names = [columns.names[i] for i in axes]

    def plot(ax: Any) -> None:
        RoutingMapDisplay.from_estimator(
            facts.estimator,
            rows,
            features=names if columns.is_table else list(axes),
            sample_weight=weight,
            max_samples=MAP_SAMPLES,
            random_state=0,
            ax=ax,
        )
        _legend_on_top(ax, markerscale=1.5, ncols=5, title=ax.get_legend().get_title().get_text())

    try:
        source, size = _draw(plot, size=(4.6, 4.4 + 0.2 * (facts.n_experts // 5)))
    except (TypeError, ValueError) as error:
        return None, f"There is no map: {label(error, 300)}"
    one, other = (quoted(name) for name in names)
    shown = min(MAP_SAMPLES, int((weight > 0).sum()))
    left_out = int((facts.part_weight[missing] > 0).sum())
    others = len(columns.names) > 2
    ground = (
        "the gate's choice on average over the other columns, so a row may lie in another expert's "
        "region"
        if others
        else "the gate's choice"
    )
    caption = (
        f"{count(shown, 'row')} by {one} and {other}, the two columns of numbers that "
        f"matter most to the gate, each marked by its top expert. Shades and lines: {ground}."
    )
    if facts.weighted:
        caption += " Shares count rows by their weights."
    if left_out:
        caption += f" {count(left_out, 'row')} without one of the two are not shown."
    return Picture(
        source, *size, f"Scatter plot of rows by {one} and {other}, marked by expert.", caption
    ), ""


def _images(facts: Facts) -> tuple[Picture | None, Picture | None]:
    """Draw typical images of each expert, and what it and the gate look at in the first of them."""
    mixture, rows = mixtures.unwrap(facts.estimator, facts.X)
    if not mixtures.reads_images(mixture):
        return None, None
    chosen = typical_images(mixture, rows, TYPICAL_IMAGES)
    encoder = mixture.encoder_
    images = [read_images(mixture, rows, each) for each in chosen]
    columns = max(map(len, images))
    source, size = _draw_figure(
        lambda figure: draw_typical(figure, images, (encoder.height_, encoder.width_)),
        size=(IMAGE_SIZE * columns, IMAGE_SIZE * len(images)),
    )
    typical = Picture(
        source,
        *size,
        "A row of images for each expert, the surest one first.",
        f"Of each expert up to {TYPICAL_IMAGES} images, those of which the gate is surest.",
    )
    first = np.concatenate([each[:1] for each in images if len(each)])
    if not has_gradients(mixture, first[:1]):
        return typical, None
    saliency = measure_saliency(mixture, first, SALIENCY_STEPS)
    source, size = _draw_figure(
        lambda figure: draw_saliency(figure, saliency),
        size=(3 * IMAGE_SIZE, (IMAGE_SIZE + 0.3) * len(first)),
    )
    error = formatting.number(saliency.completeness_error, 2)
    return typical, Picture(
        source,
        *size,
        "For each expert an image, and maps of what its expert and the gate look at.",
        "The most typical image of each expert. Pixels that raise the output of the expert, or the "
        "gate's weight of it, are red, those that lower it are blue (integrated gradients; they "
        f"add up to the output, with an error of at most {error}; unit: {saliency.unit}).",
    )


def map_axes(columns: Columns, importance: Any) -> tuple[int, int] | None:
    """Choose the two columns of numbers that matter most to the gate, by position."""
    usable = np.flatnonzero(columns.numeric & (columns.distinct >= MAP_VALUES))
    order = usable[np.argsort(-importance[usable], kind="stable")]
    for n_first, first in enumerate(order):
        for second in order[n_first + 1 :]:
            known = ~columns.missing[:, [first, second]].any(axis=1)
            if known.sum() >= MAP_ROWS:
                return int(first), int(second)
    return None


def _legend_on_top(ax: Any, *, ncols: int = 2, **options: Any) -> None:
    """Put the legend above the whole picture, where it takes no width from the chart."""
    handles, labels = ax.get_legend_handles_labels()
    ax.get_legend().remove()
    ax.figure.legend(
        handles,
        labels,
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        alignment="left",
        ncols=ncols,
        columnspacing=1.0,
        loc="outside upper left",
        **options,
    )


def _draw(
    plot: Callable[[Any], Any], *, size: tuple[float, float], n_axes: int = 1
) -> tuple[str, tuple[int, int]]:
    """Draw on new axes; return a data URL, and width and height in CSS pixels."""

    def plot_axes(figure: Any) -> None:
        axes = figure.subplots(n_axes, 1, sharex=True, squeeze=False)[:, 0]
        plot(axes if n_axes > 1 else axes[0])

    return _draw_figure(plot_axes, size=size)


def _draw_figure(
    plot: Callable[[Any], Any], *, size: tuple[float, float]
) -> tuple[str, tuple[int, int]]:
    """Draw on a new figure, without axes yet; return as `_draw` does."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    plot(figure)
    file = io.BytesIO()
    figure.savefig(
        file,
        format="svg",
        bbox_inches="tight",  # a legend may be wider than the figure
        pad_inches=0.05,
        metadata={"Date": None, "Creator": None},
    )
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    root = ElementTree.fromstring(file.getvalue())
    width, height = (round(float(root.get(side, "").removesuffix("pt")) * 4 / 3) for side in SIDES)
    return f"data:image/svg+xml;base64,{encoded}", (width, height)
