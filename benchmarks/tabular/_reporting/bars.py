"""The bars that the mixture is held to, each computed from the results: passed or missed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks._timing import word
from benchmarks.tabular._league import League, top_expert
from benchmarks.tabular._models import REFERENCE, TAUGHT, labels
from benchmarks.tabular._sets import CHOSE_NO_DEFAULTS, TEST_SHARE
from benchmarks.tabular._statistics import (
    Interval,
    bootstrap,
    common_mean,
    holm,
    p_of_losses,
    rank,
    relative_difference,
)

# Who decides whether the mixture is ahead of everyone's defaults.
RIVALS = (
    "catboost",
    "lightgbm",
    "xgboost",
    "hist_gradient_boosting",
    "random_forest",
    "mlp",
    "realmlp_td_s",
)
# What the taught top expert must be ahead of, by two standard errors.
BEHIND = (top_expert(REFERENCE), top_expert("mode_alpha_0"), "mlp_small")
AVERAGED = "mlp_ensemble"
SLOW = ("realmlp_td", "tabm_d")
ACCURACY_POINTS, RMSE_PERCENT, WORST_POINTS, WORST_FROM_ROWS = 0.1, 0.5, 1.0, 2000
TOP_EXPERT_SHARE, LOG_LOSS_SHARE, SIGNIFICANCE = 2 / 3, 3 / 4, 0.05
# Times of MoDE's fit over that of others; None: reported only.
FIT_RATIOS = {"realmlp_td_s": 0.2, "catboost": 0.6, "lightgbm": None, "tabm_d": None}
LEVEL, AHEAD = "level or better: 0, or less, within the interval", "ahead: below 0"


@dataclass(frozen=True)
class Bar:
    """A figure and what it must reach.

    Attributes
    ----------
    what : str
        What is measured.
    figure : str
        What was found.
    limit : str
        What is asked for; empty if the figure is only reported.
    passed : bool or None
        None where nothing is asked for, or nothing was measured.
    """

    what: str
    figure: str
    limit: str = ""
    passed: bool | None = None

    @property
    def verdict(self) -> str:
        """How it went, in a word."""
        if self.passed is None:
            return "not measured" if self.limit else "reported"
        return word(self.passed)


def bars(league: League) -> Iterator[Bar]:
    """Yield all bars, measured or not."""
    measured = league.models(slow=True)
    yield from _rank_bars(league, measured)
    yield from _taught_bars(league, measured)
    for variant in (REFERENCE, "mode_auto", TAUGHT):
        if variant in measured:
            yield from _top_expert_bars(league, variant)
    for variant in (REFERENCE, "mode_auto"):
        if variant in measured:
            yield from _distillation_bars(league, variant)
    yield from _time_bars(league, measured)


def _rank_bars(league: League, measured: list[str]) -> Iterator[Bar]:
    """Default MoDE against the best of the peers, ranked among different models and sets."""
    named, everyone = [REFERENCE, *RIVALS], league.models(slow=False)
    errors, first = league.errors, league.first_split()
    apart = errors[errors.index.get_level_values("set").isin(CHOSE_NO_DEFAULTS)]
    yield _rank_bar("", errors, named, named, measured, AHEAD)
    yield _rank_bar(", ranked among all of the first table", errors, named, everyone, measured, "")
    yield _rank_bar(", first split alone", first, named, named, measured, "")
    what = ", sets alone that had no part in choosing defaults"
    yield _rank_bar(what, apart, named, named, measured, AHEAD)
    for slow in SLOW:
        models = [*named, slow]
        what = f"stretch: mean rank of MoDE less that of {labels()[slow]}, first split"
        ranks = rank(common_mean(first, models)) if slow in measured else []
        if not len(ranks):
            yield Bar(what, "", AHEAD)
            continue
        difference = bootstrap(ranks[REFERENCE] - ranks[slow])
        figure = _ranked(difference, ranks, REFERENCE, slow)
        yield Bar(what, figure, AHEAD, bool(difference.value < 0))


def _rank_bar(
    where: str,
    errors: pd.DataFrame,
    named: list[str],
    among: list[str],
    measured: list[str],
    limit: str,
) -> Bar:
    """The first one named against the best of the others."""
    what = f"mean rank of {labels()[named[0]]} less that of the best peer named{where}"
    missing = [labels()[name] for name in named if name not in measured]
    ranks = [] if missing else rank(common_mean(errors, among))
    if not len(ranks):
        return Bar(what, f"without {', '.join(missing)}" if missing else "", limit)
    best = ranks.mean()[named[1:]].idxmin()
    difference = bootstrap(ranks[named[0]] - ranks[best])
    figure = _ranked(difference, ranks, named[0], best)
    return Bar(what, figure, limit, bool(difference.value < 0) if limit else None)


def _ranked(difference: Interval, ranks: pd.DataFrame, ours: str, theirs: str) -> str:
    means = ranks.mean()
    level = ": level within the interval" if difference.low <= 0 <= difference.high else ""
    return (
        f"{difference.value:+.2f} {_interval(difference)}, {means[ours]:.2f} against "
        f"{means[theirs]:.2f} of {labels()[theirs]} on {len(ranks)} sets{level}"
    )


def _interval(interval: Interval) -> str:
    return f"[{interval.low:+.2f}, {interval.high:+.2f}]"


def _taught_bars(league: League, measured: list[str]) -> Iterator[Bar]:
    """The taught top expert against the networks that teach alike, and against one not taught."""
    ours, everyone = top_expert(TAUGHT), league.models(slow=False)
    if ours in measured:
        named = [ours, *RIVALS]
        yield _rank_bar("", league.errors, named, named, measured, "")
    what = f"mean rank of {labels()[ours]} less that of {labels()[AVERAGED]}, first table"
    if {ours, AVERAGED} <= set(measured):
        ranks = rank(league.means(everyone))
        found = bootstrap(ranks[ours] - ranks[AVERAGED])
        # With a single set there is no interval, and its figure decides.
        passed = bool(found.value <= 0 or found.low <= 0)
        yield Bar(what, _ranked(found, ranks, ours, AVERAGED), LEVEL, passed)
    else:
        yield Bar(what, "", LEVEL)
    for model in BEHIND:
        what = f"error of {labels()[ours]} against that of {labels()[model]}, in %"
        limit = "below 0 by two standard errors"
        if not {ours, model} <= set(measured):
            yield Bar(what, "", limit)
            continue
        means = league.means([ours, model])
        found = relative_difference(means[ours], means[model])
        figure = f"{found.percent:+.1f} ± {found.error:.1f} ({found.n_sets} sets)"
        yield Bar(what, figure, limit, bool(found.percent + 2 * found.error < 0))


def _top_expert_bars(league: League, variant: str) -> Iterator[Bar]:
    """What answers of one expert alone cost."""
    label, pair = labels()[variant], [variant, top_expert(variant)]
    accuracy = league.means(pair, "accuracy")
    points = 100 * (accuracy[pair[0]] - accuracy[pair[1]])
    what = f"{label}: accuracy that the top expert alone loses, mean over sets, in points"
    yield _at_most(what, points.mean(), ACCURACY_POINTS, f"{len(points)} sets")
    large = points[[league.rows[name] >= WORST_FROM_ROWS for name in points.index]]
    worst = large.idxmax() if len(large) else ""
    what = f"{label}: the same, worst set of at least {WORST_FROM_ROWS:,} rows"
    yield _at_most(what, large.max(), WORST_POINTS, f"{worst}")
    rmse = league.means(pair, "rmse")
    percent = 100 * (rmse[pair[1]] / rmse[pair[0]] - 1)
    what = f"{label}: RMSE that the top expert alone adds, mean over sets, in %"
    yield _at_most(what, percent.mean(), RMSE_PERCENT, f"{len(percent)} sets")
    large = percent[[league.rows[name] >= WORST_FROM_ROWS for name in percent.index]]
    if len(large):
        what = f"{label}: that RMSE on the worst set of at least {WORST_FROM_ROWS:,} rows, in %"
        yield Bar(what, f"{large.max():.2f} ({large.idxmax()})")


def _distillation_bars(league: League, variant: str) -> Iterator[Bar]:
    """What the distillation does for the mixture and its top expert."""
    label, plain = labels()[variant], "mode_alpha_0"
    against = f"{label} against alpha 0"
    alone = league.means([top_expert(variant), top_expert(plain)])
    wins = alone[top_expert(variant)] < alone[top_expert(plain)]
    what = f"{against}: share of sets on which the top expert alone is better"
    yield _at_least(what, wins, TOP_EXPERT_SHARE)
    log_loss = league.means([variant, plain], "log_loss")
    wins = log_loss[variant] < log_loss[plain]
    what = f"{against}: share of classification sets with a lower log loss of the mixture"
    yield _at_least(what, wins, LOG_LOSS_SHARE)
    yield _significance_bar(league, variant, plain, against)


def _significance_bar(league: League, variant: str, plain: str, against: str) -> Bar:
    """Losses that are no chance over the splits of a set, by Holm's correction over the sets."""
    p_values = p_of_losses(league.errors[[variant, plain]], TEST_SHARE)
    what = f"{against}: sets on which the mixture is significantly worse"
    if not p_values:
        return Bar(what, "one split tells nothing", "none")
    lost = holm(p_values, SIGNIFICANCE)
    figure = f"{len(lost)} of {len(p_values)}" + (f" ({', '.join(lost)})" if lost else "")
    uncorrected = sum(p < SIGNIFICANCE for p in p_values.values())
    figure += f"; {uncorrected} without Holm's correction"
    return Bar(what, figure, "none", not lost)


