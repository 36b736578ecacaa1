"""Several versions at a time, and replacing them while requests run."""

import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose

httpx = pytest.importorskip("httpx")


def put(source, folder):
    """Copy a bundle beside its place and move it there, as `export` does."""
    fresh = folder.with_name(f".{folder.name}-0123456789abcdef")
    shutil.copytree(source, fresh)
    fresh.rename(folder)


def current(server, name="credit"):
    """Number that is served under the plain name."""
    text = httpx.get(f"{server.url}/metrics").text
    (line,) = [
        line
        for line in text.splitlines()
        if line.startswith(f'skmode_model_current_version{{model="{name}"')
    ]
    return int(float(line.split()[-1]))


def rollback(*arguments):
    command = [sys.executable, "-m", "skmode_deploy", "rollback", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


class Load:
    """Threads that ask all the time, and compare the answers with the estimators' own."""

    def __init__(self, server, credit_rows, credit_answers, to_inputs, n_threads=3):
        self.url = f"{server.url}/v2/models/credit/infer"
        self.expected = credit_answers
        self.bodies = [
            (start, {"inputs": to_inputs(credit_rows[start : start + 10])})
            for start in range(0, 200, 10)
        ]
        self.wrong, self.versions, self.count = [], [], 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(n_threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, i):
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                i += 1
                start, body = self.bodies[i % len(self.bodies)]
                try:
                    self._check(client.post(self.url, json=body), start)
                except Exception as error:
                    self.wrong.append(repr(error))
                    return

    def _check(self, response, start):
        self.count += 1
        if response.status_code != 200:
            self.wrong.append(response.text)
            return
        document = response.json()
        version = document["model_version"]
        if not self.versions or self.versions[-1] != version:
            self.versions.append(version)
        outputs = {output["name"]: output["data"] for output in document["outputs"]}
        expected = self.expected[version]["probabilities"][start : start + 10]
        if not np.allclose(np.reshape(outputs["probabilities"], (10, 2)), expected, atol=1e-5):
            self.wrong.append(f"a wrong answer of version {version}")


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("credit", "2"),
        ("credit@1", "1"),
        ("credit@2", "2"),
        ("credit/versions/1", "1"),
        ("credit/versions/2", "2"),
    ],
)
def test_each_version_predicts(server, credit_rows, credit_answers, to_inputs, path, version):
    body = {"inputs": to_inputs(credit_rows[:100])}
    response = httpx.post(f"{server.url}/v2/models/{path}/infer", json=body)
    document = response.json()
    assert document["model_name"] == "credit"
    assert document["model_version"] == version
    outputs = {output["name"]: output["data"] for output in document["outputs"]}
    found = np.reshape(outputs["probabilities"], (100, 2))
    assert_allclose(found, credit_answers[version]["probabilities"][:100], atol=1e-5)


def test_swap_and_rollback_while_requests_run(
    start_server, own_models, models, credit_rows, credit_answers, to_inputs
):
    shutil.rmtree(own_models / "credit" / "2")
    server = start_server(own_models, "--watch", "--watch-interval", "0.1")
    assert current(server) == 1
    with Load(server, credit_rows, credit_answers, to_inputs) as load:
        server.wait_for(lambda: load.count > 20)
        put(models / "credit" / "2", own_models / "credit" / "2")
        server.wait_for(lambda: current(server) == 2)
        count = load.count
        server.wait_for(lambda: load.count > count + 20)
        done = rollback(own_models, "credit")
        assert (done.returncode, done.stdout) == (0, "credit: version 1 instead of 2\n")
        server.wait_for(lambda: current(server) == 1)
        done = rollback(own_models, "credit", "--latest")
        assert (done.returncode, done.stdout) == (0, "credit: version 2 instead of 1\n")
        server.wait_for(lambda: current(server) == 2)
        done = rollback(own_models, "credit", "--to", "1")
        assert done.returncode == 0
        server.wait_for(lambda: current(server) == 1)
        count = load.count
        server.wait_for(lambda: load.count > count + 20)
    assert load.wrong == []
    assert {"1", "2"} <= set(load.versions)
    assert load.versions[0] == load.versions[-1] == "1"
    switched = [log for log in server.logs("model switched") if log["model"] == "credit"]
    assert [log["version"] for log in switched] == [1, 2, 1, 2, 1]


