"""Bundles of images: graphs, parts, samples, and what cannot be exported."""

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from PIL import Image
from skl2onnx import to_onnx
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skmode_deploy
from skmode import MoDEImageClassifier, MoDEImageRegressor
from skmode.onnx import export
from skmode.onnx._graphs.trunks.images import _plain_layers
from skmode_deploy.samples import check_samples, read_samples

QUICK = {
    "n_experts": 3,
    "trunk_channels": (4, 6),
    "expert_channels": (4, 4),
    "hidden_layer_sizes": (8,),
    "max_epochs": 3,
    "random_state": 0,
}
TOLERANCE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

rng = np.random.default_rng(0)
images = rng.integers(0, 256, size=(2_000, 9, 8), dtype=np.uint8)
images[::2, :, :4] //= 2
target = np.tile([1, 0], 1_000)
N_TRAIN = 200


def fit(X=images, Estimator=MoDEImageClassifier, **options):
    y = target if Estimator is MoDEImageClassifier else X.reshape(len(X), -1).mean(axis=1)
    return Estimator(**QUICK | options).fit(X[:N_TRAIN], y[:N_TRAIN])


class Backbone(torch.nn.Module):
    """A network of the user that is no plain sequence, for a trunk."""

    def __init__(self, shape):
        super().__init__()
        self.convolution = torch.nn.Conv2d(shape[0], 4, 5, stride=2, padding=2)

    def forward(self, x):
        maps = self.convolution(x)
        return torch.relu(maps) + 0.1 * maps


class Expert(torch.nn.Module):
    """An expert of the user, for feature maps."""

    def __init__(self, shape):
        super().__init__()
        self.convolution = torch.nn.Conv2d(shape[0], 4, 2)

    def forward(self, x):
        return torch.relu(self.convolution(x)).mean(dim=(2, 3))


def strided(shape):
    """The trunk of older releases: no maximum, but steps of two pixels."""
    layers = torch.nn.Conv2d(shape[0], 4, 3, stride=2, padding=1, bias=False)
    return torch.nn.Sequential(layers, torch.nn.BatchNorm2d(4), torch.nn.ReLU())


def floored(shape):
    """A trunk that looks like ours, and leaves out the last row of an odd height."""
    layers = torch.nn.Conv2d(shape[0], 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
    return torch.nn.Sequential(*layers)


def sequence(*layers):
    """Convolutions and other layers; a number stands for a new convolution to so many channels."""
    built, n_channels = [], 1
    for each in layers:
        if isinstance(each, int):
            built.append(torch.nn.Conv2d(n_channels, each, 3, padding=1))
            n_channels = each
        else:
            built.append(each)
    return torch.nn.Sequential(*built)


def doubled(module):
    """Let a hook double what a module computes."""
    module.register_forward_hook(lambda module, given, output: 2 * output)
    return module


def tenfold(module):
    """Let a hook multiply what a module reads by ten."""
    module.register_forward_pre_hook(lambda module, given: (10 * given[0],))
    return module


def unlike_ours():
    """Sequences that look like ours at first glance."""
    shared, conv = torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, padding=1)
    norm, pool = torch.nn.BatchNorm2d(4), torch.nn.MaxPool2d(2, ceil_mode=True)
    return {
        "shared activation": sequence(4, shared, 4, shared),
        "shared convolution": sequence(4, shared, conv, torch.nn.Tanh(), conv),
        "shared normalisation": sequence(4, norm, shared, 4, norm),
        "shared maximum": sequence(4, pool, 4, pool),
        "hook": doubled(sequence(4, torch.nn.ReLU())),
        "hook of a layer": sequence(4, doubled(torch.nn.Tanh())),
        "hook before": tenfold(sequence(4, torch.nn.ReLU())),
        "hook before a layer": sequence(tenfold(torch.nn.Conv2d(1, 4, 3, padding=1))),
        "approximation": sequence(4, torch.nn.GELU(approximate="tanh")),
    }


