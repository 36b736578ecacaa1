import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from skmode.nn import RobustScaler, TabularTrunk
from skmode.onnx._graphs.builder import GraphBuilder
from skmode.onnx._graphs.trunks.tables import emit_trunk

# For values up to 30 in float32; the oldest release that we admit differs by 3e-5.
ATOL = 5e-5 if onnxruntime.__version__.startswith("1.20.") else 1e-5


def run(graph, output, dtype, inputs):
    """Run in onnxruntime; the reference evaluator must agree."""
    graph.add_output(output, dtype, ["n", None])
    model = graph.to_model("example", {})
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    result = session.run(None, inputs)[0]
    assert_allclose(result, ReferenceEvaluator(model).run(None, inputs)[0], rtol=1e-5, atol=ATOL)
    return result


@pytest.mark.filterwarnings("ignore:.*only one bin")
@pytest.mark.parametrize("embedding", [None, "periodic", "periodic_bias", "piecewise_linear"])
@pytest.mark.parametrize("n_rows", [0, 1, 6])
def test_trunk_parity(embedding, n_rows):
    generator = torch.Generator().manual_seed(0)
    scaler = RobustScaler(
        torch.tensor([0.0, 5.0, -1.0]), torch.tensor([1.0, 2.0, 0.5]), torch.tensor([2, 0])
    )
    edges = [torch.tensor([-1.0, 0.0, 0.5]), torch.tensor([-2.0, 2.0]), torch.linspace(-1, 1, 5)]
    trunk = TabularTrunk(scaler, numeric_embedding=embedding, bins=edges, n_categories=[3, 2])
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    numbers = torch.randn(n_rows, 3, generator=generator) * 5
    numbers[numbers > 6] = torch.nan
    codes = torch.stack([torch.arange(n_rows) % 3, torch.arange(n_rows) % 2], dim=1)
    graph = GraphBuilder()
    inputs = {"numbers": numbers.numpy(), "codes": (codes + torch.tensor([0, 3])).numpy()}
    graph.add_input("numbers", TensorProto.FLOAT, ["n", 3])
    graph.add_input("codes", TensorProto.INT64, ["n", 2])
    hidden = emit_trunk(graph, trunk, "numbers", "codes")
    with torch.no_grad():
        expected = trunk(numbers, codes).numpy()
    result = run(graph, hidden, TensorProto.FLOAT, inputs)
    assert result.shape == expected.shape
    assert_allclose(result, expected, rtol=1e-5, atol=ATOL)
