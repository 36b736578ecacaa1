"""What Prometheus is told: requests, latency, queue, and what the rows and the routing look like.

Counts of values are kept for columns by name, never the values themselves.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from skmode_deploy.bundle.manifest import Column, Manifest
from skmode_deploy.running.predictor import Prediction
from skmode_deploy.serving.observe.drift import RoutingDrift

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
CONFIDENCE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# The gauge of drift is written once in so many rows: it costs as much as a request.
DRIFT_EVERY = 500
# So many rows are counted together, or what has come within half a second.
FLUSH_ROWS = 256
# Of a larger request the histogram of the gate takes as many rows, evenly spaced.
OBSERVED_ROWS = 256

_MODEL = ("model",)
_VERSION = ("model", "version")
_DESCRIPTIONS: dict[str, tuple[type, str, tuple[str, ...], dict[str, Any]]] = {
    "skmode_requests_total": (
        Counter, "Requests by code.", (*_VERSION, "protocol", "code"), {}),
    "skmode_request_seconds": (
        Histogram, "Time from a request's arrival to its answer.", ("model", "protocol"),
        {"buckets": SECONDS}),
    "skmode_request_rows": (Histogram, "Rows of a request.", _MODEL, {"buckets": ROWS}),
    "skmode_requests_running": (
        Gauge, "Requests that are computed.", (), {"multiprocess_mode": "livesum"}),
    "skmode_requests_waiting": (
        Gauge, "Requests that wait for their turn.", (), {"multiprocess_mode": "livesum"}),
    "skmode_rejected_total": (Counter, "Requests that were turned away.", ("reason",), {}),
    "skmode_rows_total": (Counter, "Rows answered.", _VERSION, {}),
    "skmode_expert_rows_total": (
        Counter, "Rows answered by each expert.", (*_VERSION, "expert"), {}),
    "skmode_gate_confidence": (
        Histogram, "The gate's probability of the expert that it chose.", _VERSION,
        {"buckets": CONFIDENCE}),
    "skmode_missing_values_total": (
        Counter, "Missing values by column.", (*_VERSION, "column"), {}),
    "skmode_unseen_categories_total": (
        Counter, "Categories that training did not see, by column.", (*_VERSION, "column"), {}),
    "skmode_routing_drift": (
        Gauge, "Population stability index of the experts' usage against training.", _VERSION,
        {"multiprocess_mode": "livemax"}),
    "skmode_expert_training_share": (
        Gauge, "Share of the training rows of each expert.", (*_VERSION, "expert"),
        {"multiprocess_mode": "livemax"}),
    "skmode_model_info": (
        Gauge, "1 for each version that is loaded.", (*_VERSION, "task", "bundle"),
        {"multiprocess_mode": "livemax"}),
    "skmode_model_current_version": (
        Gauge, "Version that is served under the plain name.", _MODEL,
        {"multiprocess_mode": "mostrecent"}),
    "skmode_model_loads_total": (
        Counter, "Bundles that were loaded, or failed to.", ("model", "result"), {}),
    "skmode_shadow_rows_total": (
        Counter, "Rows that the whole mixture answered as well.", _VERSION, {}),
    "skmode_shadow_disagreements_total": (
        Counter, "Rows of these where the mixture answered otherwise.", _VERSION, {}),
}  # fmt: skip
METRIC_NAMES = tuple(_DESCRIPTIONS)


class Metrics:
    """All metrics of a server.

    Attributes
    ----------
    registry : CollectorRegistry
        Where they are collected.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._metrics = {
            name: kind(name, text, labels, registry=self.registry, **options)
            for name, (kind, text, labels, options) in _DESCRIPTIONS.items()
        }
        self.running: Any = self._metrics["skmode_requests_running"]
        self.waiting: Any = self._metrics["skmode_requests_waiting"]
        self._children: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._pending: list[tuple[ModelMetrics, Any, Prediction]] = []
        self._pending_rows = 0

    def get(self, name: str, *labels: str) -> Any:
        """Get a metric with its labels."""
        key = (name, *labels)
        child = self._children.get(key)
        if child is None:  # prometheus_client takes longer to find one than to count
            child = self._children[key] = self._metrics[name].labels(*labels)
        return child

    def requested(self, model: str, version: str, protocol: str, code: str, seconds: float) -> None:
        """Count a request."""
        self.get("skmode_requests_total", model, version, protocol, code).inc()
        self.get("skmode_request_seconds", model, protocol).observe(seconds)

    def answered(self, model: "ModelMetrics", rows: Any, prediction: Prediction) -> None:
        """Take note of what was answered; it is counted at the next :meth:`flush`."""
        with self._lock:
            self._pending.append((model, rows, prediction))
            self._pending_rows += len(prediction.expert)
            full = self._pending_rows >= FLUSH_ROWS
        if full:
            self.flush()

    def flush(self) -> None:
        """Count what was answered since the last time: to count many rows at once costs less."""
        with self._lock:
            pending, self._pending = self._pending, []
            self._pending_rows = 0
        by_model: dict[ModelMetrics, list[tuple[Any, Prediction]]] = {}
        for model, rows, prediction in pending:
            by_model.setdefault(model, []).append((rows, prediction))
        with self._flushing:
            for model, answers in by_model.items():
                model.count(answers)

    def rejected(self, reason: str) -> None:
        """Count a request that was turned away."""
        self.get("skmode_rejected_total", reason).inc()

    def loaded(self, model: str, succeeded: bool) -> None:
        """Count a bundle."""
        # Both, so that the first failure is an increase and no new series.
        for result in ("loaded", "failed"):
            amount = int((result == "loaded") == succeeded)
            self.get("skmode_model_loads_total", model, result).inc(amount)

    def forget(self, *labels: str) -> None:
        """Drop the series of a model, or of a version of it, that is served no more.

        Several processes share files, from which nothing can be taken.
        """
        if _in_files():
            return
        self.flush()
        for key in list(self._children):
            if key[1 : 1 + len(labels)] == labels and _DESCRIPTIONS[key[0]][2][:1] == _MODEL:
                self.drop(*key)

    def drop(self, name: str, *labels: str) -> None:
        """Drop one series.

        Several processes share files, from which nothing can be taken: there it is 0.
        """
        if _in_files():
            self.get(name, *labels).set(0)
            return
        self._children.pop((name, *labels), None)
        self._metrics[name].remove(*labels)

    def current(self, model: str, version: int) -> None:
        """Say which version is served under the plain name."""
        self.get("skmode_model_current_version", model).set(version)


