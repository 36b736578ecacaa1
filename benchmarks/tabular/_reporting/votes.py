"""The part of the report on a vote and what it teaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from benchmarks.tabular._league import League, top_expert
from benchmarks.tabular._models import REFERENCE, VOTE, contenders
from benchmarks.tabular._reporting.markdown import difference, interval, name_of, number, table
from benchmarks.tabular._sets import TEST_SHARE
from benchmarks.tabular._statistics import (
    holm,
    p_of_losses,
    ratio_of_means,
    relative_difference,
)

# What students are to better.
PLAIN = top_expert(REFERENCE)


def voted(league: League) -> Iterator[str]:
    """Yield the vote, its students and the same models without a teacher."""
    voted = [name for c in contenders().values() if c.speed == "voted" for name in c.names]
    models = [*voted, PLAIN, REFERENCE]
    errors = league.errors[models].dropna()
    if errors.empty:
        return
    leads = _leads(errors)
    significant = holm(p_of_losses(errors[[PLAIN, VOTE]], TEST_SHARE))
    yield "## Taught by a vote"
    yield ""
    yield (
        "The vote is the mean of CatBoost, LightGBM and four networks of an expert's size; its "
        "students learn from its predictions on rows that it was not fitted on. "
        f"{_splits(errors)} of {errors.index.get_level_values('set').nunique()} sets. *Error* "
        f"is the mean difference of the logarithms to *{name_of(PLAIN)}*, which has no teacher. "
        "*Lead kept* is how much smaller than this one's the error of a model is, over how much "
        "smaller the vote's is, "
        f"both as shares of this one's and on the mean of the {len(leads)} sets on which the vote "
        f"is better on each split ({', '.join(leads.index) or 'none'}). On "
        f"{', '.join(significant) or 'none of them'} the vote is significantly better (corrected "
        "resampled t-test, Holm's correction). To fit takes processor seconds, a student's with "
        "those of its teacher, except those of the one network, for which the teacher is there. "
        "The other columns are explained above."
    )
    yield ""
    yield from table(_rows(league, errors, leads))
    yield ""


def _splits(errors: pd.DataFrame) -> str:
    """How many splits of each set there are, such as "First 3 splits"."""
    counts = errors.groupby(level="set").size()
    least, most = int(counts.min()), int(counts.max())
    number = f"{most}" if least == most else f"{least} to {most}"
    return "First split" if most == 1 else f"First {number} splits"


def _leads(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean errors of the sets on which the vote is better than the plain model on each split."""
    better = (errors[VOTE] < errors[PLAIN]).groupby(level="set", sort=False).all()
    means = errors.groupby(level="set", sort=False).mean()
    return means[better.loc[means.index]]


def _rows(league: League, errors: pd.DataFrame, leads: pd.DataFrame) -> Iterator[Sequence[str]]:
    yield ("model", "error (%)", "lead kept", "fit (s)", "1 row (µs)", "size (kB)")
    means = errors.groupby(level="set", sort=False).mean()
    cost = {
        name: league.field(name).loc[errors.index].median()
        for name in ("fit_cpu_seconds", "predict_microseconds", "onnx_bytes", "model_bytes")
    }
    size = cost["onnx_bytes"].fillna(cost["model_bytes"])
    gained = 1 - leads.div(leads[PLAIN], axis=0)
    for model in errors:
        kept = ratio_of_means(gained[model], gained[VOTE]) if len(leads) else None
        yield (
            name_of(model),
            "" if model == PLAIN else difference(relative_difference(means[model], means[PLAIN])),
            "" if kept is None or model in (PLAIN, VOTE) else interval(kept, 2),
            number(cost["fit_cpu_seconds"][model]),
            number(cost["predict_microseconds"][model]),
            number(size[model] / 1000),
        )
