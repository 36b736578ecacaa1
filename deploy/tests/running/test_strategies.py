import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from skmode_deploy import BundleError, bundle, load
from skmode_deploy.errors import GraphInterfaceError
from skmode_deploy.running.strategies import ExpertCache, group_rows

TABLE = {"age": [30.0, None, 3.0], "city": ["Bern", "Köln", None], "plan": [1.0, 1.0, 2.0]}


def make_model(nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in dict(weights).items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def write_bundle(path, n_experts, width=1, **changes):
    """A regressor that answers with the number of its expert.

    The expert is the first column, the gate is sure of it, and experts multiply by a matrix of
    `width` by `width`, which takes memory.
    """
    node = helper.make_node
    X = ("X", TensorProto.FLOAT, ["n", 1])
    expert = ("expert", TensorProto.INT64, ["n"])
    hidden = ("hidden", TensorProto.FLOAT, ["n", 1])
    variable = ("variable", TensorProto.FLOAT, ["n", 1])
    axis, ones = np.array([1]), np.ones((1, width), np.float32)
    gate = [
        node("Cast", ["X"], ["number"], to=TensorProto.INT64),
        node("Squeeze", ["number", "axis"], ["expert"]),
    ]
    files = {
        "model.onnx": make_model(
            [*gate, node("Identity", ["X"], ["variable"]),
             node("Squeeze", ["one", "axis"], ["single"]),
             node("Shape", ["expert"], ["shape"]),
             node("Expand", ["single", "shape"], ["gate_probability"])],
            [X], [variable, expert, ("gate_probability", TensorProto.FLOAT, ["n"])],
            {"axis": axis, "one": np.ones((1, 1), np.float32)},
        ),
        "gate.onnx": make_model(
            [*gate, node("Identity", ["X"], ["hidden"]),
             node("Equal", ["number", "numbers"], ["chosen"]),
             node("Cast", ["chosen"], ["gate_probabilities"], to=TensorProto.FLOAT)],
            [X], [("gate_probabilities", TensorProto.FLOAT, ["n", n_experts]), expert, hidden],
            {"axis": axis, "numbers": np.arange(n_experts)[None]},
        ),
    }  # fmt: skip
    zero = np.zeros((width, width), np.float32)
    for i in range(n_experts):
        files[f"expert_{i}.onnx"] = make_model(
            [node("MatMul", ["hidden", "ones"], ["wide"]), node("MatMul", ["wide", "zero"], ["a"]),
             node("ReduceSum", ["a", "axis"], ["b"]), node("Add", ["b", "answer"], ["variable"])],
            [hidden], [variable],
            {"ones": ones, "zero": zero, "axis": axis, "answer": np.float32(i)},
        )  # fmt: skip
    fields = {
        "task": "regression",
        "routing": "top_expert",
        "input": "array",
        "from_table": False,
        "columns": (bundle.Column("x0", "X", "number", "float32"),),
        "n_outputs": 1,
        "classes": None,
        "n_experts": n_experts,
        "alpha": 0.5,
        "expert_usage": (1 / n_experts,) * n_experts,
        "validation_scores": None,
        "versions": {},
    }
    bundle.write(path, bundle.Manifest(**fields | changes), files)
    return path


def rows(*experts):
    return np.array(experts, np.float32)[:, None]


@pytest.mark.parametrize("max_loaded_experts", [None, 1, 5])
def test_split_predicts_like_the_graph(max_loaded_experts, table_bundle, tmp_path):
    graph = load(table_bundle)
    split = load(table_bundle, strategy="split", max_loaded_experts=max_loaded_experts)
    for mine, other in zip(split.predict_full(TABLE), graph.predict_full(TABLE), strict=True):
        assert_array_equal(mine, other)
        assert mine.dtype == other.dtype
    for method in ("predict", "predict_proba", "route"):
        assert_array_equal(getattr(split, method)(TABLE), getattr(graph, method)(TABLE))
    path = write_bundle(tmp_path / "experts", 5)
    graph = load(path)
    split = load(path, strategy="split", max_loaded_experts=max_loaded_experts)
    rng = np.random.default_rng(0)
    for n_rows in (0, 1, 2, 3, 100):
        X = rows(*rng.integers(0, 5, n_rows)) if n_rows else np.empty((0, 1))
        for mine, other in zip(split.predict_full(X), graph.predict_full(X), strict=True):
            assert_array_equal(mine, other)


def test_experts_load_lazily_and_the_least_recently_used_is_evicted(tmp_path):
    path = write_bundle(tmp_path / "experts", 4)
    split = load(path, strategy="split", max_loaded_experts=2)
    experts = split._strategy.experts
    assert experts.loaded() == []
    split.route(rows(0, 1))
    assert experts.loaded() == []
    split.predict(rows(3, 1))
    assert experts.loaded() == [1, 3]
    split.predict(rows(1))
    assert experts.loaded() == [3, 1]
    split.predict(rows(0))
    assert experts.loaded() == [1, 0]
    split.predict(rows(0, 1, 2, 3))
    assert experts.loaded() == [2, 3]


def test_an_expert_is_checked_when_it_is_loaded(tmp_path):
    path = write_bundle(tmp_path / "experts", 3)
    split = load(path, strategy="split")
    assert split.predict(rows(0)).tolist() == [0]
    file = path / "expert_1.onnx"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"expert_1\.onnx must have the sha256"):
        split.predict(rows(0, 1))
    assert split.predict(rows(0, 2)).tolist() == [0, 2]
    file.write_bytes(data)
    assert split.predict(rows(0, 1)).tolist() == [0, 1]


