"""Bundles made by hand, so that these tests need neither torch nor skmode."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skmode_deploy import bundle

COMMON = {"alpha": 0.5, "versions": {"skmode": "0"}, "created": "2026-11-22T05:00:00Z"}


def make_model(nodes, inputs, outputs, weights):
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def make_table_files():
    """The graphs of `table_bundle`."""
    node = helper.make_node
    code = [
        node("LabelEncoder", ["city"], ["code"], domain="ai.onnx.ml",
             keys_strings=["", "Bern", "Köln"], values_int64s=[0, 2, 3], default_int64=1),
        node("Squeeze", ["code", "axis"], ["index"]),
    ]  # fmt: skip
    gate = [
        node("Cast", ["plan"], ["plan_float"], to=TensorProto.FLOAT),
        node("Add", ["age", "plan_float"], ["sum"]),
        node("IsNaN", ["sum"], ["missing"]),
        node("Cast", ["missing"], ["number"], to=TensorProto.INT64),
        node("Squeeze", ["number", "axis"], ["row"]),
        node("Gather", ["gate", "row"], ["gate_probabilities"]),
        node("ArgMax", ["gate_probabilities"], ["expert"], axis=1, keepdims=0),
    ]
    inputs = [
        ("age", TensorProto.FLOAT, ["n", 1]),
        ("city", TensorProto.STRING, ["n", 1]),
        ("plan", TensorProto.DOUBLE, ["n", 1]),
    ]
    expert = ("expert", TensorProto.INT64, ["n"])
    probabilities = ("probabilities", TensorProto.FLOAT, ["n", 4])
    weights = {
        "axis": np.array([1]),
        "eye": np.eye(4, dtype=np.float32),
        "gate": np.array([[0.75, 0.25], [0.25, 0.75]], np.float32),
    }
    files = {
        "model.onnx": make_model(
            [
                *code,
                *gate,
                node("Gather", ["eye", "index"], ["probabilities"]),
                node("Gather", ["classes", "index"], ["label"]),
                node("ReduceMax", ["gate_probabilities", "axis"], ["gate_probability"], keepdims=0),
            ],
            inputs,
            [("label", TensorProto.INT64, ["n"]), probabilities, expert,
             ("gate_probability", TensorProto.FLOAT, ["n"])],
            weights | {"classes": np.array([10, 20, 30, 40])},
        ),
        "gate.onnx": make_model(
            [*code, *gate, node("Gather", ["eye", "index"], ["hidden"])],
            inputs,
            [("gate_probabilities", TensorProto.FLOAT, ["n", 2]), expert,
             ("hidden", TensorProto.FLOAT, ["n", 4])],
            weights,
        ),
    }  # fmt: skip
    for i in range(2):
        files[f"expert_{i}.onnx"] = make_model(
            [node("Identity", ["hidden"], ["probabilities"])],
            [("hidden", TensorProto.FLOAT, ["n", 4])],
            [probabilities],
            {},
        )
    return files


@pytest.fixture
def table_bundle(tmp_path):
    """A classifier that answers with the code of the city: "", other, Bern, Köln.

    The probabilities are one-hot; the expert is 1 where age or plan are missing. The gate is sure
    of it by 0.75. Every expert answers the same.
    """
    manifest = bundle.Manifest(
        task="classification",
        routing="top_expert",
        input="columns",
        from_table=True,
        columns=(
            bundle.Column("age", "age", "number", "float32", minimum=3.0, maximum=80.0),
            bundle.Column("city", "city", "category", "string", ("Bern", "Köln"), True),
            bundle.Column("plan", "plan", "category", "float64", (1.0, 2.0)),
        ),
        n_outputs=4,
        classes=bundle.Classes((10, 20, 30, 40), "<i4", "value"),
        n_experts=2,
        expert_usage=(0.25, 0.75),
        validation_scores={"mixture": 0.9, "top_expert": 0.89},
        **COMMON,
    )
    bundle.write(tmp_path / "table", manifest, make_table_files())
    return tmp_path / "table"


def make_array_files(n_outputs):
    """The graphs of `make_regressor`."""
    node = helper.make_node
    weights = {"weights": np.eye(3, dtype=np.float32)[:, :n_outputs]}
    X = ("X", TensorProto.FLOAT, ["n", 3])
    hidden = ("hidden", TensorProto.FLOAT, ["n", 3])
    expert = ("expert", TensorProto.INT64, ["n"])
    variable = ("variable", TensorProto.FLOAT, ["n", n_outputs])
    gate = [
        node("ArgMax", ["X"], ["expert"], axis=1, keepdims=0),
        node("Softmax", ["X"], ["gate_probabilities"], axis=1),
    ]
    files = {
        "model.onnx": make_model(
            [
                node("MatMul", ["X", "weights"], ["variable"]),
                *gate,
                node("ReduceMax", ["gate_probabilities", "axis"], ["gate_probability"], keepdims=0),
            ],
            [X],
            [variable, expert, ("gate_probability", TensorProto.FLOAT, ["n"])],
            weights | {"axis": np.array([1])},
        ),
        "gate.onnx": make_model(
            [*gate, node("Identity", ["X"], ["hidden"])],
            [X],
            [("gate_probabilities", TensorProto.FLOAT, ["n", 3]), expert, hidden],
            {},
        ),
    }
    for i in range(3):
        files[f"expert_{i}.onnx"] = make_model(
            [node("MatMul", ["hidden", "weights"], ["variable"])], [hidden], [variable], weights
        )
    return files


@pytest.fixture
def make_regressor(tmp_path):
    """Make a regressor of an array with three columns that answers with the first of them.

    The expert is the largest column.
    """

    def make(n_outputs=1):
        manifest = bundle.Manifest(
            task="regression",
            routing="mixture",
            input="array",
            from_table=False,
            columns=tuple(bundle.Column(f"x{i}", "X", "number", "float32") for i in range(3)),
            n_outputs=n_outputs,
            classes=None,
            n_experts=3,
            expert_usage=(0.25, 0.75, 0.0),
            validation_scores=None,
            **COMMON,
        )
        bundle.write(tmp_path / "array", manifest, make_array_files(n_outputs))
        return tmp_path / "array"

    return make
