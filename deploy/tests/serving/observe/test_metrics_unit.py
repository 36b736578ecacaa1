"""The metrics without a server."""

import dataclasses

import numpy as np
import pytest

prometheus_client = pytest.importorskip("prometheus_client")

from skmode_deploy import load  # noqa: E402
from skmode_deploy.serving.observe.metrics import (  # noqa: E402
    METRIC_NAMES,
    Metrics,
    ModelMetrics,
    observe_many,
)


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def predictor(table_bundle):
    return load(table_bundle)


@pytest.fixture
def model(metrics, predictor):
    return ModelMetrics(metrics, "churn", "3", predictor.manifest)


VERSION = {"model": "churn", "version": "3"}


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def score(metrics, model, predictor, rows):
    metrics.scored(model, rows, predictor.predict_full(rows))
    metrics.flush()


def table(age, city, plan):
    return {
        "age": np.array(age, np.float32),
        "city": np.array(city, object),
        "plan": np.array(plan, np.float64),
    }


def test_rows_missing_and_unseen(metrics, model, predictor):
    for _ in range(2):
        score(
            metrics,
            model,
            predictor,
            table([1, np.nan, 3, 4], ["Bern", "", "Rom", "Oslo"], [1, np.nan, 3, 2]),
        )
    assert value(metrics, "skmode_rows_total", **VERSION) == 8
    assert value(metrics, "skmode_expert_rows_total", **VERSION, expert="0") == 6
    assert value(metrics, "skmode_expert_rows_total", **VERSION, expert="1") == 2
    assert value(metrics, "skmode_request_rows_count", model="churn") == 2
    assert value(metrics, "skmode_request_rows_sum", model="churn") == 8
    missing = [
        value(metrics, "skmode_missing_values_total", **VERSION, column=column)
        for column in ("age", "city", "plan")
    ]
    unseen = [
        value(metrics, "skmode_unseen_categories_total", **VERSION, column=column)
        for column in ("age", "city", "plan")
    ]
    assert missing == [2, 2, 2]
    assert unseen == [None, 4, 2]  # numbers are no categories


def test_an_array(metrics, make_regressor):
    predictor = load(make_regressor())
    model = ModelMetrics(metrics, "price", "1", predictor.manifest)
    X = np.array([[1, 2, np.nan], [np.nan, 2, np.nan], [1, 5, 3]], np.float32)
    metrics.scored(model, X, predictor.predict_full(np.nan_to_num(X)))
    metrics.flush()
    labels = {"model": "price", "version": "1"}
    missing = [
        value(metrics, "skmode_missing_values_total", **labels, column=f"x{i}") for i in range(3)
    ]
    assert missing == [1, 0, 2]
    assert value(metrics, "skmode_unseen_categories_total", **labels, column="x0") is None


def test_several_models_are_kept_apart(metrics, predictor):
    first, second = (
        ModelMetrics(metrics, "churn", version, predictor.manifest) for version in "12"
    )
    rows = table([1], ["Bern"], [1])
    for model in (first, second, first):
        metrics.scored(model, rows, predictor.predict_full(rows))
    metrics.flush()
    assert value(metrics, "skmode_rows_total", model="churn", version="1") == 2
    assert value(metrics, "skmode_rows_total", model="churn", version="2") == 1


def test_many_rows_are_counted_before_a_scrape(metrics, model, predictor):
    rows = table([1.0] * 10_000, ["Bern"] * 10_000, [1.0] * 10_000)
    prediction = predictor.predict_full(rows)
    for _ in range(20):
        metrics.scored(model, rows, prediction)
    assert value(metrics, "skmode_rows_total", **VERSION) >= 100_000


def test_no_drift_before_500_rows(metrics, model, predictor):
    few = table([1.0] * 400, ["Bern"] * 400, [1.0] * 400)
    score(metrics, model, predictor, few)
    assert value(metrics, "skmode_routing_drift", **VERSION) is None
    score(metrics, model, predictor, few)
    # In training a quarter of the rows went to the first expert.
    assert value(metrics, "skmode_routing_drift", **VERSION) > 0.25
    assert value(metrics, "skmode_expert_training_share", **VERSION, expert="0") == 0.25


