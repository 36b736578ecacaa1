"""The report: markdown from the file of results."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.tabular import _results
from benchmarks.tabular._league import League
from benchmarks.tabular._models import REFERENCE
from benchmarks.tabular._reporting import comparisons
from benchmarks.tabular._reporting.bars import bars
from benchmarks.tabular._reporting.figures import draw_latency, draw_ranks
from benchmarks.tabular._reporting.markdown import interval, name_of, number, table
from benchmarks.tabular._reporting.votes import voted
from benchmarks.tabular._sets import CHOSE_NO_DEFAULTS, SPLITS
from benchmarks.tabular._statistics import (
    TIE,
    bootstrap,
    critical_difference,
    friedman,
    improvability,
    rank,
    wins_ties_losses,
)

METRICS = {
    "binary": ("ROC AUC, more is better", "roc_auc"),
    "multiclass": ("log loss, less is better", "log_loss"),
    "regression": ("RMSE, less is better", "rmse"),
}
FEWER_SPLITS = "†"
# Whose time to fit is the unit of the others'.
YARDSTICK = "catboost"
# What a line may say in the place of figures.
EXCEPTIONS = {
    "error": "failed and ranks last",
    "serving_error": "could not be exported",
    "skipped": "was not measured",
}


def latency_file(results: Path) -> Path:
    """Return the file of the times as ONNX that stands beside a file of results."""
    return results.with_name(f"{results.stem}_onnx.jsonl")


def write(results: Path, output: Path, splits: Collection[int] = SPLITS) -> Path:
    """Write the report of a file of results, and its figures; their names begin as its own does.

    Parameters
    ----------
    results : Path
        The JSON lines.
    output : Path
        The folder to write to.
    splits : collection of int
        The splits that count.

    Returns
    -------
    report : Path
        The markdown file.
    """
    league = League([each for each in _results.read(results) if each["split"] in splits])
    if REFERENCE not in league.models(slow=False):
        raise ValueError(
            f"{results} holds no result of {REFERENCE!r}, which the rest is compared to."
        )
    output.mkdir(parents=True, exist_ok=True)
    stem = results.stem
    means = league.means(league.models(slow=False))
    if not len(means):
        raise ValueError(f"{results} holds no set that all models have met.")
    draw_ranks(rank(means), output / f"{stem}_ranks.svg")
    draw_latency(
        100 * improvability(means).mean(), typical(league, means), output / f"{stem}_latency.svg"
    )
    latency = League(_results.read(latency_file(results)))
    report = output / f"{stem}.md"
    lines = _lines(league, latency, results.name, stem)
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return report


def typical(league: League, means: pd.DataFrame, name: str = "predict_microseconds") -> pd.Series:
    """Median over sets of a field, for the sets and models of `means`."""
    found = league.field(name).groupby(level=0, sort=False).mean()
    return found.loc[means.index, means.columns].median()


def _lines(league: League, latency: League, source: str, stem: str) -> Iterator[str]:
    everyone, means = league.models(slow=True), league.means(league.models(slow=False))
    onnx = comparisons.one_row(latency)
    yield from _introduction(league, means, source)
    yield from _standings(league, means, onnx, stem)
    yield from comparisons.pairs(league)
    yield from _bar_table(league)
    yield from comparisons.tuned(league)
    yield from voted(league)
    yield from comparisons.onnx(latency)
    yield from _slow_standings(league, everyone, onnx)
    yield from _sets(league, everyone)
    yield from _notes(league, means)


def _introduction(league: League, means: pd.DataFrame, source: str) -> Iterator[str]:
    splits = sorted({record["split"] for record in league.records})
    yield "# League of tabular models"
    yield ""
    yield (
        f"Drawn from `{source}` by `python -m benchmarks.tabular report`. {len(league.tasks)} "
        f"sets, {'1 split' if len(splits) == 1 else f'{len(splits)} splits'} of each into 75 % of "
        "the rows to train on and 25 % to test on, the same for all models. All models have one "
        "thread and their libraries' default settings, but for those under *Tuned*."
    )
    yield ""
    yield (
        "Error is 1 - ROC AUC (two classes), log loss (more classes) or RMSE (regression), the "
        "mean over the splits that all models of a table have met, which on the largest sets is "
        "the first one. *Improvability* is the share of a model's error by which the best model of "
        "the set is better (0 % is the best everywhere). Brackets hold 95 % bootstrap intervals "
        f"over sets. A tie is a difference of at most {TIE:.1%} of the error. Times, sizes and "
        "ratios are medians over sets; to fit takes processor seconds, "
        "whose ratios are of fits on processors of one kind. *1 row*: skmode predicts "
        "through its exported ONNX file, whose size is given, from arrays as that reads them; the "
        "others through Python from a DataFrame, with the size of their pickle. *1 row as ONNX* is "
        "so for all that can be exported, on a few small sets (below). Rows per second are of the "
        "test part in one call."
    )
    yield ""
    apart = [name for name in league.tasks if name in CHOSE_NO_DEFAULTS]
    yield (
        "The defaults of skmode were chosen by inner validation on the training part of the first "
        "split (`benchmarks/ablations.md`), with which the test parts of the other splits overlap; "
        f"{', '.join(apart) or 'none of these sets'} had no part in that."
    )
    yield ""


def _standings(league: League, means: pd.DataFrame, onnx: pd.Series, stem: str) -> Iterator[str]:
    yield "## Standings"
    yield ""
    left_out = [name for name in league.tasks if name not in means.index]
    where = f", without {', '.join(left_out)}, which not all models have met" if left_out else ""
    yield (
        f"{len(means)} sets{where}. Friedman's test that all models are level: "
        f"p = {friedman(means):.2g}. Nemenyi's critical difference of mean ranks at 5 %: "
        f"{critical_difference(means.shape[1], len(means)):.2f}."
        if means.shape[1] > 1
        else f"{len(means)} sets{where}."
    )
    yield ""
    yield from table(_standing_rows(league, means, onnx))
    yield ""
    yield f"![Mean ranks and the critical difference]({stem}_ranks.svg)"
    yield ""
    yield f"![Improvability against the time to answer one row]({stem}_latency.svg)"
    yield ""


def _standing_rows(league: League, means: pd.DataFrame, onnx: pd.Series) -> Iterator[Sequence[str]]:
    yield (
        "model",
        "mean rank",
        "MoDE wins / ties / loses",
        "improvability (%)",
        "fit (s)",
        "fit, times CatBoost's",
        "1 row (µs)",
        "1 row as ONNX (µs)",
        "rows/s",
        "size (kB)",
    )
    ranks, improvable = rank(means), 100 * improvability(means)
    fit_seconds, rows = (
        typical(league, means, "fit_cpu_seconds"),
        typical(league, means, "rows_per_second"),
    )
    one_row, size = typical(league, means), _size(league, means)
    for model in ranks.mean().sort_values(kind="stable").index:
        counts = wins_ties_losses(means[REFERENCE], means[model])
        yield (
            name_of(model),
            interval(bootstrap(ranks[model]), 2),
            "" if model == REFERENCE else " / ".join(map(str, counts)),
            interval(bootstrap(improvable[model]), 1),
            number(fit_seconds[model]),
            number(_fit_ratio(league, model, means.index)),
            number(one_row[model]),
            number(onnx.get(model, math.nan), "-"),
            number(rows[model]),
            number(size[model] / 1000),
        )


def _fit_ratio(league: League, model: str, sets: Sequence[str]) -> float:
    """Median over sets of the processor seconds over CatBoost's, on processors of one kind."""
    seconds = league.on_one_processor(model, YARDSTICK, "fit_cpu_seconds")
    seconds = seconds[seconds.index.isin(sets)]
    return (seconds[model] / seconds[YARDSTICK]).median()