class ModelMetrics:
    """Metrics of one version of a model."""

    def __init__(self, metrics: Metrics, model: str, version: str, manifest: Manifest) -> None:
        labels = (model, version)
        get = metrics.get
        self._metrics, self._labels, self._manifest = metrics, labels, manifest
        self._rows = get("skmode_rows_total", *labels)
        self._request_rows = get("skmode_request_rows", model)
        self._confidence = get("skmode_gate_confidence", *labels)
        experts = range(manifest.n_experts)
        self._experts = [get("skmode_expert_rows_total", *labels, str(i)) for i in experts]
        self._missing = [self._column("skmode_missing_values_total", c) for c in manifest.columns]
        self._unseen = [
            self._column("skmode_unseen_categories_total", c) if c.kind == "category" else None
            for c in manifest.columns
        ]
        self._known = [
            frozenset(c.categories or ()) if c.kind == "category" else None
            for c in manifest.columns
        ]
        self._drift = RoutingDrift(manifest.expert_usage)
        self._since_drift = 0
        # What is said of this bundle, and not true any more when it is gone.
        self._gauges: set[tuple[str, ...]] = set()
        for i, share in enumerate(manifest.expert_usage):
            self._say(share, "skmode_expert_training_share", str(i))
        self._say(1, "skmode_model_info", manifest.task, manifest.file_hash()[:12])

    def _say(self, value: float, name: str, *labels: str) -> None:
        key = (name, *self._labels, *labels)
        self._gauges.add(key)
        self._metrics.get(*key).set(value)

    def _column(self, name: str, column: Column) -> Any:
        return self._metrics.get(name, *self._labels, column.name)

    def count(self, answers: Sequence[tuple[Any, Prediction]]) -> None:
        """Count what was answered."""
        for _, prediction in answers:
            self._request_rows.observe(len(prediction.expert))
            observe_many(self._confidence, prediction.gate_probability)
        chosen = np.concatenate([prediction.expert for _, prediction in answers])
        self._rows.inc(len(chosen))
        counts = np.bincount(chosen, minlength=len(self._experts))
        for expert, n_rows in zip(self._experts, counts.tolist(), strict=True):
            if n_rows:
                expert.inc(n_rows)
        tables = [rows for rows, _ in answers]
        if isinstance(tables[0], Mapping):
            for i, column in enumerate(self._manifest.columns):
                self._count_column(i, np.concatenate([table[column.name] for table in tables]))
        else:
            self._count_matrix(np.concatenate(tables))
        self._drift.add(counts)
        self._since_drift += len(chosen)
        if self._since_drift >= DRIFT_EVERY:
            self._since_drift = 0
            # Made only now: without enough rows there is no such series.
            self._say(self._drift.value(), "skmode_routing_drift")

    def shadowed(self, n_rows: int, n_disagreements: int) -> None:
        """Count rows that the whole mixture answered as well."""
        self._metrics.get("skmode_shadow_rows_total", *self._labels).inc(n_rows)
        self._metrics.get("skmode_shadow_disagreements_total", *self._labels).inc(n_disagreements)

    def retired(self) -> None:
        """Say that the version is not loaded any more."""
        for gauge in list(self._gauges):
            self._metrics.drop(*gauge)

    def _count_column(self, i: int, values: NDArray[Any]) -> None:
        known = self._known[i]
        if values.dtype.kind == "O":
            cells = values.tolist()
            missing = cells.count("")
            unseen = 0 if known is None else sum(cell not in known for cell in cells) - missing
            if known is not None and "" in known:
                unseen += missing
        else:
            lost = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
            missing = int(np.count_nonzero(lost))
            unseen = 0
            if known is not None:
                unseen = sum(cell not in known for cell in values[~lost].tolist())
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


def _in_files() -> bool:
    """Whether several processes count together."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def observe_many(histogram: Any, values: NDArray[Any]) -> None:
    """Put values into a histogram: all, or an even choice of 256 of them."""
    step = -(-len(values) // OBSERVED_ROWS)
    for value in values[::step].tolist():
        histogram.observe(value)
