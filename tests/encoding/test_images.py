"""Images as users pass them: what is read, what is refused and with which cure."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

from skmode._encoding import decoding
from skmode._encoding.images import ImageEncoder, check_images

rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, size=(5, 6, 7), dtype=np.uint8)
GREY[0, 0, :2] = 0, 255
COLOUR = rng.integers(0, 256, size=(5, 6, 7, 3), dtype=np.uint8)


def read(X, channels="last"):
    return check_images(X, channels, "MoDEImageClassifier")


def file_of(array, form="PNG", **options):
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(
    "wrap",
    [
        list,
        pd.Series,
        lambda items: pd.DataFrame({"image": items}),
        lambda items: np.fromiter(items, dtype=object),
    ],
    ids=["list", "Series", "DataFrame", "object array"],
)
def test_all_kinds_of_images_read_alike(tmp_path, array, wrap):
    paths = []
    for i, each in enumerate(array):
        Image.fromarray(each).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    for items in (
        list(array),
        [Image.fromarray(each) for each in array],
        [file_of(each) for each in array],
        paths,
        list(map(str, paths)),
    ):
        found = read(wrap(items))
        assert found.dtype == np.uint8
        assert_array_equal(found, array)


def test_other_tables_and_tensors():
    files = [file_of(each) for each in GREY]
    assert_array_equal(read(pl.DataFrame({"image": files})), GREY)
    assert_array_equal(read(pl.Series(files)), GREY)
    assert_array_equal(read(torch.as_tensor(GREY)), GREY)
    assert_array_equal(read((GREY / 255).tolist()), (GREY / 255).astype(np.float32))
    assert_array_equal(read(list(torch.as_tensor(GREY))), GREY)
    assert_array_equal(read(pl.DataFrame({"image": pl.Series(GREY)})), GREY)
    mixed = [GREY[0], torch.as_tensor(GREY[1]), file_of(GREY[2]), Image.fromarray(GREY[3])]
    assert_array_equal(read(mixed), GREY[:4])


@pytest.mark.parametrize("wrap", [lambda tensor: tensor, list], ids=["tensor", "list"])
def test_tensors_that_numpy_refuses(wrap):
    shares = torch.as_tensor(GREY) / 255
    assert_array_equal(read(wrap(shares.clone().requires_grad_())), shares)
    assert_array_equal(read(wrap(shares.bfloat16())), shares.bfloat16().float())


@pytest.mark.parametrize("wrap", [list, torch.as_tensor, lambda X: list(torch.as_tensor(X))])
def test_arrays_of_any_kind_keep_their_axes(wrap):
    first = np.moveaxis(COLOUR, -1, 1).copy()
    assert_array_equal(read(wrap(first), "first"), first)


def test_lists_of_numbers_in_columns_are_images():
    """Tables keep images as nested lists where they were read from Parquet."""
    nested = (GREY / 255).tolist()
    for column in (pd.Series(nested), pl.Series(nested), pl.DataFrame({"image": nested})):
        assert_array_equal(read(column), (GREY / 255).astype(np.float32))


def test_decoded_colours_go_where_channels_say():
    files = [file_of(each) for each in COLOUR]
    assert_array_equal(read(files, "first"), np.moveaxis(COLOUR, -1, 1))
    assert_array_equal(read(list(np.moveaxis(COLOUR, -1, 1)), "first"), np.moveaxis(COLOUR, -1, 1))


def test_floats_become_float32():
    assert read(GREY / 255.0).dtype == np.float32
    assert read((GREY / 255).astype(np.float16)).dtype == np.float32
    assert read(GREY / 255 * (1 + 1e-15)).max() == 1  # as interpolation leaves them


def test_palettes_and_bits_keep_their_colours():
    palette = Image.fromarray(COLOUR[0]).quantize(4)
    assert_array_equal(read([palette])[0], np.asarray(palette.convert("RGB")))
    transparent = Image.fromarray(np.dstack([COLOUR[0], GREY[0]])).quantize(4)
    assert_array_equal(read([transparent])[0], np.asarray(transparent.convert("RGBA")))
    bits = Image.fromarray(GREY[0]).convert("1")
    assert set(np.unique(read([bits]))) <= {0, 255}


def test_a_transparent_colour_is_an_alpha_channel():
    file = file_of(COLOUR[0], transparency=tuple(COLOUR[0, 1, 1].tolist()))
    (found,) = read([file])
    assert_array_equal(found[..., :3], COLOUR[0])
    assert found[1, 1, 3] == 0
    with pytest.raises(ValueError, match="must have one shape"):
        read([file, file_of(COLOUR[1])])
    opened = Image.open(io.BytesIO(file))
    assert_array_equal(read([opened.convert("RGB")])[0], COLOUR[0])
    for grey in (GREY[0], GREY[0] > 99):
        file = file_of(grey, transparency=0)
        with pytest.raises(ValueError, match=r'got LA for image 0: .* image\.convert\("L"\)'):
            read([file])
        opened = Image.open(io.BytesIO(file))
        assert_array_equal(read([opened.convert("L")])[0], opened.convert("L"))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (GREY[:0], r"Found array with 0 sample\(s\)"),
        ([], r"Found array with 0 sample\(s\)"),
        (GREY[0], r"X\.reshape\(-1, height, width\)"),
        (GREY.astype(np.int64), r"got int64: pass X\.astype\(np\.uint8\)"),
        (
            GREY.astype(np.uint16),
            r"got uint16: pass X\.astype\(np\.uint8\) if they are from 0 to 255, or pass X / 65535",
        ),
        (GREY.astype(">u2") * 257, "got uint16: pass X / 65535 if they are from 0 to 65,535"),
        (GREY.astype(object), "got object: convert the images to numbers"),
        (GREY.astype(str), "got str96: convert the images to numbers"),
        (GREY / 255 * 1.00001, r"got 0 to 1\.00001: clip them with np\.clip\(X, 0, 1\)"),
        (np.full((2, 3, 3), 1e300), "contains infinity"),
        (np.ma.masked_array(GREY, GREY > 250), r"masked arrays, .* got X: pass X\.filled\(0\)"),
        ([GREY[0], np.ma.masked_array(GREY[1], False)], "masked arrays, .* got image 1"),
        ([[[0.0, 1.0], [0.5, 0.5]], [[0.0, 1.0], [0.5]]], "rows of an image .* got image 1"),
        ([[[0.0, 1.0]], [[0.5]]], r"\(1, 2\) for image 0 and \(1, 1\) for image 1"),
        (GREY > 9, r"got bool: pass X\.astype\(np\.uint8\) \* 255"),
        (GREY * 1.0, r"within \[0, 1\], got 0 to 255: divide by 255"),
        (GREY / 255 - 0.5, "got -0.5 to 0.5: scale them"),
        (np.where(GREY > 250, np.nan, GREY / 255), "contains NaN"),
        (np.where(GREY > 250, np.inf, GREY / 255), "contains infinity"),
        (np.moveaxis(COLOUR, -1, 1), 'got 7 .*channels="last": set channels="first"'),
        (GREY[..., None].repeat(5, axis=3), "got 5 .*make them grey, RGB or RGBA"),
        ([GREY[0], GREY[1, :5]], r"\(6, 7\) for image 0 and \(5, 7\) for image 1: resize"),
        ([GREY[0], COLOUR[0]], "convert their colours"),
        ([GREY[0], GREY[0] / 255], "one type, got uint8 for image 0 and float64 for image 1"),
        (pd.DataFrame({"a": [1], "b": [2]}), "must have one column, which holds them, got 2"),
        ("image.png", "many images, got a single str"),
        (b"PNG", "many images, got a single bytes"),
        (Path("image.png"), "many images, got a single"),
        (Image.fromarray(GREY[0]), "many images, got a single Image"),
    ],
)
def test_what_is_no_image_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        read(X)


def test_channels_are_not_guessed():
    with pytest.raises(ValueError, match='got 6 .*channels="first": set channels="last"'):
        read(COLOUR, "first")


def cmyk():
    return Image.fromarray(COLOUR[0]).convert("CMYK")


def png_of_16_bits():
    """RGB with 16 bits, which Pillow cuts to 8 without a word and cannot write."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    lines = (b"\0" + bytes(6 * 4)) * 4
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (cmyk(), r'got CMYK for image 0: .*convert\("RGB"\)'),
        (file_of(cmyk(), "JPEG"), "got CMYK for image 0"),
        (Image.fromarray(GREY[0].astype(np.uint16)), r"got I;16 .*np\.asarray\(image\) / 65535"),
        (file_of(GREY[0].astype(np.uint16)), "got I;16"),
        (Image.fromarray(GREY[0]).convert("LA"), r'got LA .*convert\("L"\)'),
        (file_of(rng.integers(0, 256, (90, 90), dtype=np.uint8), "JPEG")[:-900], "whole images"),
        (file_of(GREY[0])[:50], "images"),
        (b"no image", "which is neither"),
        (b"", "which is neither"),
        (file_of(COLOUR[0], "BMP"), "must be PNG or JPEG, .* which is neither"),
        (png_of_16_bits(), "got 16 bits for image 0: .*: save it with 8 bits"),
        (Image.new("F", (4, 4)), r"got F for .* and pass the array\.$"),
    ],
)
def test_files_that_cannot_be_read_are_refused(item, message):
    with pytest.raises(ValueError, match=message):
        read([item])


