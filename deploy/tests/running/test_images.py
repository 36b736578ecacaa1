"""Images as users pass them; the model says how light both halves are."""

import io
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import skmode_deploy
from skmode_deploy.running.mixture import MixturePredictor

PIL = pytest.importorskip("PIL.Image")

LAYOUTS = [("hw", 1), ("hwc", 1), ("hwc", 3), ("chw", 3), ("hwc", 4), ("chw", 1), ("hwc", 2)]


def shape_of(layout, channels):
    return {"hw": (4, 6), "hwc": (4, 6, channels), "chw": (channels, 4, 6)}[layout]


def random_images(n=5, layout="hw", channels=1):
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(n, *shape_of(layout, channels)), dtype=np.uint8)


def lightness(X):
    return X.reshape(len(X), -1).mean(axis=1) / (255 if X.dtype == np.uint8 else 1)


def encode(image, **options):
    stream = io.BytesIO()
    image.save(stream, **{"format": "PNG", **options})
    return stream.getvalue()


def with_16_bits(colour_type, channels):
    """A PNG of 16 bits, which Pillow cannot write in colour."""
    import struct
    import zlib

    def chunk(name, data):
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 6, 4, 16, colour_type, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\x00" + b"\x12\x34" * channels * 6 for _ in range(4)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("layout", "channels"), LAYOUTS)
def test_arrays(make_image_bundle, layout, channels, dtype):
    model = skmode_deploy.load(make_image_bundle(layout, dtype, channels))
    X = random_images(5, layout, channels)
    found = model.predict_full(X)
    assert_allclose(found.probabilities[:, 1], lightness(X), rtol=1e-5)
    assert found.value.tolist() == ["light" if mean > 0.5 else "dark" for mean in lightness(X)]
    assert_array_equal(model.predict(list(X)), found.value)
    assert_array_equal(model.predict_proba(tuple(X)), found.probabilities)
    assert_array_equal(model.route(X), found.expert)
    assert set(found.expert.tolist()) == {0, 1}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_strategies(make_image_bundle, task):
    folder = make_image_bundle(task=task)
    X = random_images(7)
    whole = skmode_deploy.load(folder)
    parts = skmode_deploy.load(folder, strategy="split", max_loaded_experts=1)
    for found, expected in zip(parts.predict_full(X), whole.predict_full(X), strict=True):
        if expected is not None:
            assert_array_equal(found, expected)
    assert_allclose(
        MixturePredictor(folder, whole.manifest).predict(X)[:, -1], lightness(X), rtol=1e-5
    )
    assert_array_equal(pickle.loads(pickle.dumps(whole)).predict(X), whole.predict(X))


def test_floats(make_image_bundle):
    model = skmode_deploy.load(make_image_bundle(dtype="float32"))
    X = random_images()
    expected = model.predict_proba(X)
    for dtype in (np.float32, np.float64, ">f8"):
        assert_array_equal(model.predict_proba((X / np.float32(255)).astype(dtype)), expected)
    above = np.nextafter(np.ones((1, 4, 6)), 2)  # as interpolation leaves ones
    assert_array_equal(model.predict_proba(above), model.predict_proba(np.ones((1, 4, 6))))
    mixed = [X[0], X[1] / np.float32(255)]
    assert_array_equal(model.predict_proba(mixed), expected[:2])


def test_no_images(make_image_bundle):
    model = skmode_deploy.load(make_image_bundle())
    for nothing in (np.empty((0, 4, 6), np.uint8), [], pd.Series([], dtype=object)):
        found = model.predict_full(nothing)
        assert found.value.shape == (0,)
        assert found.probabilities.shape == (0, 2)


def test_views(make_image_bundle):
    model = skmode_deploy.load(make_image_bundle())
    X = random_images(8)
    assert_array_equal(model.predict_proba(X[::-2]), model.predict_proba(X)[::-2])
    turned = np.ascontiguousarray(X.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert_array_equal(model.predict_proba(turned), model.predict_proba(X))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("layout", "channels"), LAYOUTS[:-1])
