"""The metrics of a server, compared with the requests that it got."""

import math
import time

import numpy as np
import pytest

import skmode_deploy

httpx = pytest.importorskip("httpx")
grpc = pytest.importorskip("grpc")
parser = pytest.importorskip("prometheus_client.parser")


class Samples(dict):
    """Values by name and labels."""

    def get_all(self, name):
        return {labels: value for (found, labels), value in self.items() if found == name}

    def one(self, name, **labels):
        return self.get((name, frozenset(labels.items())))


def read(server):
    response = httpx.get(server.metrics_url)
    assert response.status_code == 200
    samples = Samples()
    for family in parser.text_string_to_metric_families(response.text):
        for sample in family.samples:
            samples[sample.name, frozenset(sample.labels.items())] = sample.value
    return samples


def read_when(server, name, value, **labels):
    """Read when a sum has reached its value: rows are counted some time after their answer."""
    found = [None]

    def reached():
        found[0] = read(server)
        return (found[0].one(name, **labels) or 0) >= value

    server.wait_for(reached, 20)
    return found[0]


def difference(after, before):
    return Samples({key: value - before.get(key, 0) for key, value in after.items()})


def ask(server, model, inputs, **headers):
    return httpx.post(
        f"{server.url}/v2/models/{model}/infer",
        json={"inputs": inputs},
        headers=headers,
        timeout=60,
    )


@pytest.fixture(scope="module")
def measured(start_module_server, models):
    return start_module_server(models, "--metrics-port", "free")


def test_rows_requests_and_experts(measured, credit_rows, to_inputs, models):
    predictor = skmode_deploy.load(models / "credit" / "2")
    before = read(measured)
    for start in range(0, 1000, 250):
        rows = credit_rows[start : start + 250]
        assert ask(measured, "credit", to_inputs(rows)).status_code == 200
    assert ask(measured, "credit@1", to_inputs(credit_rows[:10])).status_code == 200
    one, two = ({"model": "credit", "version": version} for version in "12")
    n_rows = (before.one("skmode_rows_total", **one) or 0) + 10
    found = difference(read_when(measured, "skmode_rows_total", n_rows, **one), before)
    assert found.one("skmode_rows_total", **one) == 10
    assert found.one("skmode_rows_total", **two) == 1000
    assert found.one("skmode_requests_total", **two, protocol="rest", code="200") == 4
    counts = np.bincount(predictor.route(credit_rows), minlength=4)
    for expert, count in enumerate(counts):
        assert found.one("skmode_expert_rows_total", **two, expert=str(expert)) == count
    assert found.one("skmode_request_rows_count", model="credit") == 5
    assert found.one("skmode_request_rows_sum", model="credit") == 1010
    assert found.one("skmode_request_seconds_count", model="credit", protocol="rest") == 5
    # All rows of a request with up to 256 of them are in the histogram.
    confidence = predictor.predict_full(credit_rows).gate_probability
    assert found.one("skmode_gate_confidence_count", **two) == 1000
    assert found.one("skmode_gate_confidence_sum", **two) == pytest.approx(
        confidence.sum(), rel=1e-3
    )
    below = found.one("skmode_gate_confidence_bucket", **two, le="0.9")
    assert below == np.count_nonzero(confidence <= 0.9)


def test_missing_and_unseen_values_are_counted_exactly(measured, credit_rows, to_inputs):
    rows = credit_rows.astype({"Home": object, "Job": object})
    rows.loc[:6, "Home"] = None
    rows.loc[10:14, "Job"] = "astronaut"
    rows.loc[20:22, "Job"] = "sailor"
    labels = {"model": "credit", "version": "2"}
    before = read(measured)
    assert ask(measured, "credit", to_inputs(rows)).status_code == 200
    n_rows = before.one("skmode_rows_total", **labels) + 1000
    found = difference(read_when(measured, "skmode_rows_total", n_rows, **labels), before)

    def counts(name):
        return {
            dict(labels)["column"]: value
            for labels, value in found.get_all(name).items()
            if value and dict(labels)["version"] == "2"
        }

    missing = rows.isna().sum()
    assert missing["Home"] == 7
    assert counts("skmode_missing_values_total") == missing[missing > 0].to_dict()
    assert counts("skmode_unseen_categories_total") == {"Job": 8}
    text = httpx.get(measured.metrics_url).text
    assert "astronaut" not in text
    assert "sailor" not in text


