"""The demo in a reduced form: it runs, and its results are plausible."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.parallel import Parallel, delayed

# The fixture runs the demo.
pytestmark = pytest.mark.timeout(1200)

DEMO = Path(__file__).parents[1] / "demo" / "churn.py"
ROUTED = {
    "README.md",
    "estimator.joblib",
    "gate.onnx",
    "manifest.json",
    "model.onnx",
    "samples.json",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo")
    command = [sys.executable, DEMO, "--quick", "--output", output]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return finished, output, json.loads((output / "results.json").read_text())


@pytest.mark.slow
def test_models(run):
    _, _, results = run
    assert results["data"] == {"train_rows": 1125, "test_rows": 375, "columns": 19}
    moe, mode, *references = results["models"]
    assert [moe["alpha"], mode["alpha"]] == [0, 10]
    assert len(references) == 3
    for row in results["models"]:
        for view in {"mixture", "top_expert"} & set(row):
            assert 0.7 < row[view]["accuracy"] < 0.9
            assert 0.3 < row[view]["log_loss"] < 0.7
            assert 0.7 < row[view]["auc"] < 0.95
    for row in (moe, mode):
        assert np.isclose(sum(row["expert_usage"]), 1)
        assert len(row["expert_usage"]) == 4
        assert 0 <= row["consistency"] <= 1


@pytest.mark.slow
def test_serving(run):
    _, output, results = run
    serving = results["serving"]
    assert serving["labels_equal"] == serving["experts_equal"] == 1
    assert serving["largest_probability_difference"] < 1e-5
    assert set(serving["file_bytes"]) == ROUTED | {f"expert_{i}.onnx" for i in range(4)}
    assert (output / "bundle" / "model.onnx").stat().st_size == serving["file_bytes"]["model.onnx"]
    assert set(serving["median_seconds"]) == {"estimator", "skmode_deploy", "onnxruntime"}
    for times in serving["median_seconds"].values():
        assert min(times["1"], times["1000"]) > 0


@pytest.mark.slow
def test_search(run):
    _, _, results = run
    search = results["search"]
    assert search["alpha"] in (0, 10)
    assert [point["alpha"] for point in search["path"]] == [0, 10]


@pytest.mark.slow
def test_output(run):
    finished, output, results = run
    assert (output / "churn.png").read_bytes().startswith(b"\x89PNG")
    for row in results["models"]:
        assert row["name"] in finished.stdout
    assert "equal labels 100.00%" in finished.stdout
    assert "4/4" in finished.stderr  # the bar of the search: two values, two folds
    assert "Warning" not in finished.stderr


@pytest.mark.slow
def test_workers_compute_with_one_thread_and_move_the_bar(capfd):
    spec = importlib.util.spec_from_file_location("churn", DEMO)
    churn = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(churn)
    with churn.parallel_progress("threads", 3) as bar:
        threads = Parallel(n_jobs=2)(delayed(torch.get_num_threads)() for _ in range(3))
        assert bar.n == 3
    assert threads == [1, 1, 1]