def test_a_picture_of_several_is_refused():
    frames = [Image.fromarray(each) for each in GREY]
    film = file_of(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"single picture, got \d of them in image 0"):
        read([film])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [30, 80])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch, limit):
    bomb = file_of(np.zeros((10, 10), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(decoding, "MAX_PIXELS", limit)
    with pytest.raises(ValueError, match="at most .* pixels, because a small file may hold a huge"):
        read([bomb])


@pytest.mark.parametrize(
    ("item", "what"),
    [
        (None, "a missing value"),
        (np.nan, "a missing value"),
        (float("nan"), "a missing value"),
        (3, "int"),
        ([1, 2], "list"),
        ({"bytes": b""}, "dict"),
    ],
)
def test_what_holds_no_image_is_refused(item, what):
    for items in ([GREY[0], item], [item, "image.png"]):
        with pytest.raises(
            TypeError, match=f"Each image must be an array, a PIL image.* got {what} "
        ):
            read(items)


def test_a_missing_file_is_named(tmp_path):
    message = r"Each path must be that of an image, but of image 1: No such file.*nowhere\.png"
    with pytest.raises(FileNotFoundError, match=message) as raised:
        read([GREY[0], tmp_path / "nowhere.png"])
    assert raised.value.filename == str(tmp_path / "nowhere.png")


def test_an_encoder_brings_pixels_into_the_type_of_training():
    whole, floats = ImageEncoder().fit(GREY), ImageEncoder().fit(read(GREY / 255))
    assert_array_equal(whole.transform(GREY), GREY)
    assert_array_equal(floats.transform(GREY), read(GREY / 255))
    with pytest.raises(ValueError, match="must hold uint8 pixels, as training did, got float32"):
        whole.transform(read(GREY / 255))


@pytest.mark.parametrize(
    ("trained", "given", "cure"),
    [
        (GREY, GREY[..., None], r"change only the axes, with X\.reshape\(-1, 6, 7\)"),
        (GREY[..., None], GREY, r"change only the axes, with X\.reshape\(-1, 6, 7, 1\)"),
        (GREY, GREY[:, :5], "resize or crop"),
        (GREY, COLOUR, "convert their colours"),
        (COLOUR, np.moveaxis(COLOUR, 1, 2), "move the axes"),
        (COLOUR, COLOUR[:, :5], "resize or crop"),
    ],
)
def test_another_shape_than_in_training_is_refused(trained, given, cure):
    with pytest.raises(ValueError, match=f"as training did.*{cure}"):
        ImageEncoder().fit(trained).transform(given)


@pytest.mark.slow
def test_pillow_is_loaded_only_to_decode():
    code = """
import sys, numpy as np, skmode
model = skmode.MoDEImageClassifier(2, max_epochs=1)
model.fit(np.zeros((9, 4, 4), np.uint8), [0, 1, 1] * 3).predict(list(np.zeros((2, 4, 4), np.uint8)))
assert not [name for name in sys.modules if name.split(".")[0] == "PIL"]
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_without_pillow_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'skmode\[image\]'"):
        read([b"file"])
