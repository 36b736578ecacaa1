"""Looking into models of images: saliency, typical images, and what works as for tables."""

import copy

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmode import MoDEClassifier, MoDEImageClassifier, MoDEImageRegressor
from skmode.inspection import (
    ExpertSaliencyDisplay,
    RoutingMapDisplay,
    TypicalImagesDisplay,
    alpha_path,
    compare,
    expert_attention,
    expert_probing,
    expert_saliency,
    feature_importances,
    gate_history,
    layer_probing,
    report,
    typical_images,
)
from skmode.inspection._report.measuring import measure
from skmode.inspection._report.pictures import all_pictures

QUICK = {
    "n_experts": 2,
    "trunk_channels": (6,),
    "expert_channels": (6,),
    "hidden_layer_sizes": (8,),
    "random_state": 0,
}
SIZE = 8

pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

# A bright spot in the upper left corner, or none: nothing else tells the classes apart.
rng = np.random.default_rng(0)
images = rng.integers(0, 60, size=(300, SIZE, SIZE), dtype=np.uint8)
target = rng.integers(0, 2, size=300)
images[target == 1, 1:3, 1:3] = 255


@pytest.fixture(scope="module")
def model():
    return MoDEImageClassifier(**QUICK, max_epochs=15).fit(images, target)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_saliency_finds_the_spot_that_decides(model):
    saliency = expert_saliency(model, images[:40])
    with_spot = target[:40] == 1
    shares = np.abs(saliency.experts[with_spot])
    shares /= shares.sum(axis=(1, 2), keepdims=True)
    assert shares[:, 1:3, 1:3].sum(axis=(1, 2)).mean() > 0.5  # on 4 of 64 pixels
    assert saliency.completeness_error < 0.05
    np.testing.assert_array_equal(saliency.route, model.route(images[:40]))
    maps = saliency.by_expert()
    used = np.unique(saliency.route)
    assert np.isfinite(maps[used]).all()
    assert maps.shape == (2, SIZE, SIZE)


def test_attributions_sum_to_the_change_of_the_output(model):
    saliency = expert_saliency(model, images[:5], n_steps=64)
    alone = model.expert_predict_proba(images[:5])[np.arange(5), saliency.route]
    average = np.full((1, SIZE, SIZE), model.net_.module_.trunk.normalization.mean.item())
    blank = copy.copy(model)
    blank.encoder_ = copy.copy(model.encoder_)
    blank.encoder_.dtype_ = "float32"
    base = blank.expert_predict_proba(average.astype(np.float32))[0, saliency.route]
    chosen = np.searchsorted(model.classes_, saliency.predictions)
    expected = (alone - base)[np.arange(5), chosen]
    np.testing.assert_allclose(saliency.experts.sum(axis=(1, 2)), expected, atol=0.02)


@pytest.mark.parametrize("method", ["permutation", "integrated_gradients"])
def test_attention_is_by_region(model, method):
    attention = expert_attention(model, images, target, method, random_state=0)
    assert len(attention.importances) == 16
    # An expert whose images are all alike needs none of their regions.
    assert attention.importances.max(axis=1).idxmax() in {
        "rows 0-1, columns 0-1",
        "rows 0-1, columns 2-3",
        "rows 2-3, columns 0-1",
        "rows 2-3, columns 2-3",
    }