def _time_bars(league: League, measured: list[str]) -> Iterator[Bar]:
    for peer, limit in FIT_RATIOS.items():
        what = f"processor seconds to fit MoDE over those of {labels()[peer]}, median over sets"
        wanted = "" if limit is None else f"at most {limit:g}"
        if peer not in measured or REFERENCE not in measured:
            yield Bar(what, "", wanted)
            continue
        seconds, processor_seconds = (
            league.on_one_processor(REFERENCE, peer, name)
            for name in ("fit_seconds", "fit_cpu_seconds")
        )
        ratio, processor_ratio = (
            (table[REFERENCE] / table[peer]).median() for table in (seconds, processor_seconds)
        )
        # Each has one thread and a core, so processor time is that of a machine with nothing else
        # to do; by the clock, what else the machine did counts too.
        figure = f"{processor_ratio:.3g} ({len(seconds)} sets; {ratio:.3g} by the clock)"
        unknown = limit is None or np.isnan(processor_ratio)
        passed = None if unknown else bool(processor_ratio <= limit)
        yield Bar(what, figure, wanted, passed)


def _at_most(what: str, value: float, limit: float, detail: str) -> Bar:
    wanted = f"at most {limit:g}"
    if np.isnan(value):
        return Bar(what, "", wanted)
    return Bar(what, f"{value:.2f} ({detail})", wanted, bool(value <= limit))


def _at_least(what: str, wins: np.ndarray, share: float) -> Bar:
    wanted = f"at least {share:.2f}"
    if not len(wins):
        return Bar(what, "", wanted)
    figure = f"{wins.mean():.2f} ({wins.sum()} of {len(wins)})"
    return Bar(what, figure, wanted, bool(wins.mean() >= share))
