"""Metrics for Prometheus: requests, latency, queue, rows, missing values, routing and drift.

Columns are counted by name. No value of a feature becomes part of a metric.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from skmode_deploy.bundle import Column, Manifest
from skmode_deploy.running.predictor import Prediction
from skmode_deploy.serving.observe.drift import RoutingDrift
from skmode_deploy.serving.observe.metric_definitions import DEFINITIONS, MODEL
from skmode_deploy.serving.protocol.errors import Limit

METRIC_NAMES = tuple(DEFINITIONS)
# The drift gauge is written once in this many rows: writing it takes as long as a request.
DRIFT_EVERY_ROWS = 500
# Rows are counted together, this many or those of half a second: cheaper than one by one.
FLUSH_ROWS = 256
# The histogram of the gate's confidence observes at most this many rows of a request, evenly
# spaced, so that large requests stay cheap.
MAX_OBSERVED_ROWS = 256


class Metrics:
    """All metrics of a server; most methods are named after what happened."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._metrics = {
            name: definition.kind(
                name,
                definition.help,
                definition.labels,
                registry=self.registry,
                **definition.options,
            )
            for name, definition in DEFINITIONS.items()
        }
        self.running: Any = self._metrics["skmode_requests_running"]
        self.waiting: Any = self._metrics["skmode_requests_waiting"]
        self.queue_limit: Any = self._metrics["skmode_queue_limit"]
        self._children: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._pending: list[tuple[ModelMetrics, Any, Prediction]] = []
        self._pending_rows = 0

    def get(self, name: str, *labels: str) -> Any:
        """Get a metric with its labels."""
        key = (name, *labels)
        child = self._children.get(key)
        if child is None:  # looking one up takes longer than counting
            child = self._children[key] = self._metrics[name].labels(*labels)
        return child

    def requested(self, model: str, version: str, protocol: str, code: str, seconds: float) -> None:
        """Count a request."""
        self.get("skmode_requests_total", model, version, protocol, code).inc()
        self.get("skmode_request_seconds", model, protocol).observe(seconds)

    def scored(self, model: "ModelMetrics", rows: Any, prediction: Prediction) -> None:
        """Take note of rows that a model scored; :meth:`flush` counts them."""
        rows = model.countable(rows)
        with self._lock:
            self._pending.append((model, rows, prediction))
            self._pending_rows += len(prediction.expert)
            is_full = self._pending_rows >= FLUSH_ROWS
        if is_full:
            self.flush()

    def flush(self) -> None:
        """Count what was scored since the last time: counting many rows at once is cheaper."""
        with self._lock:
            pending, self._pending = self._pending, []
            self._pending_rows = 0
        by_model: dict[ModelMetrics, list[tuple[Any, Prediction]]] = {}
        for model, rows, prediction in pending:
            by_model.setdefault(model, []).append((rows, prediction))
        with self._flushing:
            for model, scored in by_model.items():
                model.count(scored)

    def rejected(self, reason: Limit) -> None:
        """Count a request that was turned away."""
        self.get("skmode_rejected_total", reason).inc()

    def loaded(self, model: str, succeeded: bool) -> None:
        """Count an attempt to load a bundle."""
        # Both results, so that the first failure increases an existing series: alerts do not see
        # the first value of a new one.
        for result in ("loaded", "failed"):
            amount = int((result == "loaded") == succeeded)
            self.get("skmode_model_loads_total", model, result).inc(amount)

    def forget(self, *labels: str) -> None:
        """Drop the series of a model, or of one of its versions, that is no longer served.

        Several processes share files that keep every series: there they stay.
        """
        if _shares_files():
            return
        self.flush()
        for key in list(self._children):
            if key[1 : 1 + len(labels)] == labels and DEFINITIONS[key[0]].labels[:1] == MODEL:
                self.drop_series(*key)

    def drop_series(self, name: str, *labels: str) -> None:
        """Drop one series; in the files that several processes share it becomes 0."""
        if _shares_files():
            self.get(name, *labels).set(0)
            return
        self._children.pop((name, *labels), None)
        self._metrics[name].remove(*labels)

    def switched(self, model: str, version: int) -> None:
        """Set the version that serves under the plain name."""
        self.get("skmode_model_current_version", model).set(version)


