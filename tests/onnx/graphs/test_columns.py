import numpy as np
import onnxruntime
from numpy.testing import assert_array_equal
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.columns import emit_codes, emit_column_inputs
from skmode_deploy.bundle import Column

COLUMNS = [
    Column("city", "city", "category", "string", ("a", "b"), True),
    Column("plan", "plan", "category", "float64", (0.1, 1e17), True),
    Column("size", "size", "category", "float64", (1.0, 2.0, 3.0), False),
    Column("void", "void", "category", "float64", (), True),
]


def run(graph, output, dtype, inputs):
    """Run in onnxruntime; the reference evaluator must agree."""
    graph.add_output(output, dtype, ["n", None])
    model = graph.to_model("example", {})
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    result = session.run(None, inputs)[0]
    assert_array_equal(result, ReferenceEvaluator(model).run(None, inputs)[0])
    return result


def test_codes_index_one_shared_table():
    graph = GraphBuilder()
    codes = emit_codes(graph, COLUMNS, emit_column_inputs(graph, COLUMNS))
    inputs = {
        "city": np.array([["b"], [""], ["Paris"], ["a"]], dtype=object),
        "plan": np.array([[0.1], [np.nan], [np.float64(np.float32(0.1))], [1e17]]),
        "size": np.array([[3.0], [np.nan], [4.0], [1.0]]),
        "void": np.array([[np.nan], [0.0], [np.nan], [1.0]]),
    }
    # Offsets of the columns are 0, 4, 8, 12; the first row of each stands for unseen categories.
    expected = [[2, 5, 11, 13], [3, 7, 8, 12], [0, 4, 8, 13], [1, 6, 9, 12]]
    assert_array_equal(run(graph, codes, TensorProto.INT64, inputs), expected)