def test_drift_is_low_on_rows_as_in_training_and_high_for_one_expert(
    measured, models, trained, estimators
):
    X = trained.diabetes_rows
    predictor = skmode_deploy.load(models / "diabetes" / "1")
    names = {"model": "diabetes", "version": "1"}

    sent = [0]

    def send(rows):
        sent[0] += len(rows)
        tensor = {"name": "X", "datatype": "FP32", "shape": list(rows.shape)}
        response = ask(measured, "diabetes", [{**tensor, "data": rows.ravel().tolist()}])
        assert response.status_code == 200

    def drift():
        found = read_when(measured, "skmode_rows_total", sent[0], **names)
        return found.one("skmode_routing_drift", **names)

    send(X)
    assert drift() is None or math.isnan(drift())  # 200 rows say nothing
    usage = predictor.manifest.expert_usage
    for expert, share in enumerate(usage):
        found = read(measured).one("skmode_expert_training_share", **names, expert=str(expert))
        assert found == pytest.approx(share)
    routes = predictor.route(X)
    # As many rows of each expert as in training.
    rng = np.random.default_rng(0)
    alike = [
        rng.choice(np.flatnonzero(routes == expert), round(2000 * share))
        for expert, share in enumerate(usage)
        if share > 0 and (routes == expert).any()
    ]
    send(X[np.concatenate(alike)])
    assert drift() < 0.1
    one = X[routes == np.bincount(routes).argmax()]
    for _ in range(2):
        send(one[np.arange(5000) % len(one)])
    assert drift() > 0.25


def test_requests_that_are_refused(measured, iris_body):
    before = read(measured)
    url = f"{measured.url}/v2/models"
    assert httpx.post(f"{url}/iris/infer", content=b"{").status_code == 400
    assert httpx.post(f"{url}/made-up-by-a-client/infer", json=iris_body).status_code == 404
    assert httpx.post(f"{url}/iris/versions/12345/infer", json=iris_body).status_code == 404
    assert httpx.post(f"{url}/iris/infer", content=b" " * (2**24 + 1)).status_code == 413
    found = difference(read(measured), before)
    requests = found.get_all("skmode_requests_total")
    codes = sorted((dict(k)["model"], dict(k)["code"], v) for k, v in requests.items() if v)
    assert codes == [("", "404", 2), ("iris", "400", 1), ("iris", "413", 1)]
    assert found.one("skmode_rejected_total", reason="body_size") == 1
    text = httpx.get(measured.metrics_url).text
    assert "made-up" not in text
    assert "12345" not in text


def test_no_label_comes_from_a_client(measured, credit_rows, to_inputs):
    """Model, version, column and code are the server's words, whatever is sent."""
    before = set(read(measured))
    marker = "zzmarker"
    inputs = to_inputs(credit_rows[:3])
    for tensor in inputs:
        if tensor["datatype"] == "BYTES":
            tensor["data"] = [marker] * 3
    assert ask(measured, "credit", inputs, **{"x-request-id": marker}).status_code == 200
    inputs[0]["name"] = marker
    assert ask(measured, "credit", inputs).status_code == 400
    assert ask(measured, marker, inputs).status_code == 404
    assert ask(measured, f"credit@{marker}", inputs).status_code == 404
    assert httpx.request(marker.upper(), f"{measured.url}/v2/{marker}").status_code in (
        400,
        404,
        405,
    )
    channel = grpc.insecure_channel(measured.grpc_address)
    with channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError):
            call(b"\x0a" + bytes([len(marker)]) + marker.encode())
    text = httpx.get(measured.metrics_url).text
    assert marker not in text.lower()
    time.sleep(2.5)  # until all is counted
    after = set(read(measured))
    # The second time nothing new arises: series do not grow with what clients send.
    assert ask(measured, f"{marker}2", inputs).status_code == 404
    assert set(read(measured)) == after
    assert len(after - before) < 60


def test_grpc_is_counted(measured):
    with grpc.insecure_channel(measured.grpc_address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError):
            call(b"\x0a\x04iris")
    found = read(measured)
    labels = {"model": "iris", "version": "1", "protocol": "grpc"}
    assert found.one("skmode_requests_total", **labels, code="INVALID_ARGUMENT") == 1
    assert found.one("skmode_request_seconds_count", model="iris", protocol="grpc") == 1


def test_loaded_versions_are_shown(measured, models):
    found = read(measured)
    assert found.one("skmode_model_current_version", model="credit") == 2
    infos = found.get_all("skmode_model_info")
    assert set(infos.values()) == {1}
    labels = {(dict(k)["model"], dict(k)["version"]): dict(k) for k in infos}
    assert set(labels) == {("credit", "1"), ("credit", "2"), ("diabetes", "1"), ("iris", "1")}
    assert labels["diabetes", "1"]["task"] == "regression"
    for (model, version), label in labels.items():
        manifest = skmode_deploy.bundle.read(models / model / version)
        assert label["bundle"] == manifest.file_hash()[:12]
    assert found.one("skmode_model_loads_total", model="credit", result="loaded") == 2
    assert found.one("process_resident_memory_bytes") > 10**7


