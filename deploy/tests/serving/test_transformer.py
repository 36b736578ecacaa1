"""Texts whose order counts: a small transformer from `fit` to the answers of a running server."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skmode import MoDETextClassifier
from skmode.onnx import export

httpx = pytest.importorskip("httpx")
pytest.importorskip("grpc")
http = pytest.importorskip("tritonclient.http")

# The same words in each class: only their order differs.
LABELS = np.arange(120) % 2
TEXTS = [
    ("bad {} good" if label else "good {} bad").format(" ".join(["red", "sun", "été"][: i % 4]))
    for i, label in enumerate(LABELS)
]
# One is longer than the 12 tokens that the trunk reads; others have no known word, or nothing.
UNSEEN = ["good sun red bad", "bad été été good", "good " * 40, "漢字 🙂", "", "!"]


@pytest.fixture(scope="module")
def fitted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MoDETextClassifier(
            2, text_encoder="transformer", transformer_heads=2, hidden_layer_sizes=(8,),
            token_embedding_size=8, vocab_size=300, max_tokens=12, alpha=0.1, balance=0.03,
            batch_size=24, learning_rate=0.01, tune_tokens=True, early_stopping=False,
            max_epochs=30, inference="top_expert", random_state=0,
        ).fit(TEXTS, LABELS)  # fmt: skip


def test_a_server_reads_the_order_of_words(fitted, tmp_path, start_server):
    export(fitted, tmp_path / "models" / "order" / "1", X=TEXTS)
    server = start_server(tmp_path / "models")
    expected = fitted.predict_proba(TEXTS[:20] + UNSEEN)
    assert fitted.score(TEXTS[:20], LABELS[:20]) > 0.9

    def ask(texts):
        data = http.InferInput("text", [len(texts), 1], "BYTES")
        data.set_data_from_numpy(np.array([[each.encode()] for each in texts], dtype=object))
        return http.InferenceServerClient(server.url.removeprefix("http://")).infer("order", [data])

    answer = ask(TEXTS[:20] + UNSEEN)
    assert_allclose(answer.as_numpy("probabilities"), expected, atol=1e-5)
    alone = np.vstack([ask([text]).as_numpy("probabilities") for text in UNSEEN])
    assert_allclose(alone, expected[20:], atol=1e-5)  # padding to the longest text changes nothing

    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [7]}]}
    refused = httpx.post(f"{server.url}/v2/models/order/infer", json=body, timeout=20)
    assert refused.status_code == 400
    assert "text" in refused.json()["error"]