def info(metrics, manifest):
    labels = {**VERSION, "task": "classification", "bundle": manifest.file_hash()[:12]}
    return value(metrics, "skmode_model_info", **labels)


def test_metrics_of_a_bundle_are_removed_with_it(metrics, model, predictor):
    """One that takes its place in the same version has another share for each expert."""
    many = table([1.0] * 1000, ["Bern"] * 1000, [1.0] * 1000)
    score(metrics, model, predictor, many)
    assert info(metrics, predictor.manifest) == 1
    assert value(metrics, "skmode_routing_drift", **VERSION) > 0.25
    model.retired()
    assert info(metrics, predictor.manifest) is None
    assert value(metrics, "skmode_routing_drift", **VERSION) is None
    manifest = dataclasses.replace(predictor.manifest, expert_usage=(1.0,))
    ModelMetrics(metrics, "churn", "3", manifest)
    assert value(metrics, "skmode_expert_training_share", **VERSION, expert="0") == 1
    assert value(metrics, "skmode_expert_training_share", **VERSION, expert="1") is None
    assert info(metrics, manifest) == 1
    assert value(metrics, "skmode_rows_total", **VERSION) == 1000  # counters never go back


def test_forgetting_is_skipped_with_several_processes(metrics, model, predictor, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "folder")
    model.retired()
    assert info(metrics, predictor.manifest) == 0


def test_loads_and_the_current_version(metrics):
    metrics.loaded("churn", True)
    metrics.loaded("churn", True)
    metrics.loaded("churn", False)
    metrics.switched("churn", 7)
    assert value(metrics, "skmode_model_loads_total", model="churn", result="loaded") == 2
    assert value(metrics, "skmode_model_loads_total", model="churn", result="failed") == 1
    assert value(metrics, "skmode_model_current_version", model="churn") == 7


def test_requests(metrics):
    metrics.requested("churn", "3", "rest", "200", 0.003)
    metrics.requested("churn", "3", "rest", "400", 0.0001)
    metrics.rejected("queue_full")
    labels = {**VERSION, "protocol": "rest"}
    assert value(metrics, "skmode_requests_total", **labels, code="200") == 1
    assert value(metrics, "skmode_requests_total", **labels, code="400") == 1
    seconds = {"model": "churn", "protocol": "rest"}
    assert value(metrics, "skmode_request_seconds_bucket", **seconds, le="0.001") == 1
    assert value(metrics, "skmode_request_seconds_bucket", **seconds, le="0.005") == 2
    assert value(metrics, "skmode_rejected_total", reason="queue_full") == 1


def test_shadow(metrics, model):
    model.shadowed(10, 3)
    model.shadowed(10, 0)
    assert value(metrics, "skmode_shadow_rows_total", **VERSION) == 20
    assert value(metrics, "skmode_shadow_disagreements_total", **VERSION) == 3


@pytest.mark.parametrize(("n_rows", "observed"), [(1, 1), (256, 256), (257, 129), (10_000, 250)])
def test_large_observations_are_sampled(n_rows, observed):
    histogram = prometheus_client.Histogram("h", "h", registry=None, buckets=(0.5,))
    observe_many(histogram, np.linspace(0, 1, n_rows))
    samples = {sample.name: sample.value for sample in histogram.collect()[0].samples}
    assert samples["h_count"] == observed
    if n_rows > 1:
        assert samples["h_sum"] / observed == pytest.approx(0.5, abs=0.02)


def test_every_metric_name_is_valid(metrics):
    assert len(set(METRIC_NAMES)) == len(METRIC_NAMES)
    for name in METRIC_NAMES:
        assert name.startswith("skmode_")
    families = {family.name for family in metrics.registry.collect()}
    assert {name.removesuffix("_total") for name in METRIC_NAMES} == families


def test_images_are_not_kept(metrics, make_image_bundle):
    """Rows wait to be counted together; images would fill the memory meanwhile, for nothing."""
    predictor = load(make_image_bundle())
    model = ModelMetrics(metrics, "images", "1", predictor.manifest)
    images = np.zeros((3, 4, 6), np.uint8)
    metrics.scored(model, images, predictor.predict_full(images))
    assert metrics._pending[0][1] is None
    metrics.flush()
    assert value(metrics, "skmode_rows_total", model="images", version="1") == 3