def test_a_version_that_cannot_be_loaded_changes_nothing(
    start_server, own_models, models, credit_rows, credit_answers, to_inputs
):
    server = start_server(own_models, "--watch", "--watch-interval", "0.1")
    with Load(server, credit_rows, credit_answers, to_inputs, 1) as load:
        broken = own_models / "credit" / ".3-0123456789abcdef"
        shutil.copytree(models / "credit" / "1", broken)
        data = (broken / "model.onnx").read_bytes()
        (broken / "model.onnx").write_bytes(data[:-100] + bytes(100))
        os.rename(broken, own_models / "credit" / "3")
        log = server.wait_for_log("model failed", model="credit", version=3)
        assert log["level"] == "error"
        assert "model.onnx" in log["reason"]
        count = load.count
        server.wait_for(lambda: load.count > count + 10)
    assert load.wrong == []
    assert load.versions == ["2"]
    text = httpx.get(f"{server.url}/metrics").text
    assert 'skmode_model_loads_total{model="credit",result="failed"} 1.0' in text
    assert httpx.get(f"{server.url}/v2/models/credit/versions/3").status_code == 404
    assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200


def test_removed_versions_and_models(start_server, own_models, iris_body):
    """A removed old version goes away; a removed current version still serves from memory."""
    server = start_server(own_models, "--watch", "--watch-interval", "0.1")

    def metadata(path):
        return httpx.get(f"{server.url}/v2/models/{path}")

    assert metadata("credit").json()["versions"] == ["1", "2"]
    shutil.rmtree(own_models / "credit" / "1")
    server.wait_for(lambda: metadata("credit").json()["versions"] == ["2"])
    assert metadata("credit@1").status_code == 404
    assert metadata("credit/versions/1").status_code == 404
    text = httpx.get(f"{server.url}/metrics").text
    info = [line for line in text.splitlines() if line.startswith("skmode_model_info{")]
    gone = [line for line in info if 'version="1"' in line and 'model="credit"' in line]
    assert [line for line in gone if not line.endswith(" 0.0")] == []
    shutil.rmtree(own_models / "iris")
    log = server.wait_for_log("model failed", model="iris")
    assert "is gone" in log["reason"]
    response = httpx.post(f"{server.url}/v2/models/iris/infer", json=iris_body)
    assert response.status_code == 200


def test_a_new_model_is_found(start_server, own_models, models, iris_body):
    shutil.rmtree(own_models / "iris")
    server = start_server(own_models, "--watch", "--watch-interval", "0.1")
    url = f"{server.url}/v2/models/flowers/infer"
    assert httpx.post(url, json=iris_body).status_code == 404
    put(models / "iris" / "1", own_models / "flowers")  # a bundle at once, without versions
    server.wait_for(lambda: httpx.post(url, json=iris_body).status_code == 200)
    assert httpx.get(f"{server.url}/v2/models/flowers").json()["versions"] == ["1"]
    assert "/v2/models/flowers/infer" in httpx.get(f"{server.url}/openapi.json").json()["paths"]


def test_without_watching_nothing_changes(own_models, start_server, models):
    shutil.rmtree(own_models / "credit" / "2")
    quiet = start_server(own_models)
    put(models / "credit" / "2", own_models / "credit" / "2")
    time.sleep(1)
    assert httpx.get(f"{quiet.url}/v2/models/credit").json()["versions"] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none"),
        (["credit", "--to", "9"], "9"),
        (["iris"], "iris"),
    ],
)
def test_an_impossible_rollback_is_explained(own_models, arguments, message):
    done = rollback(own_models, *arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
