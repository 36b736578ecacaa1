"""Custom experts, converted by torch.onnx."""

import copy
import functools
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from onnx.reference import ReferenceEvaluator

import skmode_deploy
from skmode import MoDEClassifier, MoDERegressor
from skmode.nn import ModuleExperts
from skmode.onnx import export
from skmode.onnx._graphs.experts.modules import convert_module

# Each conversion of an expert takes torch half a second.
pytestmark = pytest.mark.slow


class ResidualBlock(torch.nn.Module):
    def __init__(self, in_features, width=8):
        super().__init__()
        self.first = torch.nn.Linear(in_features, width)
        self.norm = torch.nn.LayerNorm(width)
        self.second = torch.nn.Linear(width, width)
        self.register_buffer("shift", torch.randn(width))

    def forward(self, x):
        hidden = torch.nn.functional.gelu(self.first(x))
        return hidden + self.second(self.norm(hidden)) * torch.sigmoid(self.shift)


class ValueDependent(torch.nn.Module):
    def __init__(self, in_features):
        super().__init__()
        self.linear = torch.nn.Linear(in_features, 4)

    def forward(self, x):
        hidden = self.linear(x)
        return hidden if hidden.isfinite().all() else hidden.nan_to_num()


def make_any(in_features, kinds=iter(("linear", "residual", "deep") * 9)):  # noqa: B008
    """Another architecture for each expert."""
    kind = next(kinds)
    if kind == "linear":
        return torch.nn.Linear(in_features, 8)
    if kind == "residual":
        return ResidualBlock(in_features)
    return torch.nn.Sequential(
        torch.nn.Linear(in_features, 5), torch.nn.Tanh(), torch.nn.Linear(5, 8)
    )


@pytest.mark.parametrize("gate", ["dense", "sparse"])
@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
@pytest.mark.parametrize("make", [ResidualBlock, make_any])
def test_parity(make, routing, gate, table, fit_classifier, tmp_path):
    n_experts = 3 if make is make_any else 2
    estimator = fit_classifier(
        table, n_experts=n_experts, expert_module=make, gate=gate, inference=routing
    )
    export(estimator, tmp_path, routing=routing)
    served = skmode_deploy.load(tmp_path)
    expected = estimator.predict_proba(table)
    for n_rows in (0, 1, 2, 9, len(table)):
        answers = served.predict_full(table[:n_rows])
        assert_allclose(answers.probabilities, expected[:n_rows], rtol=0, atol=1e-5)
        assert_array_equal(answers.expert, estimator.route(table[:n_rows]) if n_rows else [])


def test_regression_with_many_experts(array, fit_regressor, tmp_path):
    make = functools.partial(ResidualBlock, width=4)
    estimator = fit_regressor(
        array, n_outputs=2, n_experts=6, expert_module=make, inference="top_expert"
    )
    export(estimator, tmp_path)
    served = skmode_deploy.load(tmp_path)
    for n_rows in (1, 5, len(array)):
        X = array[:n_rows]
        assert_allclose(served.predict(X), estimator.predict(X), rtol=1e-4, atol=1e-4)


def test_graphs_use_only_onnx_operators(array, fit_classifier, tmp_path):
    """No functions, no foreign operators, no stack traces, no data beside the file."""
    export(fit_classifier(array, n_experts=2, expert_module=ResidualBlock), tmp_path)
    for path in tmp_path.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        assert not model.functions
        assert {opset.domain: opset.version for opset in model.opset_import} == {"": 18}
        assert model.ir_version == 8
        assert b'File \\"' not in path.read_bytes()
        assert b"pkg.torch" not in path.read_bytes()
    model = onnx.load(tmp_path / "expert_0.onnx")
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    hidden = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    assert ReferenceEvaluator(model).run(None, {"hidden": hidden})[0].shape == (3, 3)


def test_export_of_modules_is_reproducible(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, n_experts=2, expert_module=ResidualBlock)
    contents = []
    for name in ("one", "two"):
        export(estimator, tmp_path / name)
        contents.append((tmp_path / name / "model.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_converted_weights_equal_the_expert():
    torch.manual_seed(0)
    experts = ModuleExperts([torch.nn.Linear(3, 2) for _ in range(2)])
    graph = convert_module(experts.expert(1), (3,))
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    expected = {
        name: value.detach().numpy() for name, value in experts.expert(1).named_parameters()
    }
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert_array_equal(array, expected[name])


def test_modules_are_converted_in_threads_and_modes(capsys):
    torch.manual_seed(0)
    expert = ResidualBlock(3)
    alone = convert_module(expert, (3,))
    before = list(warnings.filters), sys.stdout
    with ThreadPoolExecutor(3) as pool:
        graphs = list(pool.map(lambda _: convert_module(copy.deepcopy(expert), (3,)), range(3)))
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"), torch.inference_mode():
        graphs.append(convert_module(expert, (3,)))
    assert (list(warnings.filters), sys.stdout) == before
    for graph in graphs:
        assert graph == alone


def test_untraceable_module_raises(array, fit_classifier, tmp_path):
    estimator = fit_classifier(array, expert_module=ValueDependent, n_experts=2)
    with pytest.raises(TypeError, match=r"torch.onnx.export.*ValueDependent.*Rewrite its forward"):
        export(estimator, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("make", [MoDEClassifier, MoDERegressor])
def test_one_expert(make, array, tmp_path):
    y = np.arange(len(array)) % 3
    estimator = make(n_experts=1, expert_module=ResidualBlock, max_epochs=1, random_state=0)
    estimator.fit(array, y)
    export(estimator, tmp_path)
    served = skmode_deploy.load(tmp_path)
    assert_allclose(served.predict(array), estimator.predict(array), rtol=1e-5, atol=1e-5)


class Attention(torch.nn.Module):
    def __init__(self, in_features):
        super().__init__()
        self.inner = torch.nn.MultiheadAttention(in_features, 1, batch_first=True)

    def forward(self, x):
        return self.inner(x[:, None], x[:, None], x[:, None])[0][:, 0]


def test_conversion_prints_nothing(caplog, capfd):
    graph = convert_module(Attention(4), (4,))
    assert len(graph.node) > 0
    assert not [record for record in caplog.records if record.name.startswith("onnxscript")]
    assert "Skipping" not in capfd.readouterr().err
