"""The definition of every metric: its type, help text, labels and buckets."""

from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
CONFIDENCE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

MODEL = ("model",)
VERSION = ("model", "version")


class Definition(NamedTuple):
    """All that prometheus_client needs to make a metric, but its name."""

    kind: type  # Counter, Gauge or Histogram
    help: str
    labels: tuple[str, ...]
    options: dict[str, Any]


DEFINITIONS: dict[str, Definition] = {
    "skmode_requests_total": Definition(
        Counter, "Requests by code.", (*VERSION, "protocol", "code"), {}
    ),
    "skmode_request_seconds": Definition(
        Histogram,
        "Time from the arrival of a request to its response.",
        ("model", "protocol"),
        {"buckets": SECONDS},
    ),
    "skmode_request_rows": Definition(Histogram, "Rows of a request.", MODEL, {"buckets": ROWS}),
    "skmode_requests_running": Definition(
        Gauge, "Requests that are being computed.", (), {"multiprocess_mode": "livesum"}
    ),
    "skmode_requests_waiting": Definition(
        Gauge, "Requests that wait for their turn.", (), {"multiprocess_mode": "livesum"}
    ),
    "skmode_rejected_total": Definition(
        Counter, "Requests that were turned away.", ("reason",), {}
    ),
    "skmode_rows_total": Definition(Counter, "Rows predicted.", VERSION, {}),
    "skmode_expert_rows_total": Definition(
        Counter, "Rows predicted by each expert.", (*VERSION, "expert"), {}
    ),
    "skmode_gate_confidence": Definition(
        Histogram,
        "Probability that the gate gave to the expert that it chose.",
        VERSION,
        {"buckets": CONFIDENCE},
    ),
    "skmode_missing_values_total": Definition(
        Counter, "Missing values by column.", (*VERSION, "column"), {}
    ),
    "skmode_unseen_categories_total": Definition(
        Counter, "Categories that training did not see, by column.", (*VERSION, "column"), {}
    ),
    "skmode_routing_drift": Definition(
        Gauge,
        "Population stability index of the experts' usage against training.",
        VERSION,
        {"multiprocess_mode": "livemax"},
    ),
    "skmode_expert_training_share": Definition(
        Gauge,
        "Share of the training rows of each expert.",
        (*VERSION, "expert"),
        {"multiprocess_mode": "livemax"},
    ),
    "skmode_model_info": Definition(
        Gauge,
        "1 for each version that is loaded.",
        (*VERSION, "task", "bundle"),
        {"multiprocess_mode": "livemax"},
    ),
    "skmode_model_current_version": Definition(
        Gauge,
        "Version that is served under the plain name.",
        MODEL,
        {"multiprocess_mode": "mostrecent"},
    ),
    "skmode_model_loads_total": Definition(
        Counter, "Attempts to load a bundle, by result.", ("model", "result"), {}
    ),
    "skmode_shadow_rows_total": Definition(
        Counter, "Rows that the whole mixture predicted as well.", VERSION, {}
    ),
    "skmode_shadow_disagreements_total": Definition(
        Counter,
        "Rows where the prediction of the whole mixture differed from the one that was sent.",
        VERSION,
        {},
    ),
}