def test_colours_and_floats(model):
    colour = np.stack([images, images // 2, images // 4], axis=3) / 255
    other = MoDEImageClassifier(**QUICK, max_epochs=2).fit(colour, target)
    assert expert_saliency(other, colour[:3], n_steps=8).experts.shape == (3, SIZE, SIZE)
    assert ExpertSaliencyDisplay.from_estimator(other, colour[:2], n_steps=4).axes_.shape == (2, 3)
    assert len(expert_attention(other, colour[:60], target[:60], n_repeats=1).importances) == 16


def test_values_of_images():
    model = MoDEImageRegressor(**QUICK, max_epochs=2).fit(images, images.mean(axis=(1, 2)))
    saliency = expert_saliency(model, images[:4], n_steps=4)
    assert saliency.unit == "units of the target"
    assert ExpertSaliencyDisplay(saliency).plot().axes_.shape == (4, 3)


@pytest.mark.parametrize("values", [images, images / 255], ids=["bytes", "floats"])
def test_a_trunk_may_change_its_input(values):
    layers = torch.nn.ReLU(inplace=True), torch.nn.Conv2d(1, 6, 3, stride=2)
    alike = torch.nn.ReLU(), layers[1]
    fitted = [
        MoDEImageClassifier(**QUICK, trunk_module=torch.nn.Sequential(*each), max_epochs=2)
        for each in (layers, alike)
    ]
    found, expected = (
        expert_saliency(each.fit(values, target), values[:4], n_steps=4) for each in fitted
    )
    np.testing.assert_allclose(found.experts, expected.experts, atol=1e-4)
    np.testing.assert_allclose(found.gate, expected.gate, atol=1e-4)


@pytest.mark.parametrize("n_images", [0, -1, 2.5])
def test_a_number_of_images_is_checked(model, n_images):
    for show in (typical_images, TypicalImagesDisplay.from_estimator):
        with pytest.raises(ValueError, match="n_images must be a whole number of at least 1, got"):
            show(model, images, n_images=n_images)


def test_typical_images_are_those_of_the_largest_weights(model):
    gate, route = model.gate_proba(images), model.route(images)
    for expert, positions in enumerate(typical_images(model, list(images), n_images=3)):
        members = np.flatnonzero(route == expert)
        assert len(positions) == min(3, len(members))
        assert set(positions) <= set(members)
        if len(members):
            assert gate[positions[0], expert] == gate[members, expert].max()


def test_displays(model):
    display = ExpertSaliencyDisplay.from_estimator(model, images[:3], n_steps=4)
    titles = [ax.get_title() for ax in display.axes_[0]]
    assert titles[0] == f"predicted: {model.predict(images[:1])[0]}"
    assert titles[1] == f"expert {model.route(images[:1])[0]}"
    typical = TypicalImagesDisplay.from_estimator(model, images, n_images=4)
    assert typical.axes_.shape[0] == 2


def test_instruments_of_tables_work(model):
    probing = expert_probing(model, images, target)
    assert len(probing.experts) == 2
    assert len(gate_history(model).measures) == model.n_iter_
    quick = MoDEImageClassifier(**QUICK, max_epochs=2)
    path = alpha_path(quick, images[:120], target[:120], [0, 1], cv=2)
    assert path.parameter == "alpha"


@pytest.mark.slow
def test_layers(model):
    part = slice(0, 100)
    probing = layer_probing(model, images, target, X_train=images[part], y_train=target[part])
    assert len(probing.layers["layer"].unique()) > 3


@pytest.mark.slow
def test_compare(model):
    quick = MoDEImageClassifier(**QUICK, max_epochs=2)
    compare(
        {"one": quick, "zero": clone(quick).set_params(alpha=0)}, images[:120], target[:120], cv=2
    )


@pytest.mark.slow
def test_pictures_of_a_report(model):
    """Typical images, in the place of a map of two columns, and saliency; a list will do."""
    search = GridSearchCV(clone(model).set_params(max_epochs=2), {"alpha": [1]}, cv=2)
    pipeline = make_pipeline(FunctionTransformer(), search).fit(images[:100], target[:100])
    options = {"sample_weight": None, "tolerance": None, "random_state": 0}
    facts = measure(pipeline, images[:60], target[:60], n_repeats=1, max_samples=30, **options)
    pictures = all_pictures(facts)
    assert pictures.map is None
    for picture in (pictures.typical, pictures.saliency):
        assert picture.source.startswith("data:image/svg+xml;base64,")
        assert min(picture.width, picture.height) > 100


class Cut(torch.nn.Conv2d):
    """Stands for a pretrained network that is frozen in its own way."""

    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class Bits(torch.nn.Conv2d):
    """A network with weights to train, behind a step that has no gradient."""

    def forward(self, x):
        return super().forward((x > 0).float())


@pytest.mark.parametrize("Trunk", [Cut, Bits])
def test_a_trunk_without_gradients(tmp_path, Trunk):
    options = QUICK | {"trunk_module": Trunk(1, 4, 3, stride=2), "max_epochs": 1}
    cut = MoDEImageClassifier(**options).fit(images, target)
    with pytest.raises(TypeError, match=rf"respect to the pixels, got {Trunk.__name__} without"):
        expert_saliency(cut, images[:3])
    path = report(cut, images[:60], target[:60], tmp_path / "images.html", n_repeats=1)
    text = path.read_text(encoding="utf-8")
    assert "those of which the gate is surest" in text
    assert "The most typical image of each expert" not in text


@pytest.mark.slow
def test_report(model, tmp_path):
    path = report(model, images, target, tmp_path / "images.html", n_repeats=3)
    text = path.read_text(encoding="utf-8")
    assert "rows 0-1, columns 0-1" in text
    assert "measured on 300 images with 16 regions" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "those of which the gate is surest" in text
    assert "The most typical image of each expert" in text


def test_other_models_are_refused(model):
    table = MoDEClassifier(n_experts=2, max_epochs=1).fit(images[:50, 0], target[:50])
    with pytest.raises(TypeError, match="for models of images, got MoDEClassifier"):
        expert_saliency(table, images[:50, 0])
    with pytest.raises(TypeError, match="columns of a table"):
        feature_importances(model)
    with pytest.raises(TypeError, match="columns of a table"):
        RoutingMapDisplay.from_estimator(model, images)
    with pytest.raises(ValueError, match="n_steps must be a whole number"):
        expert_saliency(model, images[:2], n_steps=0)
