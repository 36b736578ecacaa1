"""A student in production: taught again by a teacher of new rows, swapped in, and rolled back."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.ensemble import RandomForestClassifier

import skmode_deploy
from skmode import MoDEClassifier
from skmode.onnx import export
from skmode_deploy.samples import check_samples
from skmode_deploy.serving.models.rollback import rollback

httpx = pytest.importorskip("httpx")
pytest.importorskip("grpc")

ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def teach(turned, folder):
    """Refit the teacher on rows of today, teach a student, and export it."""
    rng = np.random.default_rng(turned)
    X = rng.normal(size=(300, 3))
    y = (X[:, turned] + 0.3 * rng.normal(size=300) > 0).astype(int)
    teacher = RandomForestClassifier(20, min_samples_leaf=5, random_state=0)
    student = MoDEClassifier(
        2, hidden_layer_sizes=(16,), max_epochs=10, random_state=0, inference="top_expert",
        teacher=teacher, teacher_weight=0.5,
    ).fit(X, y)  # fmt: skip
    export(student, folder, X=X)
    check_samples(skmode_deploy.load(folder))
    return student


def ask(server):
    body = {
        "inputs": [
            {"name": "X", "datatype": "FP32", "shape": [20, 3], "data": ROWS.flatten().tolist()}
        ]
    }
    answer = httpx.post(f"{server.url}/v2/models/churn/infer", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    outputs = {each["name"]: each["data"] for each in found["outputs"]}
    return found["model_version"], np.reshape(outputs["probabilities"], (20, 2))


def test_a_student_is_swapped_in_and_rolled_back(tmp_path, start_server):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = teach(0, tmp_path / "models" / "churn" / "1")
        server = start_server(tmp_path / "models", "--watch", "--watch-interval", "0.1")
        version, probabilities = ask(server)
        assert version == "1"
        assert_allclose(probabilities, before.predict_proba(ROWS), atol=1e-5)
        after = teach(1, tmp_path / "models" / "churn" / "2")
    server.wait_for(lambda: ask(server)[0] == "2", 30)
    assert_allclose(ask(server)[1], after.predict_proba(ROWS), atol=1e-5)
    assert np.abs(after.predict_proba(ROWS) - before.predict_proba(ROWS)).max() > 0.2
    manifest = skmode_deploy.bundle.read(tmp_path / "models" / "churn" / "2")
    assert manifest.teacher.names == ("RandomForestClassifier",)
    assert rollback(tmp_path / "models", "churn") == (2, 1)
    server.wait_for(lambda: ask(server)[0] == "1", 30)
    assert_allclose(ask(server)[1], before.predict_proba(ROWS), atol=1e-5)
