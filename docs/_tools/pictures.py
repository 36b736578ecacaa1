"""The pictures of the site that are drawn from committed results, or by hand in code.

``python docs/_tools/pictures.py`` draws those that README shows anew: `docs/_static/routing-*.svg`.
The others are drawn by every build.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import architecture

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "tabular.jsonl"
NOTEBOOK = ROOT / "notebooks" / "distil_an_ensemble.ipynb"

# Colours of a theme: text, lines, idle shapes, the shape that is lit, text in it, a second colour.
THEMES = {
    "light": ("#1f2328", "#59636e", "#e7ecf0", "#0b5cad", "#ffffff", "#b35900"),
    "dark": ("#e6edf3", "#9198a1", "#262c36", "#58a6ff", "#0d1117", "#f0a04b"),
}


def write(folder: Path) -> None:
    """Draw the pictures of the pages."""
    folder.mkdir(exist_ok=True)
    for theme, colours in THEMES.items():
        draw_latency(folder / f"latency-{theme}.svg", theme)
        drawn = architecture.draw(colours)
        (folder / f"architecture-{theme}.svg").write_text(drawn, encoding="utf-8")


def draw_routing(theme: str) -> str:
    """Rows, the gate and the experts, one of which is lit."""
    text, line, idle, lit, on_lit, _ = THEMES[theme]
    parts = []
    for row in range(4):
        chosen = row == 1
        fill, edge = (lit, lit) if chosen else (idle, line)
        parts.append(
            f'<rect x="16" y="{58 + 30 * row}" width="120" height="22" rx="4" fill="{fill}" '
            f'stroke="{edge}"/>'
        )
        colour = on_lit if chosen else line
        for cell in range(1, 4):
            x = 16 + 30 * cell
            parts.append(
                f'<path d="M{x} {58 + 30 * row}v22" stroke="{colour}" stroke-opacity="0.6"/>'
            )
    parts += [_arrow(142, 99, 204, 114, lit), _label(76, 42, "rows", text)]
    parts.append(
        f'<path d="M208 114l44-34l44 34l-44 34z" fill="{idle}" stroke="{lit}" stroke-width="2"/>'
    )
    parts.append(_label(252, 119, "gate", text))
    shares = (0.08, 0.81, 0.04, 0.07)
    for expert, share in enumerate(shares):
        y, chosen = 26 + 48 * expert, expert == 1
        fill, edge, inside = (lit, lit, on_lit) if chosen else (idle, line, text)
        parts.append(
            f'<rect x="392" y="{y}" width="132" height="36" rx="6" fill="{fill}" stroke="{edge}"/>'
        )
        parts.append(_label(442, y + 23, f"expert {expert}", inside, bold=chosen))
        parts.append(_label(502, y + 23, f"{share:.2f}", inside, 12, chosen))
        dash = "" if chosen else ' stroke-dasharray="3 4"'
        parts.append(_arrow(300, 114, 388, y + 18, lit if chosen else line, dash))
    parts += [_arrow(528, 92, 588, 106, lit), _label(458, 15, "experts and their weights", text)]
    parts.append(
        f'<rect x="592" y="92" width="112" height="36" rx="18" fill="none" stroke="{lit}" '
        'stroke-width="2"/>'
    )
    parts.append(_label(648, 115, "prediction", text))
    about = (
        "The gate gives each row a weight for every expert. Only the expert with the largest "
        "weight predicts the row."
    )
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 220" role="img" '
        f'aria-label="{about}" font-family="system-ui, sans-serif">'
    )
    return "\n".join([head, f"<title>{about}</title>", *parts, "</svg>"]) + "\n"


def _label(x: int, y: int, text: str, fill: str, size: int = 14, bold: bool = False) -> str:
    weight = ' font-weight="700"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" text-anchor="middle" font-size="{size}"{weight} fill="{fill}">'
        f"{text}</text>"
    )


def _arrow(x: int, y: int, to_x: int, to_y: int, colour: str, dash: str = "") -> str:
    width = 1.5 if dash else 2.5
    return (
        f'<path d="M{x} {y}L{to_x} {to_y}" stroke="{colour}" stroke-width="{width}"{dash}/>'
        f'<circle cx="{to_x}" cy="{to_y}" r="3" fill="{colour}"/>'
    )


def draw_latency(path: Path, theme: str) -> None:
    """Error against the time of one row: of votes and what they taught, and of the league."""
    import matplotlib
    from matplotlib.figure import Figure

    text, line, idle, lit, _, second = THEMES[theme]
    colours = {
        "text.color": text,
        "axes.edgecolor": line,
        "axes.labelcolor": text,
        "xtick.color": text,
        "ytick.color": text,
        "font.size": 9,
        "axes.titlesize": 10,
        "svg.hashsalt": "docs",
        "svg.fonttype": "path",
    }
    with matplotlib.rc_context(colours):
        # Narrow, so that its letters can be read on a phone.
        figure = Figure(figsize=(4.8, 11.2), layout="constrained")
        one, ten, many = figure.subplots(3, 1, height_ratios=(2, 2, 3))
        _scatter(one, notebook_points(), lit, second, idle)
        one.set(
            title="Flights: a vote of five models and what it taught",
            ylabel="RMSE (minutes)",
        )
        points, sets = vote_points()
        _scatter(ten, points, lit, second, idle)
        ten.set(
            title=f"{sets} tables: a vote of six models and what it taught",
            ylabel="error, against plain MoDE's (%)",
        )
        points, sets = league_points()
        _scatter(many, points, lit, second, idle)
        many.set(
            title=f"League: {sets} tables, libraries' defaults",
            ylabel="improvability (%; 0 is the best on every table)",
        )
        for axes in (one, ten, many):
            axes.set_xlabel("time of one row (µs, one thread, logarithmic)")
        figure.savefig(path, transparent=True, metadata={"Date": None})


def _scatter(axes: Any, points: list[tuple[str, float, float, bool]], *colours: str) -> None:
    """Points with their names beside them; ours are filled."""
    ours, others, grid = colours
    axes.set(xscale="log", facecolor="none")
    axes.grid(color=grid, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    values = [y for _, _, y, _ in points]
    # A line of text; the panels with few points are lower.
    space = (max(values) - min(values)) / (18 if len(points) > 8 else 12)
    lowest = min(values) - 4.5 * space
    axes.set_ylim(lowest - space, max(values) + space)
    # What a name must not cover, in powers of ten: the other points, and names that are written.
    taken = [(math.log10(x) - 0.08, math.log10(x) + 0.08, y) for _, x, y, _ in points]
    for name, x, y, is_ours in sorted(points, key=lambda point: point[2]):
        colour = ours if is_ours else others
        face = colour if is_ours else "none"
        marker = "o" if is_ours else "s"
        axes.scatter(x, y, s=45, marker=marker, facecolor=face, edgecolor=colour, zorder=3)
        start = math.log10(x) + 0.1
        end = start + 0.0625 * len(name)
        # The nearest height that is free, above or below.
        heights = (y + sign * step * space / 4 for step in range(99) for sign in (1, -1))
        height = next(
            each
            for each in heights
            if each > lowest
            and not any(
                abs(each - other) < space and start < right and left < end
                for left, right, other in taken
            )
        )
        taken.append((start, end, height))
        axes.annotate(
            name,
            (x, y),
            xytext=(10**start, height),
            textcoords="data",
            va="center",
            fontsize=9,
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.5,
                "relpos": (0, 0.5),
            }
            if height != y
            else None,
        )
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 16)


def notebook_points() -> list[tuple[str, float, float, bool]]:
    """Name, microseconds, error and whether it is ours, of what the notebook prints."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = [
        "".join(output["data"]["text/plain"])
        for cell in cells
        for output in cell.get("outputs", [])
        if "text/plain" in output.get("data", {})
    ]
    errors = _column(next(each for each in outputs if "RMSE" in each))
    times = _column(next(each for each in outputs if "1 row" in each))
    error_of = {
        "teacher, Python": "teacher",
        "teacher, ONNX": "teacher",
        "taught MoDE": "taught MoDE, top expert",
        "plain MoDE": "plain MoDE, top expert",
        "taught network": "taught network",
    }
    return [
        (name, times[name], errors[of], not name.startswith("teacher"))
        for name, of in error_of.items()
    ]


