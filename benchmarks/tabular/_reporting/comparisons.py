"""The parts of the report that compare two models at a time, and what one row costs as ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from benchmarks.tabular._league import League, top_expert
from benchmarks.tabular._models import REFERENCE, TAUGHT, TUNED, contenders
from benchmarks.tabular._reporting.markdown import difference, name_of, number, table
from benchmarks.tabular._sets import TEST_SHARE
from benchmarks.tabular._statistics import (
    holm,
    improvability,
    p_of_losses,
    rank,
    relative_difference,
    wins_ties_losses,
)

# What the top expert of the taught mixture is compared with, in pairs.
PAIRED = top_expert(TAUGHT)
OTHERS = (
    "mlp_ensemble",
    top_expert(REFERENCE),
    top_expert("mode_alpha_0"),
    "mlp_small",
    "mlp_taught",
    TAUGHT,
)


def pairs(league: League) -> Iterator[str]:
    """Yield the taught top expert against each of the others."""
    measured = league.models(slow=False)
    others = [model for model in OTHERS if model in measured]
    if PAIRED not in measured or not others:
        return
    yield "## One taught expert"
    yield ""
    yield (
        f"The errors of *{name_of(PAIRED)}*, which predicts by one network per row, against those "
        "of others, set by set: mean difference of the logarithms, in percent, with its standard "
        "error over sets (below 0, the taught expert is better); the same without the set that "
        "differs most, since one set can make the mean; sets that it wins, ties and "
        "loses; sets on which it is significantly better and worse over the splits (corrected "
        "resampled t-test, Holm's correction over the sets)."
    )
    yield ""
    rows = [_pair(league, model) for model in others]
    head = ("against", "sets", "%", "% without", "wins / ties / losses", "better / worse")
    yield from table([head, *rows])
    yield ""


def _pair(league: League, model: str) -> Sequence[str]:
    means = league.means([PAIRED, model])
    ours, theirs = means[PAIRED], means[model]
    ratios = np.log(ours / theirs).abs().replace(np.inf, np.nan)
    most = str(ratios.idxmax())
    others = means.index != most
    without = difference(relative_difference(ours[others], theirs[others]))
    losses = holm(p_of_losses(league.errors[[PAIRED, model]], TEST_SHARE))
    gains = holm(p_of_losses(league.errors[[model, PAIRED]], TEST_SHARE))
    return (
        name_of(model),
        str(len(means)),
        difference(relative_difference(ours, theirs)),
        f"{without} ({most})",
        " / ".join(map(str, wins_ties_losses(ours, theirs))),
        f"{len(gains)} / {len(losses)}",
    )


def tuned(league: League) -> Iterator[str]:
    """Yield the tuned models beside their defaults."""
    names = [
        name
        for contender in contenders().values()
        if contender.speed == "tuned"
        for name in contender.names
        if league.errors[name].notna().any()
    ]
    if not names:
        return
    defaults = {name: name.replace(TUNED, "") for name in names}
    errors = league.first_split()[[*names, *defaults.values()]].dropna()
    means = errors.groupby(level=0, sort=False).mean()
    yield "## Tuned"
    yield ""
    yield (
        "Random search on the training part, 30 trials or five minutes of processor time for each, "
        "whichever comes first: cross-validation by the set's metric, on 5 folds or as many as "
        "leave time for all trials, then a fit to all rows of the part. Boosted trees draw from "
        "TabArena's spaces and stop early, which chooses the number of trees; the space of MoDE "
        "stands beside theirs in `benchmarks/tabular/_models/spaces.py`. First split of "
        f"{len(means)} sets ({', '.join(means.index) or 'none that all have finished'}); ranks "
        "and improvability are among the models of this table."
    )
    yield ""
    if len(means):
        yield from table(_tuned_rows(league, means, defaults))
        yield ""


def _tuned_rows(
    league: League, means: pd.DataFrame, defaults: dict[str, str]
) -> Iterator[Sequence[str]]:
    yield (
        "model",
        "mean rank: default",
        "tuned",
        "improvability (%): default",
        "tuned",
        "error, tuned against default (%)",
        "tuned wins / ties / loses",
        "trials",
        "search (s)",
    )
    ranks, improvable = rank(means).mean(), 100 * improvability(means).mean()
    trials, seconds = (
        league.field(name).groupby(level=0).first().loc[means.index].median()
        for name in ("trials", "fit_cpu_seconds")
    )
    for name in sorted(defaults, key=lambda name: ranks[name]):
        default = defaults[name]
        yield (
            name_of(default),
            f"{ranks[default]:.2f}",
            f"{ranks[name]:.2f}",
            f"{improvable[default]:.1f}",
            f"{improvable[name]:.1f}",
            difference(relative_difference(means[name], means[default])),
            " / ".join(map(str, wins_ties_losses(means[name], means[default]))),
            number(trials[name]),
            number(seconds[name]),
        )


def one_row(latency: League) -> pd.Series:
    """Return the median time of one row as ONNX, over the sets that all exported models share."""
    times = _times(latency)
    return times.dropna().median()


def _times(latency: League, field: str = "onnx_microseconds") -> pd.DataFrame:
    """A row per set, a column per model that is exported on some."""
    times = latency.field(field).groupby(level=0, sort=False).mean()
    return times.loc[:, times.notna().any()]


def onnx(latency: League) -> Iterator[str]:
    """Yield what one row costs as ONNX."""
    times = _times(latency)
    if times.empty:
        return
    shared = list(times.dropna().index)
    yield "## One row as ONNX"
    yield ""
    yield (
        "Microseconds to predict one row with onnxruntime and one thread, from numbers in memory "
        "(`python -m benchmarks.tabular latency`; first split): an array of all columns where all "
        "are numbers, otherwise one per column. *Median* is over the sets that all exported models "
        f"share ({', '.join(shared) or 'none'}); so are the size and the time through Python, from "
        "an array for skmode and a DataFrame for others. *Difference* is the largest between the "
        "two predictions on any set: of a probability, or of a value as a share of the target's "
        "standard deviation."
    )
    yield ""
    yield from table(_onnx_rows(latency, times, shared))
    yield ""
    for reason, where in _not_exported(latency).items():
        yield f"- Not exported: {reason} ({'; '.join(where)})."
    yield "- RealMLP and TabM have no export to ONNX."
    yield ""


def _onnx_rows(
    latency: League, times: pd.DataFrame, shared: Sequence[str]
) -> Iterator[Sequence[str]]:
    yield ("model", "median", *times.index, "through Python", "size (kB)", "difference")
    python, sizes, differences = (
        _times(latency, field) for field in ("python_microseconds", "onnx_bytes", "onnx_difference")
    )
    medians = times.loc[shared].median()
    for model in medians.sort_values(kind="stable").index:
        yield (
            name_of(model),
            number(medians[model], "-"),
            *(number(time, "-") for time in times[model]),
            number(python.loc[shared, model].median(), "-"),
            number(sizes.loc[shared, model].median() / 1000, "-"),
            f"{differences[model].max():.0e}",
        )


def _not_exported(latency: League) -> dict[str, list[str]]:
    """Models and sets by the reason."""
    found: dict[str, dict[str, list[str]]] = {}
    for record in latency.records:
        if reason := record.get("not_exported", record.get("error")):
            models = found.setdefault(" ".join(reason.split()), {})
            models.setdefault(name_of(record["model"]), []).append(record["set"])
    return {
        reason: [f"{model} on {', '.join(sets)}" for model, sets in models.items()]
        for reason, models in found.items()
    }
