"""What estimators of images do beyond the contract: trunks of the user, teachers, augmentation."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmode import MoDEImageClassifier, MoDEImageRegressor
from skmode._encoding.images import ImageEncoder
from skmode._estimators.tables.pixels import _statistics

QUICK = {
    "n_experts": 3,
    "trunk_channels": (6,),
    "expert_channels": (6,),
    "hidden_layer_sizes": (8,),
    "max_epochs": 6,
    "random_state": 0,
}
pytestmark = pytest.mark.filterwarnings("ignore::skmode.RoutingCollapseWarning")

rng = np.random.default_rng(0)
images = rng.integers(0, 60, size=(300, 8, 8), dtype=np.uint8)
target = rng.integers(0, 2, size=300)
images[target == 1, 1:3, 1:3] = 255


def fit(X=images, **options):
    return MoDEImageClassifier(**QUICK | options).fit(X, target)


class Doubling(torch.nn.Flatten):
    """A trunk that changes the precision."""

    def forward(self, images):
        return super().forward(images).double()


class Backbone(torch.nn.Module):
    """Stands for a pretrained network; its weights are those of a fixed seed."""

    def __init__(self, flat=False):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 5, 3, stride=2, padding=1), torch.nn.BatchNorm2d(5), torch.nn.ReLU()
        )
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            self.layers[0].weight.normal_(generator=generator)
        self.flat = flat

    def forward(self, x):
        maps = self.layers(x)
        return maps.mean(dim=(2, 3)) if self.flat else maps


class Expert(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.convolution = torch.nn.Conv2d(shape[0], 6, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.convolution(x)).flatten(1)


def weights_of(model):
    return model.net_.module_.trunk.body.state_dict()


def test_defaults_learn():
    model = fit(max_epochs=15)
    assert model.score(images, target) > 0.95
    assert model.set_params(inference="top_expert").score(images, target) > 0.95


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "sparse"},
        {"mixing": "representation"},
        {"mixing": "likelihood", "distillation": "pairwise"},
        {"expert_module": Expert},
        {"augment": "flip"},
        {"augment": None, "calibration": None},
        {"precision": "float64", "batch_size": 50},
        {"class_weight": "balanced"},
        {"teacher": "mixture"},
        {"teacher": "ensemble", "n_teachers": 2},
        pytest.param({"teacher": "auto", "n_teachers": 2}, marks=pytest.mark.slow),
        pytest.param(
            {"teacher": MoDEImageClassifier(**QUICK), "teacher_cv": 2}, marks=pytest.mark.slow
        ),
        pytest.param({"alpha": "auto"}, marks=pytest.mark.slow),
        pytest.param({"n_experts": 1}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_options_of_tables_work(options):
    model = fit(**options, n_iter_no_change=6)
    assert model.score(images, target) > 0.8
    assert np.isfinite(model.predict_proba(images)).all()


def test_a_refit_with_a_teacher_has_epochs_of_its_own():
    # Half of the few epochs of many images are too few to learn what it knows.
    for fraction, epochs in (("auto", 4), (1.0, 4), (0.5, 2)):
        model = fit(teacher="mixture", max_epochs=4, n_iter_no_change=4, refit_fraction=fraction)
        assert model.n_iter_ == 3  # whatever the length of the refit
        assert model.refit_n_iter_ == epochs
    model = fit(teacher="mixture", max_epochs=1)
    assert model.n_iter_ == model.refit_n_iter_ == 1
    assert model.teacher_names_ == ["mixture"]


def test_a_model_of_another_package_teaches():
    flatten = FunctionTransformer(lambda X: X.reshape(len(X), -1) / 255)
    teacher = make_pipeline(flatten, LogisticRegression())
    model = fit(teacher=teacher, teacher_cv=2, max_epochs=2)
    assert {"teacher", "mixture"} <= model.teacher_scores_["loss"].keys()


@pytest.mark.parametrize("channels", ["first", "last"])
def test_grey_files_fit_arrays_with_one_channel(channels):
    arrays = np.expand_dims(images, 1 if channels == "first" else -1)
    model = fit(arrays, channels=channels, max_epochs=1)
    files = [Image.fromarray(each) for each in images]
    np.testing.assert_array_equal(model.predict_proba(files), model.predict_proba(arrays))
    with pytest.raises(ValueError, match="change only the axes"):
        model.predict(images)


def test_channels_of_training_count_after_fit():
    cubes = np.random.default_rng(0).integers(0, 256, (len(target), 3, 3, 3), dtype=np.uint8)
    files = [Image.fromarray(cube) for cube in cubes]
    model = fit(files, max_epochs=1)
    expected = model.predict_proba(files)
    model.set_params(channels="first")
    np.testing.assert_array_equal(model.predict_proba(files), expected)


def test_uint8_and_floats_predict_nearly_alike():
    whole, shares = fit(), fit(images / 255)
    difference = np.abs(whole.predict_proba(images) - shares.predict_proba(images / 255))
    assert difference.max() < 0.05  # rounding, through all steps of training
    np.testing.assert_array_equal(
        shares.predict_proba(images), shares.predict_proba((images / 255).astype(np.float32))
    )


def test_files_and_arrays_predict_alike(tmp_path):
    paths = []
    for i, each in enumerate(images):
        Image.fromarray(each).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    table = pd.DataFrame({"file": paths})
    expected = fit(max_epochs=2).predict_proba(images)
    np.testing.assert_array_equal(fit(table, max_epochs=2).predict_proba(table), expected)


def test_pixels_stay_bytes():
    rows = {}

    class Watching(MoDEImageClassifier):
        def _summarize(self, trained, data, former):
            rows["dtype"] = data.inputs[0].dtype
            super()._summarize(trained, data, former)

    Watching(**QUICK | {"max_epochs": 1}).fit(images, target)
    assert rows["dtype"] == torch.uint8


@pytest.mark.parametrize("frozen", [True, False])
def test_a_backbone_of_the_user_is_copied_and_trained_or_not(frozen):
    backbone = Backbone().requires_grad_(not frozen)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = fit(trunk_module=backbone)
    after = weights_of(model)
    assert all(torch.equal(backbone.state_dict()[name], value) for name, value in before.items())
    assert all(torch.equal(after[name], value) for name, value in before.items()) == frozen
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(images), model.predict_proba(images))


def test_a_backbone_with_flat_features_has_perceptrons_behind_it():
    model = fit(trunk_module=Backbone(flat=True))
    assert type(model.net_.module_.experts).__name__ == "MLPExperts"
    assert model.net_.module_.trunk.out_shape == (5,)


def test_users_networks_draw_the_same_numbers_alone_and_later():
    first = fit(trunk_module=make_backbone, expert_module=Expert).predict_proba(images)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = fit(trunk_module=make_backbone, expert_module=Expert).predict_proba(images)
    np.testing.assert_array_equal(first, again)
    assert torch.equal(state, torch.get_rng_state())


def test_augmentation_does_not_depend_on_the_process():
    first = fit(augment="shift").predict_proba(images)
    torch.manual_seed(5)
    np.testing.assert_array_equal(fit(augment="shift").predict_proba(images), first)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"trunk_module": Backbone}, ValueError, "The trunk must map images"),
        (
            {"trunk_module": Doubling()},
            ValueError,
            "The trunk must return torch.float32 for images of this type, got torch.float64 from",
        ),
        ({"trunk_module": lambda: None}, TypeError, "take one argument, in_shape"),
        ({"trunk_module": lambda shape: 3}, TypeError, "must return a torch.nn.Module, got int"),
        ({"expert_module": lambda: None}, TypeError, r"in_shape \(here \(6, 4, 4\)\)"),
        (
            {"expert_module": lambda shape: torch.nn.Linear(3, 3)},
            ValueError,
            r"must map \(n_samples, 6, 4, 4\).*maps of this shape",
        ),
    ],
)
def test_networks_that_do_not_fit_are_an_error(options, error, message):
    with pytest.raises(error, match=message):
        fit(images if options.get("trunk_module") is not Backbone else colours(), **options)


def test_colours_in_both_places():
    last = colours()
    first = np.moveaxis(last, -1, 1)
    expected = fit(last, max_epochs=2).predict_proba(last)
    found = fit(first, max_epochs=2, channels="first").predict_proba(first)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_several_values():
    y = np.stack([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)
    model = MoDEImageRegressor(**QUICK | {"max_epochs": 12}).fit(images, y)
    assert model.predict(images).shape == (300, 2)
    assert model.expert_predict(images).shape == (300, 3, 2)
    assert model.score(images, y) > 0.5


@pytest.mark.parametrize(
    ("n_rows", "expected"), [(60_000, 6), (7_500, 17), (4_000, 23), (100, 60), (10**7, 5)]
)
def test_automatic_epochs(n_rows, expected):
    assert MoDEImageClassifier()._resolve_epochs("auto", n_rows) == expected


@pytest.mark.parametrize("side", [1, 8])
def test_a_batch_may_be_a_single_image(side):
    """Its maps may end up with a single number each, which torch refuses to normalise."""
    options = QUICK | {"trunk_channels": (4, 4), "expert_channels": (4, 4)}
    X = images[:30, :side, :side]
    for model in (
        MoDEImageClassifier(**options).fit(X[:1], target[:1]),
        MoDEImageClassifier(**options, batch_size=1).fit(X, target[:30]),
        MoDEImageClassifier(**options).fit(X, target[:30], sample_weight=np.arange(30) == 4),
        MoDEImageClassifier(**options).partial_fit(X[:1], target[:1], classes=[0, 1]),
    ):
        assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize(
    ("n", "side", "largest"), [(9, 500, 4), (2, 1200, 1), (1300, 8, 1024)], ids=str
)
def test_few_pixels_are_in_double_precision_at_once(monkeypatch, n, side, largest):
    """1,024 images at once would be 400 MB for photos of 128 x 128 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, size=(n, side, side, 1), dtype=np.uint8)
    encoder = ImageEncoder().fit(pixels)
    weight = torch.arange(n).float()
    sizes, double = [], torch.Tensor.double

    def watched(tensor):
        sizes.append(tensor.numel())
        return double(tensor)

    monkeypatch.setattr(torch.Tensor, "double", watched)
    mean, scale = _statistics(torch.as_tensor(pixels), weight, encoder)
    assert max(sizes) == largest * side**2
    expected = np.average((pixels / 255).mean(axis=(1, 2)), axis=0, weights=weight)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    squares = np.average(((pixels / 255 - expected) ** 2).mean(axis=(1, 2)), axis=0, weights=weight)
    np.testing.assert_allclose(scale, squares**0.5, rtol=1e-6)


def test_images_are_learned_one_by_one():
    """Each is normalised by its own statistics, as long as it has any."""
    options = QUICK | {"trunk_channels": (4,), "expert_channels": (4,), "max_epochs": 12}
    large = np.kron(images[:120], np.ones((2, 2), images.dtype))
    one_by_one = MoDEImageClassifier(**options, batch_size=1).fit(large, target[:120])
    assert one_by_one.score(large, target[:120]) > 0.9


def make_backbone(shape):
    return torch.nn.Sequential(torch.nn.Conv2d(shape[0], 4, 3), torch.nn.Dropout(0.1))


def colours():
    return np.stack([images, images // 2, images // 3], axis=3)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (images[:9, :5], r"X must hold images of shape \(8, 8\) .* got \(5, 8\)"),
        (images[:9] / 255, "X must hold uint8 pixels, as training did"),
    ],
)
def test_errors_name_the_validation_images(X, message):
    with pytest.raises(ValueError, match=f"^X_val and y_val must be as X and y are: {message}"):
        MoDEImageClassifier(**QUICK).fit(images, target, X_val=X, y_val=target[:9])