def test_split_needs_one_expert_per_row(tmp_path):
    message = r'needs a bundle with routing="top_expert".*got routing=\'mixture\' with 2 experts'
    with pytest.raises(ValueError, match=message):
        load(write_bundle(tmp_path / "two", 2, routing="mixture"), strategy="split")
    one = load(write_bundle(tmp_path / "one", 1, routing="mixture"), strategy="split")
    assert one.predict(rows(0, 0)).tolist() == [0, 0]


def test_split_needs_the_parts(tmp_path):
    path = write_bundle(tmp_path / "experts", 2)
    manifest = bundle.read(path)
    bundle.write(path, manifest, {"model.onnx": (path / "model.onnx").read_bytes()})
    assert load(path).predict(rows(1)).tolist() == [1]
    with pytest.raises(ValueError, match=r"needs a bundle with gate\.onnx.*has no gate\.onnx"):
        load(path, strategy="split")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"strategy": "both"}, 'strategy must be "graph" or "split", got \'both\''),
        ({"max_loaded_experts": 3}, r'None with strategy="graph", got 3.*pass strategy="split"'),
        ({"max_loaded_experts": 0, "strategy": "split"}, "max_loaded_experts must be an integer"),
        ({"max_loaded_experts": 2.0, "strategy": "split"}, "max_loaded_experts must be an integer"),
    ],
)
def test_wrong_parameters(parameters, message, table_bundle):
    with pytest.raises(ValueError, match=message):
        load(table_bundle, **parameters)


def test_rows_by_expert():
    groups = [(i, list(rows)) for i, rows in group_rows(np.array([2, 0, 2, 7, 0]))]
    assert groups == [(0, [1, 4]), (2, [0, 2]), (7, [3])]
    assert list(group_rows(np.empty(0, np.int64))) == []


@pytest.mark.parametrize("expert", [-1, 0, 5])
def test_no_row_is_left_out(expert):
    ((found, rows),) = group_rows(np.full(3, expert))
    assert (found, rows.tolist()) == (expert, [0, 1, 2])


@pytest.mark.parametrize("experts", [(-1,), (3,), (0, -1), (0, 1, 3)])
def test_a_gate_that_chooses_an_unknown_expert(experts, tmp_path):
    predictor = load(write_bundle(tmp_path / "bundle", 3), strategy="split")
    message = f"gate.onnx must choose experts from 0 to 2, got {experts[-1]}"
    with pytest.raises(GraphInterfaceError, match=message):
        predictor.predict(rows(*experts))


def test_threads_wait_only_for_the_expert_that_they_need():
    loading, proceed = threading.Event(), threading.Event()

    def open_expert(i):
        if i == 0:
            loading.set()
            assert proceed.wait(60)
        return object()

    cache = ExpertCache(open_expert, limit=2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, 0)
        assert loading.wait(60)
        second = pool.submit(cache.get, 0)
        others = [cache.get(i) for i in (1, 1, 2)]  # while expert 0 is loading
        assert others[0] is others[1]
        assert not first.done()
        proceed.set()
        assert first.result(60) is second.result(60)
    assert cache.loaded() == [1, 2]


def test_threads_share_a_predictor(tmp_path):
    path = write_bundle(tmp_path / "experts", 12)
    for parameters in ({}, {"strategy": "split", "max_loaded_experts": 2}):
        predictor = load(path, **parameters)
        rng = np.random.default_rng(0)
        batches = [rows(*rng.integers(0, 12, rng.integers(1, 9))) for _ in range(160)]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(predictor.predict, batches))
        for batch, answer in zip(batches, answers, strict=True):
            assert_array_equal(answer, batch[:, 0])


MEASURE = """
import json, resource, sys
import numpy as np
from skmode_deploy import load

def memory():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize() / 2**20

limit = json.loads(sys.argv[2])
predictor = load(sys.argv[1], strategy="split", max_loaded_experts=limit)
sizes = []
rng = np.random.default_rng(0)
for passes in range(3):
    for i in rng.permutation(256):
        assert predictor.predict(np.full((2, 1), i, np.float32)).tolist() == [i, i]
        if len(sizes) == 0 and len(predictor._strategy.experts.loaded()) == 8:
            sizes.append(memory())
    sizes.append(memory())
print(json.dumps(sizes))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_is_flat_with_a_limit(tmp_path):
    """256 experts of 0.4 MB each, 8 of them at once; with all of them memory grows."""
    path = write_bundle(tmp_path / "experts", 256, width=320)

    def measure(limit):
        command = [sys.executable, "-c", MEASURE, str(path), json.dumps(limit)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        first, *rest = json.loads(output)
        return [size - first for size in rest]

    limited, unlimited = measure(8), measure(None)
    assert max(limited) < 16  # 768 experts were loaded since: 300 MB of weights
    assert unlimited[0] > 96
