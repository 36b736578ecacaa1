"""A bundle made by hand, so that these tests need neither torch nor skmode."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skmode_deploy import bundle

COMMON = {"n_experts": 2, "alpha": 0.5, "expert_usage": (0.25, 0.75), "versions": {"skmode": "0"}}


def make_model(nodes, inputs, outputs, weights):
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.fixture
def table_bundle(tmp_path):
    """A classifier that answers with the code of the city: "", other, Bern, Köln.

    The probabilities are one-hot; the expert is 1 where age or plan are missing.
    """
    node = helper.make_node
    nodes = [
        node("LabelEncoder", ["city"], ["code"], domain="ai.onnx.ml",
             keys_strings=["", "Bern", "Köln"], values_int64s=[0, 2, 3], default_int64=1),
        node("Squeeze", ["code", "axis"], ["index"]),
        node("Gather", ["eye", "index"], ["probabilities"]),
        node("Gather", ["classes", "index"], ["label"]),
        node("Cast", ["plan"], ["plan_float"], to=TensorProto.FLOAT),
        node("Add", ["age", "plan_float"], ["sum"]),
        node("IsNaN", ["sum"], ["missing"]),
        node("Cast", ["missing"], ["number"], to=TensorProto.INT64),
        node("Squeeze", ["number", "axis"], ["expert"]),
    ]  # fmt: skip
    data = make_model(
        nodes,
        [("age", TensorProto.FLOAT, ["n", 1]), ("city", TensorProto.STRING, ["n", 1]),
         ("plan", TensorProto.DOUBLE, ["n", 1])],
        [("label", TensorProto.INT64, ["n"]), ("probabilities", TensorProto.FLOAT, ["n", 4]),
         ("expert", TensorProto.INT64, ["n"])],
        {"axis": np.array([1]), "eye": np.eye(4, dtype=np.float32),
         "classes": np.array([10, 20, 30, 40])},
    )  # fmt: skip
    manifest = bundle.Manifest(
        task="classification",
        routing="top_expert",
        input="columns",
        from_table=True,
        columns=(
            bundle.Column("age", "age", "number", "float32"),
            bundle.Column("city", "city", "category", "string", ("Bern", "Köln"), True),
            bundle.Column("plan", "plan", "category", "float64", (1.0, 2.0)),
        ),
        n_outputs=4,
        classes=bundle.Classes((10, 20, 30, 40), "<i4", "value"),
        validation_scores={"mixture": 0.9, "top_expert": 0.89},
        **COMMON,
    )
    bundle.write(tmp_path / "table", manifest, {"model.onnx": data, "gate.onnx": b"gate"})
    return tmp_path / "table"


@pytest.fixture
def make_regressor(tmp_path):
    """Make a regressor of an array with three columns that answers with the first of them."""

    def make(n_outputs=1):
        weights = np.eye(3, dtype=np.float32)[:, :n_outputs]
        nodes = [
            helper.make_node("MatMul", ["X", "weights"], ["variable"]),
            helper.make_node("ArgMax", ["X"], ["expert"], axis=1, keepdims=0),
        ]
        data = make_model(
            nodes,
            [("X", TensorProto.FLOAT, ["n", 3])],
            [
                ("variable", TensorProto.FLOAT, ["n", n_outputs]),
                ("expert", TensorProto.INT64, ["n"]),
            ],
            {"weights": weights},
        )
        manifest = bundle.Manifest(
            task="regression",
            routing="mixture",
            input="array",
            from_table=False,
            columns=tuple(bundle.Column(f"x{i}", "X", "number", "float32") for i in range(3)),
            n_outputs=n_outputs,
            classes=None,
            validation_scores=None,
            **COMMON,
        )
        bundle.write(tmp_path / "array", manifest, {"model.onnx": data})
        return tmp_path / "array"

    return make