def test_decoding(make_image_bundle, tmp_path, layout, channels, dtype):
    """PIL images, the bytes of files, paths and columns of them are as good as arrays."""
    model = skmode_deploy.load(make_image_bundle(layout, dtype, channels))
    X = random_images(4, layout, channels)
    pixels = np.moveaxis(X, 1, -1) if layout == "chw" else X
    pictures = [PIL.fromarray(image.squeeze()) for image in pixels]
    files = [encode(picture) for picture in pictures]
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    expected = model.predict_proba(X)
    texts = list(map(str, paths))
    for images in (pictures, files, paths, texts, np.array(texts), [*X[:2], *files[2:]]):
        assert_array_equal(model.predict_proba(images), expected)
    for images in (
        pd.Series(pictures), pd.DataFrame({"image": files}), pl.Series(files), {"image": texts},
        pl.DataFrame({"image": texts}), pa.array(files), pa.table({"image": files}),
        pd.Series(paths).to_numpy(), [bytearray(file) for file in files],
    ):  # fmt: skip
        assert_array_equal(model.predict_proba(images), expected)


def test_arrays_in_other_libraries(make_image_bundle):
    X = random_images()
    for dtype, pixels in ("uint8", X), ("float32", X / np.float32(255)):
        model = skmode_deploy.load(make_image_bundle(dtype=dtype, path=dtype))
        expected = model.predict_proba(pixels)
        for images in (pl.Series(pixels), pl.DataFrame({"image": pl.Series(pixels)})):
            assert_array_equal(model.predict_proba(images), expected)
    nested = pixels.tolist()
    for images in (nested, pd.Series(nested), pl.Series(nested), pa.array(nested)):
        assert_array_equal(model.predict_proba(images), expected)


def test_same_colours(make_image_bundle):
    """A palette and black and white are other forms of the same pixels."""
    rng = np.random.default_rng(0)
    bits = PIL.fromarray(rng.random((4, 6)) > 0.5)
    model = skmode_deploy.load(make_image_bundle(path="grey"))
    assert_allclose(model.predict_proba([encode(bits)])[:, 1], np.asarray(bits).mean(), rtol=1e-5)
    model = skmode_deploy.load(make_image_bundle("hwc", channels=3, path="colour"))
    picture = PIL.fromarray(random_images(1, "hwc", 3)[0]).quantize(8)
    assert picture.mode == "P"
    expected = model.predict_proba(np.asarray(picture.convert("RGB"))[None])
    assert_array_equal(model.predict_proba([picture]), expected)
    jpeg = encode(picture.convert("RGB"), format="JPEG")
    pixels = np.asarray(PIL.open(io.BytesIO(jpeg)))
    assert_array_equal(model.predict_proba([jpeg]), model.predict_proba(pixels[None]))


def nan_at(i):
    X = random_images() / np.float32(255)
    X[i, 1, 2] = np.nan
    return X