def _size(league: League, means: pd.DataFrame) -> pd.Series:
    served = typical(league, means, "onnx_bytes")
    return served.fillna(typical(league, means, "model_bytes"))


def _bar_table(league: League) -> Iterator[str]:
    yield "## Bars"
    yield ""
    rows = [(bar.what, bar.figure, bar.limit, bar.verdict) for bar in bars(league)]
    yield from table([("measure", "result", "bar", ""), *rows])
    yield ""


def _slow_standings(league: League, everyone: Sequence[str], onnx: pd.Series) -> Iterator[str]:
    """The first split, and of the sets those that all slow models have finished."""
    if everyone == league.models(slow=False):
        return
    means = league.first_split()[list(everyone)].dropna().groupby(level=0, sort=False).mean()
    yield "## With the slow ones"
    yield ""
    yield (
        "RealMLP-TD and TabM-D meet the first split only, as long as time allows: "
        f"{len(means)} sets ({', '.join(means.index) or 'none that both have finished'})."
    )
    yield ""
    if len(means):
        yield from table(_standing_rows(league, means, onnx))
        yield ""


def _sets(league: League, everyone: Sequence[str]) -> Iterator[str]:
    yield "## Set by set"
    yield ""
    yield (
        "Mean over splits, the best of each set in bold. "
        f"{FEWER_SPLITS}: of fewer splits than other models, so never in bold."
    )
    for task, (title, name) in METRICS.items():
        sets = league.sets_of(task)
        if sets:
            yield ""
            yield f"### {title}"
            yield ""
            yield from table(_set_rows(league, everyone, sets, name))
    yield ""