def _column(printed: str) -> dict[str, float]:
    """The first column of a printed table, by the names of its rows."""
    found = re.findall(r"^(\S.*?)\s{2,}(-?[\d.]+)", printed, re.MULTILINE)
    return {name: float(value) for name, value in found}


def vote_points() -> tuple[list[tuple[str, float, float, bool]], int]:
    """The same of the league's vote and its students, errors against an untaught top expert's."""
    from benchmarks.tabular import _results
    from benchmarks.tabular._league import League

    names = {
        "vote": "teacher, Python",
        "mode_vote_top_expert": "taught MoDE",
        "mlp_vote": "taught network",
        "mode_top_expert": "plain MoDE",
    }
    league = League(_results.read(RESULTS))
    errors = league.errors[list(names)].dropna()
    means = errors.groupby(level="set").mean()
    plain = means["mode_top_expert"]
    times = league.field("predict_microseconds").loc[errors.index].median()
    points = []
    for model, name in names.items():
        percent = 100 * math.expm1(means[model].div(plain).map(math.log).mean())
        points.append((name, times[model], percent, model != "vote"))
    return points, len(means)


def league_points() -> tuple[list[tuple[str, float, float, bool]], int]:
    """The same of each model of the league that met all tables, and the number of tables."""
    from benchmarks.tabular import _results
    from benchmarks.tabular._league import League
    from benchmarks.tabular._models import OURS, labels
    from benchmarks.tabular._statistics import improvability

    league = League(_results.read(RESULTS))
    models = league.models(slow=False)
    means = league.means(models)
    percent = 100 * improvability(means).mean()
    times = league.field("predict_microseconds").groupby(level="set").median().median()
    points = []
    for model in models:
        contender = _results.contender_of(model)
        is_ours = contender is not None and contender.module == OURS
        points.append((labels()[model], times[model], percent[model], is_ours))
    return points, len(means)


if __name__ == "__main__":
    for name in THEMES:
        target = ROOT / "docs" / "_static" / f"routing-{name}.svg"
        target.write_text(draw_routing(name), encoding="utf-8")
