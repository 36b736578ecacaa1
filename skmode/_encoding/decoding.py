"""Decode images with Pillow, which is imported only where there is something to decode."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Modes of Pillow whose pixels are 8-bit numbers that a network can read as they are.
PLAIN_MODES = ("L", "RGB", "RGBA")
# Modes that stand for one of these, without loss.
SAME_AS = {"1": "L", "P": "RGB"}
# What they are where one of their colours is transparent.
WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
# What skmode_deploy reads, too.
FORMATS = ("PNG", "JPEG")
# Pillow warns of more pixels, and raises at twice as many. One image of 8 bits would take 268 MB.
MAX_PIXELS = 89_478_485


def decode(items: Sequence[Any], rows: Sequence[int]) -> list[NDArray[Any]]:
    """Turn images of any kind into arrays: of two dimensions if grey, else with channels last.

    `rows` are their numbers in messages.
    """
    return [_decode_one(item, i) for item, i in zip(items, rows, strict=True)]


def is_array(item: Any) -> bool:
    """Whether this is an array, or what numpy makes one of: a tensor, or lists of numbers."""
    if isinstance(item, list | tuple):
        return bool(item) and isinstance(item[0], list | tuple)
    is_scalar = isinstance(item, np.generic)
    return hasattr(item, "__array__") and not is_scalar and not is_pillow(item)


def _decode_one(item: Any, i: int) -> NDArray[Any]:
    if is_array(item):
        return _to_array(item, i)
    if is_pillow(item):
        return _pixels(item, i, f"image {i}")
    if isinstance(item, bytes | bytearray | memoryview):
        return _open(io.BytesIO(item), f"image {i}", i)
    if isinstance(item, str | os.PathLike):
        return _open(os.fspath(item), f"image {i} ({os.fspath(item)!r})", i)
    is_missing = item is None or (isinstance(item, float) and item != item)
    what = "a missing value" if is_missing else type(item).__name__
    raise TypeError(
        "Each image must be an array, a PIL image, the bytes of a file or a path, got "
        f"{what} for image {i}: convert it, or leave the row out."
    )


def as_array(values: Any) -> NDArray[Any]:
    """Make an array, also of tensors that numpy refuses: with a gradient, on a GPU, of bfloat16."""
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
    return np.asarray(values)


def _to_array(item: Any, i: int) -> NDArray[Any]:
    try:
        return as_array(item)
    except ValueError as error:
        raise ValueError(
            f"The rows of an image must have one length, got image {i}, of which numpy says: "
            f"{error} Correct it."
        ) from error


def is_pillow(item: Any) -> bool:
    """Whether this is an image of Pillow, without importing it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(item, pillow.Image)


def _open(file: Any, name: str, i: int) -> NDArray[Any]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Files of images are read with Pillow, which is not installed: "
            "pip install 'skmode[image]', or pass arrays."
        ) from error
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(_too_large(name, "more than twice as many")) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"Files of images must be PNG or JPEG, got {name}, which is neither: convert it, pass "
            "it as a PIL image, or leave it out."
        ) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        message = f"Each path must be that of an image, but of image {i}: {error.strerror}"
        raise type(error)(error.errno, message, error.filename) from error
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow raise errors of many types
        raise ValueError(_damaged(name, error)) from error
    with image:
        return _pixels(image, i, name)


def _pixels(image: Any, i: int, name: str) -> NDArray[Any]:
    """Read the pixels, in the colours that the image has."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(_too_large(name, f"{width} x {height}"))
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # photos with a preview
        raise ValueError(
            f"Each image must be a single picture, got {image.n_frames} of them in image {i}: "
            "choose one with image.seek(0) and image.copy()."
        )
    mode = SAME_AS.get(image.mode, image.mode)
    if _has_transparent_colour(image):
        mode = WITH_ALPHA.get(mode, mode)
    if mode not in PLAIN_MODES or _has_16_bits(image):
        raise ValueError(_wrong_mode("16 bits" if mode in PLAIN_MODES else mode, i))
    try:
        image.load()
        return np.asarray(image if mode == image.mode else image.convert(mode))
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(_damaged(name, error)) from error


def _has_transparent_colour(image: Any) -> bool:
    """Whether a colour of a palette is transparent, or one that the file names."""
    if image.mode == "P":
        return bool(image.has_transparency_data)
    # Conversions keep the note, and have no format.
    return image.format is not None and "transparency" in image.info


def _has_16_bits(image: Any) -> bool:
    """Whether Pillow would drop the lower half of 16 bits; it knows until the image is loaded."""
    return any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _damaged(name: str, error: Exception) -> str:
    return (
        f"Files must be whole images, got {name}, of which Pillow says: {error}. Write it again, "
        "or leave it out."
    )


def _wrong_mode(mode: str, i: int) -> str:
    if mode == "16 bits":
        cure = "Pillow drops half of the bits of each colour: save it with 8 bits"
    elif mode.startswith(("I", "F")):
        example = "" if mode == "F" else ", for example np.asarray(image) / 65535"
        cure = (
            "it has more than 8 bits per pixel: scale its array to [0, 1] and pass the array"
            f"{example}"
        )
    else:
        cure = f'convert it, for example with image.convert("{"L" if mode == "LA" else "RGB"}")'
    return f"Images must be grey (L), RGB or RGBA with 8 bits, got {mode} for image {i}: {cure}."


def _too_large(name: str, got: str) -> str:
    return (
        f"Images must have at most {MAX_PIXELS:,} pixels, because a small file may hold a huge "
        f"image, got {got} in {name}: leave it out, or make it smaller."
    )