@pytest.mark.parametrize(
    ("layout", "channels", "X", "message"),
    [
        ("hw", 1, np.zeros((2, 28, 28)), r"must have shape \(n_samples, 4, 6\), got \(2, 28, 28\)"),
        ("hw", 1, np.zeros((4, 6)), r"got \(4, 6\): a single image is X\[None\]"),
        ("hw", 1, np.zeros((2, 4, 6, 1)), r"change only the axes, with X.reshape\(-1, 4, 6\)"),
        ("hwc", 1, np.zeros((2, 4, 6)), r"X.reshape\(-1, 4, 6, 1\)"),
        ("chw", 1, np.zeros((2, 4, 6, 1)), r"X.reshape\(-1, 1, 4, 6\)"),
        ("hw", 1, np.zeros((2, 24)), r"give each image its axes, with X.reshape\(-1, 4, 6\)"),
        ("hwc", 3, np.zeros((2, 3, 4, 6)), r"move the channels to the end, .*moveaxis\(X, 1, -1\)"),
        ("chw", 3, np.zeros((2, 4, 6, 3)), r"before the height, with np.moveaxis\(X, -1, 1\)"),
        ("hwc", 3, np.zeros((2, 4, 6)), "convert their colours to RGB"),
        ("hw", 1, [np.zeros((4, 6), np.uint8), np.zeros((4, 7))], r"Image 1 must have shape"),
        ("hw", 1, np.zeros((2, 4, 6), np.int64), "must be of uint8, .* got int64: pass X.astype"),
        ("hw", 1, np.zeros((2, 4, 6), bool), "got bool: pass X.astype"),
        ("hw", 1, np.zeros((2, 4, 6), np.uint16), "got uint16: pass .X // 256"),
        ("hw", 1, np.zeros((2, 4, 6), complex), "got complex128: convert"),
        ("hw", 1, "photo.png", r"any number of images, got a single str: pass a list, \[X\]"),
        ("hw", 1, b"photo", "got a single bytes"),
        ("hw", 1, 3, "must be an array, or a list or a column of images, got int"),
        ("hw", 1, [None], "Image 0 must be an array, a PIL image, .* got a missing value"),
        ("hw", 1, [float("nan")], "got a missing value"),
        ("hw", 1, [[0, 1]], "Image 0 must be an array, .* got list"),
        ("hw", 1, [[[0, 1]]], r"Image 0 must have shape \(4, 6\), got \(1, 2\)"),
        ("hw", 1, [[[0, 1], [0]]], "Image 0 must have rows of one length"),
        ("hw", 1, np.zeros((2, 4, 6), int).tolist(), r"got int64: pass X\.astype"),
        ("hw", 1, [b""], "Image 0 must be a PNG or JPEG file, got what is neither"),
        ("hw", 1, pd.DataFrame({"a": [0], "b": [1]}), "got a table of 2 columns: select"),
        ("hw", 1, np.ma.masked_array(np.zeros((2, 4, 6), np.uint8)), r"must not be .* X\.filled"),
        ("hw", 1, [np.ma.masked_array(np.zeros((4, 6), np.uint8))], "Image 0 must not be a masked"),
        ("hwc", 2, [PIL.new("LA", (6, 4))], "must be an array, because the model reads 2 channels"),
    ],
)  # fmt: skip
def test_refusals(make_image_bundle, layout, channels, X, message):
    model = skmode_deploy.load(make_image_bundle(layout, channels=channels))
    with pytest.raises(ValueError, match=message):
        model.predict(X)


@pytest.mark.parametrize(
    ("dtype", "X", "message"),
    [
        ("float32", nan_at(3), "Image 3 must hold finite numbers from 0 to 1, got nan: fill"),
        ("float32", [*nan_at(3)], "Image 3 must hold finite numbers from 0 to 1, got nan"),
        ("float32", np.full((2, 4, 6), np.inf), "Image 0 .* got inf"),
        ("float32", np.full((2, 4, 6), 255.0), "from 0 to 1, got 255: scale them"),
        ("float32", np.full((2, 4, 6), -0.1), "from 0 to 1, got -0.1"),
        ("float32", np.full((2, 4, 6), 1.00001), r"got 1\.00001: clip them with np\.clip\(X"),
        ("float32", np.zeros((2, 4, 6), int), "or of floats from 0 to 1, got int64"),
        ("uint8", nan_at(3), r"must be of uint8, from 0 to 255, got float32: pass \(X \* 255\)"),
    ],
)
def test_refused_numbers(make_image_bundle, dtype, X, message):
    model = skmode_deploy.load(make_image_bundle(dtype=dtype))
    with pytest.raises(ValueError, match=message):
        model.predict(X)


