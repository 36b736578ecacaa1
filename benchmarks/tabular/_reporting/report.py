"""The report: markdown from the file of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.tabular import _results
from benchmarks.tabular._league import League
from benchmarks.tabular._models import REFERENCE, labels
from benchmarks.tabular._reporting.bars import bars
from benchmarks.tabular._reporting.figures import draw_latency, draw_ranks
from benchmarks.tabular._sets import CHOSE_NO_DEFAULTS
from benchmarks.tabular._statistics import (
    TIE,
    Interval,
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
# What a line may say in the place of figures.
EXCEPTIONS = {
    "error": "failed and ranks last",
    "serving_error": "could not be exported",
    "skipped": "was not measured",
}


def write(results: Path, output: Path, stem: str) -> Path:
    """Write the report of a file of results, and its figures.

    Parameters
    ----------
    results : Path
        The JSON lines.
    output : Path
        The folder to write to.
    stem : str
        What the names of the files begin with.

    Returns
    -------
    report : Path
        The markdown file.
    """
    league = League(_results.read(results))
    if REFERENCE not in league.models(slow=False):
        raise ValueError(
            f"{results} holds no result of {REFERENCE!r}, which the rest is compared to."
        )
    output.mkdir(parents=True, exist_ok=True)
    means = league.means(league.models(slow=False))
    if not len(means):
        raise ValueError(f"{results} holds no set that all models have met.")
    draw_ranks(rank(means), output / f"{stem}_ranks.svg")
    draw_latency(
        100 * improvability(means).mean(), typical(league, means), output / f"{stem}_latency.svg"
    )
    report = output / f"{stem}.md"
    report.write_text("\n".join(_lines(league, results.name, stem)) + "\n", encoding="utf-8")
    return report


def typical(league: League, means: pd.DataFrame, name: str = "predict_microseconds") -> pd.Series:
    """Median over sets of a field, for the sets and models of `means`."""
    found = league.field(name).groupby(level=0, sort=False).mean()
    return found.loc[means.index, means.columns].median()


def _lines(league: League, source: str, stem: str) -> Iterator[str]:
    everyone, means = league.models(slow=True), league.means(league.models(slow=False))
    yield from _introduction(league, means, source)
    yield from _standings(league, means, stem)
    yield from _bar_table(league)
    yield from _slow_standings(league, everyone)
    yield from _sets(league, everyone)
    yield from _notes(league, means)


def _introduction(league: League, means: pd.DataFrame, source: str) -> Iterator[str]:
    splits = sorted({record["split"] for record in league.records})
    yield "# League of tabular models"
    yield ""
    yield (
        f"Drawn from `{source}` by `python -m benchmarks.tabular report`. {len(league.tasks)} "
        f"sets, {'1 split' if len(splits) == 1 else f'{len(splits)} splits'} of each into 75 % of "
        "the rows to train on and 25 % to test on, the same for all models. All models have their "
        "libraries' default settings and one thread."
    )
    yield ""
    yield (
        "Error is 1 - ROC AUC (two classes), log loss (more classes) or RMSE (regression), the "
        "mean over the splits that all models of a table have met, which on the largest sets is "
        "the first one. *Improvability* is the share of a model's error by which the best model of "
        "the set is better (0 % is the best everywhere). Brackets hold 95 % bootstrap intervals "
        f"over sets. A tie is a difference of at most {TIE:.1%} of the error. Times, sizes and "
        "ratios are medians over sets. skmode answers through its exported ONNX file, whose size "
        "is given, from arrays as that reads them; the others through Python from a DataFrame, "
        "with the size of their pickle. Rows per second are of the test part in one call."
    )
    yield ""
    apart = [name for name in league.tasks if name in CHOSE_NO_DEFAULTS]
    yield (
        "The defaults of skmode were chosen by inner validation on the training part of the first "
        "split (`benchmarks/ablations.md`), with which the test parts of the other splits overlap; "
        f"{', '.join(apart) or 'none of these sets'} had no part in that."
    )
    yield ""


def _standings(league: League, means: pd.DataFrame, stem: str) -> Iterator[str]:
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
    yield from _table(_standing_rows(league, means))
    yield ""
    yield f"![Mean ranks and the critical difference]({stem}_ranks.svg)"
    yield ""
    yield f"![Improvability against the time to answer one row]({stem}_latency.svg)"
    yield ""


def _standing_rows(league: League, means: pd.DataFrame) -> Iterator[Sequence[str]]:
    yield (
        "model",
        "mean rank",
        "MoDE wins / ties / loses",
        "improvability (%)",
        "fit (s)",
        "fit, times MoDE's",
        "1 row (µs)",
        "rows/s",
        "size (kB)",
    )
    ranks, improvable = rank(means), 100 * improvability(means)
    fit_seconds, rows = (
        typical(league, means, "fit_seconds"),
        typical(league, means, "rows_per_second"),
    )
    one_row, size = typical(league, means), _size(league, means)
    for model in ranks.mean().sort_values(kind="stable").index:
        counts = wins_ties_losses(means[REFERENCE], means[model])
        yield (
            _name(model),
            _interval(bootstrap(ranks[model]), 2),
            "" if model == REFERENCE else " / ".join(map(str, counts)),
            _interval(bootstrap(improvable[model]), 1),
            _number(fit_seconds[model]),
            _number(_fit_ratio(league, model, means.index)),
            _number(one_row[model]),
            _number(rows[model]),
            _number(size[model] / 1000),
        )


def _fit_ratio(league: League, model: str, sets: Sequence[str]) -> float:
    seconds = league.means([*dict.fromkeys([REFERENCE, model])], "fit_seconds")
    seconds = seconds[seconds.index.isin(sets)]
    return (seconds[model] / seconds[REFERENCE]).median()


def _size(league: League, means: pd.DataFrame) -> pd.Series:
    served = typical(league, means, "onnx_bytes")
    return served.fillna(typical(league, means, "model_bytes"))


def _bar_table(league: League) -> Iterator[str]:
    yield "## Bars"
    yield ""
    rows = [(bar.what, bar.figure, bar.limit, bar.verdict) for bar in bars(league)]
    yield from _table([("measure", "result", "bar", ""), *rows])
    yield ""


def _slow_standings(league: League, everyone: Sequence[str]) -> Iterator[str]:
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
        yield from _table(_standing_rows(league, means))
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
            yield from _table(_set_rows(league, everyone, sets, name))
    yield ""


def _set_rows(
    league: League, everyone: Sequence[str], sets: Sequence[str], name: str
) -> Iterator[Sequence[str]]:
    """One row per model: sets are fewer than models and have shorter names."""
    yield ("model", *(f"{table} ({league.rows[table]:,})" for table in sets))
    values, errors = (
        table[list(everyone)].groupby(level=0) for table in (league.field(name), league.errors)
    )
    splits, value, error = errors.count(), values.mean(), errors.mean()
    full = splits.eq(splits.max(axis=1), axis=0)
    best = error.where(full).min(axis=1)
    for model in everyone:
        cells = []
        for table in sets:
            if not splits.loc[table, model]:
                cells.append("")
                continue
            text = (
                f"{value.loc[table, model]:.4g}"
                if error.loc[table, model] < float("inf")
                else "failed"
            )
            if not full.loc[table, model]:
                text += FEWER_SPLITS
            elif error.loc[table, model] == best[table]:
                text = f"**{text}**"
            cells.append(text)
        yield (_name(model), *cells)


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
        models = ", ".join(dict.fromkeys(_name(record["model"]) for record in stale))
        yield f"- {len(stale)} results are of other versions than those installed now: {models}."
    for record in league.records:
        for kind, what in EXCEPTIONS.items():
            if kind in record:
                said = " ".join(record[kind].split())
                who = f"{record['set']}, split {record['split']}, {_name(record['model'])}"
                yield f"- {who} {what}: {said}"


def _versions(league: League) -> str:
    found: dict[str, dict[str, None]] = {}
    for record in league.records:
        for package, number in record["versions"].items():
            found.setdefault(package, {})[number] = None
    return ", ".join(f"{package} {' and '.join(numbers)}" for package, numbers in found.items())


def _name(model: str) -> str:
    return labels()[model]


def _interval(interval: Interval, digits: int) -> str:
    if interval.low != interval.low:
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _number(value: float) -> str:
    """Three digits that count, no exponents."""
    if value != value:
        return ""
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def _table(rows: Any) -> Iterator[str]:
    """A table of markdown; the first row is its header."""
    header, *body = [[str(cell) for cell in row] for row in rows]
    yield "| " + " | ".join(header) + " |"
    yield "| " + " | ".join(["---"] + ["---:"] * (len(header) - 1)) + " |"
    for row in body:
        yield "| " + " | ".join(row) + " |"