def test_the_mixture_is_compared_with_the_top_expert(start_server, models, credit_rows, to_inputs):
    server = start_server(models, "--shadow", "1")
    assert ask(server, "credit", to_inputs(credit_rows)).status_code == 200
    labels = {"model": "credit", "version": "2"}
    server.wait_for(lambda: read(server).one("skmode_shadow_rows_total", **labels) == 1000, 20)
    found = read(server).one("skmode_shadow_disagreements_total", **labels)
    assert found == pytest.approx(disagreements(models / "credit" / "2", credit_rows), abs=2)


def disagreements(folder, rows):
    """How often the answers of all experts, weighted by the gate, choose another class."""
    import onnxruntime

    from skmode_deploy.samples import graph_inputs

    predictor = skmode_deploy.load(folder)
    feed = graph_inputs(predictor.manifest, rows)
    gate = onnxruntime.InferenceSession(folder / "gate.onnx")
    hidden, weights = gate.run(["hidden", "gate_probabilities"], feed)
    mixed = sum(
        weights[:, [i]]
        * onnxruntime.InferenceSession(folder / f"expert_{i}.onnx").run(
            ["probabilities"], {"hidden": hidden}
        )[0]
        for i in range(weights.shape[1])
    )
    top = predictor.predict_proba(rows)
    return np.count_nonzero(mixed.argmax(axis=1) != top.argmax(axis=1))


def test_a_shadow_share_counts_that_share(start_server, models, iris_body):
    server = start_server(models, "--shadow", "0.5")
    with httpx.Client() as client:
        for _ in range(100):
            client.post(f"{server.url}/v2/models/iris/infer", json=iris_body)
    labels = {"model": "iris", "version": "1"}
    rows = read_when(server, "skmode_shadow_rows_total", 1, **labels)
    assert 0 < rows.one("skmode_shadow_rows_total", **labels) < 225  # of 300


def test_a_folder_of_another_program_is_left_alone(start_server, models, tmp_path):
    """Who starts the server may count in files; one process does not."""
    folder = str(tmp_path / "none")
    names = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
    server = start_server(
        models / "iris" / "1", "--name", "iris", environment=dict.fromkeys(names, folder)
    )
    assert read(server).one("skmode_model_current_version", model="iris") == 1


@pytest.mark.slow
@pytest.mark.parametrize("own_port", [True, False])
def test_two_processes_are_summed(start_server, models, trained, credit_rows, to_inputs, own_port):
    flags = ["--metrics-port", "free"] if own_port else []
    server = start_server(models, "--workers", "2", *flags)
    assert len({log["models"][0] for log in server.logs("serving")}) == 1
    inputs = to_inputs(credit_rows[:20])
    for _ in range(40):  # a connection each: both processes answer some
        assert ask(server, "credit", inputs).status_code == 200
    labels = {"model": "credit", "version": "2"}
    read_when(server, "skmode_rows_total", 800, **labels)
    for _ in range(4):  # whoever answers, it is the sum
        found = read(server)
        assert found.one("skmode_rows_total", **labels) == 800
        assert found.one("skmode_requests_total", **labels, protocol="rest", code="200") == 40
        assert found.one("skmode_model_info", **only(found, "skmode_model_info", **labels)) == 1
        assert found.one("skmode_model_current_version", model="credit") == 2
        assert found.one("skmode_requests_running") == 0
        experts = found.get_all("skmode_expert_rows_total")
        assert sum(v for k, v in experts.items() if dict(k)["version"] == "2") == 800
    # The drift is that of the process which sees more of it.
    X = trained.diabetes_rows
    routes = skmode_deploy.load(models / "diabetes" / "1").route(X)
    one = X[routes == np.bincount(routes).argmax()]
    rows = one[np.arange(1000) % len(one)]
    tensor = {"name": "X", "datatype": "FP32", "shape": [1000, 10], "data": rows.ravel().tolist()}
    for _ in range(4):
        assert ask(server, "diabetes", [tensor]).status_code == 200
    labels = {"model": "diabetes", "version": "1"}
    found = read_when(server, "skmode_rows_total", 4000, **labels)
    assert found.one("skmode_routing_drift", **labels) > 0.25


def only(found, name, **labels):
    wanted = set(labels.items())
    (match,) = [key for key in found.get_all(name) if wanted <= key]
    return dict(match)


def test_all_metrics_are_described(measured, credit_rows, to_inputs):
    from skmode_deploy.serving.observe.metrics import METRIC_NAMES

    ask(measured, "credit", to_inputs(credit_rows))
    text = httpx.get(measured.metrics_url).text
    for name in METRIC_NAMES:
        assert f"# HELP {name} " in text, name