GREY = PIL.new("L", (6, 4))
RGB = PIL.new("RGB", (6, 4))
PNG = encode(PIL.fromarray(random_images(1)[0]))
JPEG = encode(PIL.fromarray(random_images(1, "hwc", 3)[0]), format="JPEG", quality=100)


@pytest.mark.parametrize(
    ("channels", "file", "message"),
    [
        (1, encode(PIL.new("L", (7, 4))), "must have height 4 and width 6, got 4 and 7: resize"),
        (1, PIL.new("L", (4, 6)), "height 4 and width 6, got 6 and 4"),
        (1, RGB, r'must be grey of 8 bits, got RGB: .*image.convert\("L"\)'),
        (3, GREY, r'must be RGB of 8 bits, got grey: .*image.convert\("RGB"\)'),
        (3, PIL.new("CMYK", (6, 4)), "must be RGB of 8 bits, got mode CMYK: convert"),
        (3, encode(PIL.new("CMYK", (6, 4)), format="JPEG"), "got mode CMYK"),
        (3, encode(PIL.new("RGBA", (6, 4))), "got an alpha channel .mode RGBA.: put it on a"),
        (1, PIL.new("LA", (6, 4)), "got an alpha channel .mode LA."),
        (4, RGB, "must be RGB with an alpha channel of 8 bits, got RGB"),
        (1, encode(PIL.new("I;16", (6, 4))), "got more than 8 bits .mode I;16.*save it with 8"),
        (1, PIL.new("F", (6, 4)), "got more than 8 bits .mode F"),
        (3, with_16_bits(2, 3), "must be RGB of 8 bits, got more than 8 bits .mode RGB"),
        (4, with_16_bits(6, 4), "got more than 8 bits .mode RGBA"),
        (3, encode(RGB, format="GIF"), "must be a PNG or JPEG file, got what is neither: convert"),
        (3, b"not an image", "must be a PNG or JPEG file, got what is neither: convert"),
        (1, PNG[:55], "must be a whole image, but decoding it failed"),
        (3, JPEG[:-30], "must be a whole image, but .* truncated"),
        (3, JPEG[:150], "must be a PNG or JPEG file|a whole image"),
    ],
)  # fmt: skip
def test_bad_files(make_image_bundle, channels, file, message):
    layout = "hw" if channels == 1 else "hwc"
    model = skmode_deploy.load(make_image_bundle(layout, channels=channels))
    good = random_images(1, layout, channels)[0]
    with pytest.raises(ValueError, match="Image 1 .*" + message):
        model.predict([good, file])


@pytest.mark.parametrize("file", [PNG, JPEG])
def test_damaged_files(make_image_bundle, file):
    """Whatever is damaged, an image is read or refused by its number."""
    layout, channels = ("hw", 1) if file is PNG else ("hwc", 3)
    model = skmode_deploy.load(make_image_bundle(layout, channels=channels))
    rng = np.random.default_rng(0)
    refusals = []
    for _ in range(200):
        damaged = bytearray(file[: rng.integers(1, len(file) + 1)])
        for i in rng.integers(len(damaged), size=rng.integers(3)):
            damaged[i] = rng.integers(256)
        try:
            with warnings.catch_warnings(action="ignore"):
                model.predict([damaged])
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert [text for text in refusals if not text.startswith("Image 0 must ")] == []


def test_palette_with_transparency(make_image_bundle):
    picture = PIL.fromarray(random_images(1, "hwc", 3)[0]).quantize(8)
    file = encode(picture, transparency=0)
    model = skmode_deploy.load(make_image_bundle("hwc", channels=3))
    in_palette = PIL.fromarray(random_images(1, "hwc", 4)[0]).quantize(8)
    for image in (file, in_palette):
        with pytest.raises(ValueError, match="got an alpha channel .mode P."):
            model.predict([image])


