"""The results as tables of numbers: a row per set and split, a column per model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from benchmarks.tabular import _results
from benchmarks.tabular._models import TOP_EXPERT, contenders, labels
from benchmarks.tabular._sets import Task
from benchmarks.tabular._statistics import common_mean

Record = dict[str, Any]
# Fields of which a model that failed has the worst value.
LOSSES = ("log_loss", "rmse")


class League:
    """What the newest lines of the results say.

    Parameters
    ----------
    records : sequence of dict
        Lines of the results, the oldest first.

    Attributes
    ----------
    records : list of dict
        The newest line of each set, split and model that there still is a contender for.
    left_out : int
        How many there are of former code of ours, which would be compared with the present one.
    errors : DataFrame
        Less is better: 1 - ROC AUC, log loss or RMSE. Infinite where a model failed.
    tasks : dict
        The task of each set, sets in the order of their tasks and rows.
    rows : dict
        Number of rows of each set.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        found = _results.newest(records).values()
        known = [r for r in found if _results.contender_of(r["model"])]
        # Of ours those of the code that the last line is of, and all of the peers'.
        last = next((r for r in reversed(records) if "settings" in r), None)
        self.records = [r for r in known if last is None or _same_code(r, last)]
        self.left_out = len(known) - len(self.records)
        rows = {r["set"]: r["n_train"] + r["n_test"] for r in self.records if "value" in r}
        tasks = {r["set"]: r["task"] for r in self.records}
        order = {"binary": 0, "multiclass": 1, "regression": 2}
        names = sorted(tasks, key=lambda name: (order[tasks[name]], rows.get(name, math.inf), name))
        self.tasks: dict[str, Task] = {name: tasks[name] for name in names}
        self.rows: dict[str, int] = {name: rows.get(name, 0) for name in names}
        self.errors = self._table(self.records, error)

    def field(self, name: str) -> pd.DataFrame:
        """A field of the lines, in the shape of `errors`; missing where a line lacks it."""

        def value(record: Record) -> Any:
            return math.inf if "error" in record and name in LOSSES else record.get(name)

        return self._table(self.records, value)

    def first_split(self) -> pd.DataFrame:
        """Errors on the first split alone."""
        return self.errors[self.errors.index.get_level_values("split") == 0]

    def _table(self, records: Iterable[Record], value: Any) -> pd.DataFrame:
        cells = {_results.key(record): value(record) for record in records}
        places = [(name, repeat) for name in self.tasks for repeat in self._splits(name)]
        return pd.DataFrame(
            [[cells.get((*place, model)) for model in labels()] for place in places],
            index=pd.MultiIndex.from_tuples(places, names=["set", "split"]),
            columns=list(labels()),
            dtype=float,
        )

    def _splits(self, name: str) -> list[int]:
        return sorted({record["split"] for record in self.records if record["set"] == name})

    def models(self, *, slow: bool) -> list[str]:
        """Models with at least one result or failure, with or without the slow ones, none tuned."""
        measured = self.errors.notna().any()
        wanted = ("fast", "moderate", "slow") if slow else ("fast", "moderate")
        return [
            name
            for contender in contenders().values()
            for name in contender.names
            if measured[name] and contender.speed in wanted
        ]

    def sets_of(self, *tasks: Task) -> list[str]:
        """Sets of some tasks."""
        return [name for name, task in self.tasks.items() if task in tasks]

    def means(self, models: Sequence[str], name: str | None = None) -> pd.DataFrame:
        """Mean error, or another field, per set over the splits that all of `models` have met."""
        return common_mean(self.errors if name is None else self.field(name), models)

    def on_one_processor(self, model: str, peer: str, name: str) -> pd.DataFrame:
        """Mean of a field per set, over the splits that both met on processors of one kind."""
        kinds = {kind: i for i, kind in enumerate({r.get("processor") for r in self.records})}
        where = self._table(self.records, lambda record: kinds[record.get("processor")])
        names = [*dict.fromkeys([model, peer])]
        return common_mean(self.field(name)[where[model] == where[peer]], names)

    def stale(self) -> list[Record]:
        """Results of other versions than those that are installed here."""
        return [r for r in self.records if "skipped" not in r and not _results.is_current(r)]


def _same_code(record: Record, last: Record) -> bool:
    """Whether a line is of a peer, or of code that does what that of the last line of ours did."""
    if "settings" not in record or record["settings"] == last["settings"]:
        return True
    return _results.is_of(record, _results.code_of(last))


def error(record: Record) -> float | None:
    """Return the error of a line, infinite if the model failed, None if it was not measured."""
    if "error" in record:
        return math.inf
    if "value" not in record:
        return None
    return 1 - record["value"] if record["metric"] == "roc_auc" else record["value"]


def top_expert(model: str) -> str:
    """Name of a mixture's top expert alone."""
    return model + TOP_EXPERT