def _set_rows(
    league: League, everyone: Sequence[str], sets: Sequence[str], name: str
) -> Iterator[Sequence[str]]:
    """One row per model: sets are fewer than models and have shorter names."""
    yield ("model", *(f"{each} ({league.rows[each]:,})" for each in sets))
    values, errors = (
        cells[list(everyone)].groupby(level=0) for cells in (league.field(name), league.errors)
    )
    splits, value, error = errors.count(), values.mean(), errors.mean()
    full = splits.eq(splits.max(axis=1), axis=0)
    best = error.where(full).min(axis=1)
    for model in everyone:
        cells = []
        for each in sets:
            if not splits.loc[each, model]:
                cells.append("")
                continue
            text = (
                f"{value.loc[each, model]:.4g}"
                if error.loc[each, model] < float("inf")
                else "failed"
            )
            if not full.loc[each, model]:
                text += FEWER_SPLITS
            elif error.loc[each, model] == best[each]:
                text = f"**{text}**"
            cells.append(text)
        yield (name_of(model), *cells)


def _notes(league: League, means: pd.DataFrame) -> Iterator[str]:
    """Whatever the figures above do not show by themselves."""
    yield "## Notes"
    yield ""
    if league.sets_of("multiclass"):
        yield (
            "- Log loss asks for more than the right class: probabilities of exactly 0, as "
            "RandomForest's may be, cost dearly, and so do labels smoothed in training, as "
            "RealMLP's are by default."
        )
    yield f"- Versions: {_versions(league)}."
    processors = dict.fromkeys(record.get("processor", "") for record in league.records)
    yield f"- Processor: {' and '.join(filter(None, processors)) or 'unknown'}."
    if league.left_out:
        yield f"- {league.left_out} results of former code of skmode are left out."
    if stale := league.stale():
        models = ", ".join(dict.fromkeys(name_of(record["model"]) for record in stale))
        yield f"- {len(stale)} results are of other versions than those installed now: {models}."
    for record in league.records:
        for kind, what in EXCEPTIONS.items():
            if kind in record:
                said = " ".join(record[kind].split())
                who = f"{record['set']}, split {record['split']}, {name_of(record['model'])}"
                yield f"- {who} {what}: {said}"


def _versions(league: League) -> str:
    found: dict[str, dict[str, None]] = {}
    for record in league.records:
        for package, release in record["versions"].items():
            found.setdefault(package, {})[release] = None
    return ", ".join(f"{package} {' and '.join(releases)}" for package, releases in found.items())