class ModelMetrics:
    """Metrics of one version of a model."""

    def __init__(self, metrics: Metrics, model: str, version: str, manifest: Manifest) -> None:
        labels = (model, version)
        get = metrics.get
        self._metrics, self._labels, self._manifest = metrics, labels, manifest
        self.counts_values = bool(manifest.columns)  # images have none that could be missing
        self._texts = [column.name for column in manifest.text_columns]
        self._images = [column.name for column in manifest.image_columns]
        self._rows = get("skmode_rows_total", *labels)
        self._request_rows = get("skmode_request_rows", model)
        self._confidence = get("skmode_gate_confidence", *labels)
        names = _expert_names(manifest)
        self._experts = [get("skmode_expert_rows_total", *labels, name) for name in names]
        self._missing = [
            self._column_counter("skmode_missing_values_total", c) for c in manifest.columns
        ]
        self._unseen = [
            self._column_counter("skmode_unseen_categories_total", c)
            if c.kind == "category"
            else None
            for c in manifest.columns
        ]
        self._known = [
            frozenset(c.categories or ()) if c.kind == "category" else None
            for c in manifest.columns
        ]
        self._drift = RoutingDrift(manifest.expert_usage)
        self._rows_since_drift = 0
        # They describe this bundle, and are dropped with it.
        self._gauges: set[tuple[str, ...]] = set()
        for name, share in zip(names, manifest.expert_usage, strict=False):
            self._set_gauge(share, "skmode_expert_training_share", name)
        self._set_gauge(1, "skmode_model_info", manifest.task, manifest.file_hash()[:12])

    def _set_gauge(self, value: float, name: str, *labels: str) -> None:
        key = (name, *self._labels, *labels)
        self._gauges.add(key)
        self._metrics.get(*key).set(value)

    def _column_counter(self, name: str, column: Column) -> Any:
        return self._metrics.get(name, *self._labels, column.name)

    def countable(self, rows: Any) -> Any:
        """Keep of rows what will be counted: images and texts would take much memory until then."""
        if not self.counts_values:
            return None
        if not self._texts and not self._images:
            return rows
        are_missing = {name: rows[name] == "" for name in self._texts}
        marks = {name: np.where(m, "", "x").astype(object) for name, m in are_missing.items()}
        pixels = {name: np.zeros(len(rows[name]), np.uint8) for name in self._images}
        return {**rows, **marks, **pixels}  # a tensor has no images that are missing

    def count(self, scored: Sequence[tuple[Any, Prediction]]) -> None:
        """Count rows that were scored, of several requests at once."""
        for _, prediction in scored:
            self._request_rows.observe(len(prediction.expert))
            observe_many(self._confidence, prediction.gate_probability)
        chosen = np.concatenate([prediction.expert for _, prediction in scored])
        self._rows.inc(len(chosen))
        n_unknown = int(np.count_nonzero(chosen < 0))
        if n_unknown:
            self._metrics.get("skmode_abstentions_total", *self._labels).inc(n_unknown)
            chosen = chosen[chosen >= 0]
        counts = np.bincount(chosen, minlength=len(self._experts))
        for expert, n_rows in zip(self._experts, counts.tolist(), strict=True):
            if n_rows:
                expert.inc(n_rows)
        if self.counts_values:
            self._count_values([rows for rows, _ in scored])
        self._drift.add(counts)
        self._rows_since_drift += len(chosen)
        if self._rows_since_drift >= DRIFT_EVERY_ROWS:
            self._rows_since_drift = 0
            # Made only now: with too few rows the series would be NaN.
            self._set_gauge(self._drift.value(), "skmode_routing_drift")

    def prompted(self, n_tokens: int) -> None:
        """Count a prompt that is continued."""
        self._metrics.get("skmode_prompt_tokens_total", *self._labels).inc(n_tokens)

    def generated(
        self, expert: str | None, n_tokens: int, waited: float, n_behind: int, took: float
    ) -> None:
        """Count a text that an expert wrote, or the common expert (None) alone.

        `waited` is the time to its first piece, `n_behind` the number of tokens behind that, and
        `took` their time: a piece may have many tokens, where it could begin a stop string.
        """
        get, model = self._metrics.get, self._labels[0]
        name = "(common)" if expert is None else expert
        get("skmode_generated_tokens_total", *self._labels, name).inc(n_tokens)
        get("skmode_time_to_first_token_seconds", model).observe(waited)
        if n_behind and took > 0:
            get("skmode_tokens_per_second", model).observe(n_behind / took)

    def shadowed(self, n_rows: int, n_disagreements: int) -> None:
        """Count rows that the whole mixture predicted as well."""
        self._metrics.get("skmode_shadow_rows_total", *self._labels).inc(n_rows)
        self._metrics.get("skmode_shadow_disagreements_total", *self._labels).inc(n_disagreements)

    def retired(self) -> None:
        """Drop the gauges of a version that is no longer loaded."""
        for gauge in list(self._gauges):
            self._metrics.drop_series(*gauge)

    def _count_values(self, tables: Sequence[Any]) -> None:
        """Count missing values and unknown categories."""
        if isinstance(tables[0], Mapping):
            for i, column in enumerate(self._manifest.columns):
                self._count_column(i, np.concatenate([table[column.name] for table in tables]))
        else:
            self._count_matrix(np.concatenate(tables))

    def _count_column(self, i: int, values: NDArray[Any]) -> None:
        known = self._known[i]
        if values.dtype.kind == "O":
            cells = values.tolist()
            missing = cells.count("")
            unseen = 0 if known is None else sum(cell not in known for cell in cells) - missing
            if known is not None and "" in known:
                unseen += missing
        else:
            is_missing = (
                np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
            )
            missing = int(np.count_nonzero(is_missing))
            unseen = 0
            if known is not None:
                unseen = sum(cell not in known for cell in values[~is_missing].tolist())
        if missing:
            self._missing[i].inc(missing)
        counter = self._unseen[i]
        if counter is not None and unseen:
            counter.inc(unseen)

    def _count_matrix(self, rows: NDArray[Any]) -> None:
        if rows.dtype.kind == "O" or any(known is not None for known in self._known):
            for i in range(rows.shape[1]):
                self._count_column(i, rows[:, i])
            return
        if rows.dtype.kind != "f":
            return
        missing = np.isnan(rows)
        if missing.any():
            for counter, count in zip(self._missing, missing.sum(axis=0).tolist(), strict=True):
                if count:
                    counter.inc(count)


def _expert_names(manifest: Manifest) -> list[str]:
    """Name the experts: by their domains, or by their numbers."""
    if manifest.language is not None:
        return list(manifest.language.names)
    return [str(i) for i in range(manifest.n_experts)]


def _shares_files() -> bool:
    """Say whether several processes count together, in files."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def observe_many(histogram: Any, values: NDArray[Any]) -> None:
    """Put values into a histogram: all, or at most 256 of them, evenly spaced."""
    step = -(-len(values) // MAX_OBSERVED_ROWS)
    for value in values[::step].tolist():
        histogram.observe(value)