@pytest.mark.parametrize(
    "name",
    [
        "shared activation",
        "shared convolution",
        "shared normalisation",
        "shared maximum",
        "hook",
        pytest.param("hook of a layer", marks=pytest.mark.slow),
        pytest.param("hook before", marks=pytest.mark.slow),
        pytest.param("hook before a layer", marks=pytest.mark.slow),
        pytest.param("approximation", marks=pytest.mark.slow),
    ],
)
def test_no_layer_of_a_trunk_is_lost(tmp_path, name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = unlike_ours()[name]
    model = fit(trunk_module=trunk, inference="top_expert", precision="float32")
    with torch.no_grad():  # so that no layer hardly matters
        for weight in model.net_.module_.trunk.body.parameters():
            weight *= 3
    export(model, tmp_path)
    found = skmode_deploy.load(tmp_path).predict_proba(images)
    np.testing.assert_allclose(found, model.predict_proba(images), atol=TOLERANCE, rtol=0)


def test_normalisation_without_statistics_of_training_is_not_folded():
    norm = torch.nn.BatchNorm2d(4, track_running_stats=False)
    assert _plain_layers(sequence(4, torch.nn.BatchNorm2d(4), torch.nn.ReLU())) is not None
    assert _plain_layers(sequence(4, norm, torch.nn.ReLU())) is None


@pytest.mark.parametrize("routing", ["top_expert", "mixture"])
@pytest.mark.parametrize(
    ("X", "options"),
    [
        (images, {}),
        (images, {"trunk_module": strided}),
        pytest.param(images, {"trunk_module": floored}, marks=pytest.mark.slow),
        pytest.param(images / 255, {}, marks=pytest.mark.slow),
        (np.stack([images, images // 2, images // 3], axis=1), {"channels": "first"}),
        (np.stack([images, images // 2, images // 3, images], axis=3), {}),
        (images, {"gate": "sparse"}),
        pytest.param(images, {"mixing": "representation"}, marks=pytest.mark.slow),
        pytest.param(images, {"trunk_module": Backbone}, marks=pytest.mark.slow),
        pytest.param(images, {"expert_module": Expert}, marks=pytest.mark.slow),
    ],
    ids=[
        "grey",
        "strided",
        "floored",
        "floats",
        "first",
        "last",
        "sparse",
        "representation",
        "trunk",
        "experts",
    ],
)
def test_predictions_are_those_of_the_estimator(tmp_path, X, options, routing):
    model = fit(X, **options).set_params(inference=routing)
    export(model, tmp_path, X=X[:N_TRAIN], routing=routing)
    predictor = skmode_deploy.load(tmp_path)
    for n_rows in (1, 2, 7, 256, 2_000):
        found = predictor.predict_full(X[:n_rows])
        expected = model.predict_proba(X[:n_rows])
        np.testing.assert_allclose(found.probabilities, expected, atol=TOLERANCE, rtol=0)
        np.testing.assert_array_equal(found.value, model.predict(X[:n_rows]))


@pytest.mark.parametrize("X", [None, images[:100]], ids=["without X", "with X"])
def test_export_leaves_the_estimator_as_it_is(tmp_path, X):
    """100 images are learned in float64, and the graph of a network of the user is float32."""
    model = MoDEImageClassifier(**QUICK, trunk_module=Backbone, inference="top_expert")
    expected = model.fit(images[:100], target[:100]).predict_proba(images)
    export(model, tmp_path, X=X)
    assert next(model.net_.module_.trunk.body.parameters()).dtype == torch.float64
    np.testing.assert_array_equal(model.predict_proba(images), expected)
    found = skmode_deploy.load(tmp_path)
    check_samples(found)
    assert (tmp_path / "samples.json").exists()
    np.testing.assert_allclose(found.predict_proba(images), expected, atol=TOLERANCE, rtol=0)


def test_values_of_images(tmp_path):
    model = fit(Estimator=MoDEImageRegressor).set_params(inference="top_expert")
    export(model, tmp_path, X=images[:N_TRAIN])
    found = skmode_deploy.load(tmp_path).predict(images)
    expected = model.predict(images)
    np.testing.assert_allclose(np.ravel(found), expected, atol=TOLERANCE * expected.std())


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    model = fit(inference="top_expert")
    export(model, folder)
    return model, folder


def test_graphs_read_pixels_and_use_stock_operators(bundled):
    graph = onnx.load(bundled[1] / "model.onnx")
    assert {each.domain for each in graph.opset_import} == {""}
    (pixels,) = graph.graph.input
    assert pixels.name == "image"
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sizes = [each.dim_param or each.dim_value for each in pixels.type.tensor_type.shape.dim]
    assert sizes == ["n", 9, 8]


def test_no_image_gives_no_prediction(bundled):
    session = onnxruntime.InferenceSession(bundled[1] / "model.onnx")
    outputs = session.run(None, {"image": images[:0]})
    assert [len(each) for each in outputs] == [0] * len(outputs)


def test_gate_and_experts_apart_give_the_same(bundled):
    model, folder = bundled
    gate = onnxruntime.InferenceSession(folder / "gate.onnx")
    names = ["gate_probabilities", "expert", "hidden"]
    weights, expert, hidden = gate.run(names, {"image": images[:50]})
    np.testing.assert_allclose(weights, model.gate_proba(images[:50]), atol=TOLERANCE)
    np.testing.assert_array_equal(expert, model.route(images[:50]))
    for i in range(3):
        session = onnxruntime.InferenceSession(folder / f"expert_{i}.onnx")
        (found,) = session.run(["probabilities"], {"hidden": hidden})
        expected = model.expert_predict_proba(images[:50])[:, i]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_samples_are_made_up_images_that_the_bundle_predicts(bundled):
    predictor = skmode_deploy.load(bundled[1])
    check_samples(predictor)
    samples = read_samples(bundled[1], predictor.manifest)
    assert samples.inputs["image"].shape == (32, 9, 8)
    assert predictor.manifest.input == "image"
    assert predictor.manifest.image.dtype == "uint8"
    assert predictor.manifest.columns == ()


def test_eight_bit_experts(tmp_path):
    model = fit(inference="top_expert")
    export(model, tmp_path, X=images[:N_TRAIN], quantize="dynamic", tolerance=0.1)
    found = skmode_deploy.load(tmp_path).predict_proba(images)
    assert np.abs(found - model.predict_proba(images)).mean() < 0.1


def test_steps_before_a_model_of_images_are_refused(tmp_path):
    pipeline = make_pipeline(FunctionTransformer(), MoDEImageClassifier(**QUICK))
    pipeline.fit(images[:N_TRAIN], target[:N_TRAIN])
    with pytest.raises(TypeError, match="without steps before it, got functiontransformer"):
        export(pipeline, tmp_path, X=images[:N_TRAIN])


def test_skl2onnx_says_what_converts_images(bundled):
    with pytest.raises(TypeError, match="write a bundle with skmode.onnx.export"):
        to_onnx(bundled[0], images[:1])


@pytest.mark.parametrize("X", [images, images / 255], ids=["bytes", "floats"])
def test_served_models_read_what_estimators_read(tmp_path, X):
    model = fit(X, inference="top_expert")
    export(model, tmp_path)
    predictor = skmode_deploy.load(tmp_path)
    pictures = [Image.fromarray(each) for each in images[:20]]
    tensors = list(torch.as_tensor(X[:20]))
    column = pl.DataFrame({"image": pl.Series(X[:20])})
    given_anyhow = [images[:20], X[:20], pictures, list(images[:20]), tensors, column]
    if X is not images:  # tensors that numpy refuses
        shares = torch.as_tensor(X[:20], dtype=torch.float32)
        given_anyhow += [shares.bfloat16(), list(shares.clone().requires_grad_())]
    for given in given_anyhow:
        expected = model.predict_proba(given)
        np.testing.assert_allclose(predictor.predict_proba(given), expected, atol=TOLERANCE)