def test_a_transparent_colour(make_image_bundle):
    """One colour of a PNG without a palette may be transparent, too."""
    colour = random_images(1, "hwc", 3)[0]
    file = encode(PIL.fromarray(colour), transparency=tuple(colour[0, 0].tolist()))
    model = skmode_deploy.load(make_image_bundle("hwc", channels=3, path="colour"))
    with pytest.raises(ValueError, match="got an alpha channel .mode RGB.: put it on a"):
        model.predict([file])
    opened = PIL.open(io.BytesIO(file))
    converted = model.predict_proba([opened.convert("RGB")])
    assert_array_equal(converted, model.predict_proba(colour[None]))
    model = skmode_deploy.load(make_image_bundle("hwc", channels=4, path="alpha"))
    with_alpha = np.asarray(opened.convert("RGBA"))
    assert with_alpha[0, 0, 3] == 0
    assert_array_equal(model.predict_proba([file]), model.predict_proba(with_alpha[None]))
    model = skmode_deploy.load(make_image_bundle(path="grey"))
    for picture in (PIL.fromarray(random_images(1)[0]), GREY.convert("1")):
        with pytest.raises(ValueError, match=r"got an alpha channel .mode [L1]."):
            model.predict([encode(picture, transparency=0)])


def test_animation(make_image_bundle):
    file = encode(GREY, save_all=True, append_images=[PIL.new("L", (6, 4), 9)])
    model = skmode_deploy.load(make_image_bundle())
    with pytest.raises(ValueError, match="must be a single picture, got 2 frames"):
        model.predict([file])


def test_decompression_bomb(make_image_bundle, monkeypatch):
    """Nothing is decoded, whether Pillow warns of the size or refuses it."""
    model = skmode_deploy.load(make_image_bundle())
    file = encode(PIL.new("L", (100, 100)))
    monkeypatch.setattr(PIL.Image, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(PIL, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ValueError, match="must have 4 x 6 pixels, got far more: Image size"):
        model.predict([file])
    monkeypatch.setattr(PIL, "MAX_IMAGE_PIXELS", 8000)
    for action, message in (("ignore", "got 100 and 100"), ("error", "got far more: Image size")):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            with pytest.raises(ValueError, match=message):
                model.predict([file])


def test_missing_file(make_image_bundle, tmp_path):
    model = skmode_deploy.load(make_image_bundle())
    with pytest.raises(FileNotFoundError, match=r"mage 0, .* must be the path of an image"):
        model.predict([tmp_path / "none.png"])


def test_max_rows(make_image_bundle):
    model = skmode_deploy.load(make_image_bundle(), max_rows=3)
    X = random_images(4)
    assert len(model.predict(X[:3])) == 3
    for images in (X, list(X)):
        with pytest.raises(ValueError, match="at most max_rows=3 images, got 4"):
            model.predict(images)


def test_many_images_are_computed_in_parts(make_image_bundle, monkeypatch):
    """Convolutions make a hundred bytes and more of each pixel."""
    model, X = skmode_deploy.load(make_image_bundle()), random_images(12_000)
    sizes, run = [], model.run

    def watched(outputs, feeds):
        sizes.append(feeds["image"].size)
        return run(outputs, feeds)

    monkeypatch.setattr(model, "run", watched)
    found = model.predict_full(X)
    assert len(sizes) == 2
    assert max(sizes) <= 2**18
    assert_allclose(found.probabilities[:, 1], lightness(X), atol=1e-6)
    assert_array_equal(found.expert, np.concatenate([model.route(X[:9000]), model.route(X[9000:])]))


def test_without_pillow(make_image_bundle, tmp_path):
    """Arrays need no Pillow, and files say how to install it."""
    code = f"""
import sys
import numpy as np
sys.modules["PIL"] = None
import skmode_deploy
model = skmode_deploy.load({str(make_image_bundle())!r})
print(model.predict(np.zeros((1, 4, 6), np.uint8)).tolist())
try:
    model.predict([b"file"])
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("['dark']\nFiles of images are read with Pillow, which is not")
    assert "pip install './deploy[image]'" in done.stdout
