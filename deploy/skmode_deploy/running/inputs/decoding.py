"""Decode images with Pillow, which is imported only if there is something to decode."""

import io
import os
import sys
from typing import Any, NoReturn

import numpy as np

from skmode_deploy.bundle import Image
from skmode_deploy.bundle.messages import as_sentence, shorten
from skmode_deploy.running.inputs.columns import Array

FORMATS = ("PNG", "JPEG")
# By the number of channels: Pillow's name for such colours of 8 bits.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Colours that are the same in another form: black and white, and numbers of a palette.
SAME_AS = {"1": "L", "P": "RGB"}
# What they are where one of them is transparent.
WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}


def is_pillow_image(item: Any) -> bool:
    """Whether this is an image of Pillow, without importing it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(item, pillow.Image)


def decode(item: Any, image: Image, name: str) -> Array:
    """Read an image of Pillow, the bytes of a file, or a path, as the model's uint8 array."""
    if is_pillow_image(item):
        return _read(item, image, name)
    if isinstance(item, bytes | bytearray | memoryview):
        return _open(io.BytesIO(item), image, name)
    if isinstance(item, str | os.PathLike):
        path = os.fspath(item)
        return _open(path, image, f"{name}, {shorten(repr(path))},")
    is_missing = item is None or (isinstance(item, float) and item != item)
    what = "a missing value" if is_missing else type(item).__name__
    raise ValueError(
        f"{name} must be an array, a PIL image, the bytes of a PNG or JPEG file, or its path, got "
        f"{what}: convert it, or leave it out."
    )


def _open(file: Any, image: Image, name: str) -> Array:
    pillow = _import_pillow()
    bombs = (pillow.DecompressionBombError, pillow.DecompressionBombWarning)
    try:
        opened = pillow.open(file, formats=FORMATS)
    except bombs as error:
        raise ValueError(
            f"{name} must have {image.height} x {image.width} pixels, got far more: "
            f"{as_sentence(error)} Leave it out, or make it smaller."
        ) from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        message = f"{name} must be the path of an image: {error.strerror}"
        raise type(error)(error.errno, message, error.filename) from None
    except pillow.UnidentifiedImageError:  # whose text has the address of an object
        raise ValueError(
            f"{name} must be a PNG or JPEG file, got what is neither: convert it, or leave it out."
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # damaged files make Pillow raise errors of many types
        raise ValueError(
            f"{name} must be a PNG or JPEG file, but opening it failed: {as_sentence(error)} "
            "Convert it, or leave it out."
        ) from None
    with opened:
        return _read(opened, image, name)


def _import_pillow() -> Any:
    try:
        from PIL import Image as pillow
    except ImportError:
        raise ImportError(
            "Files of images are read with Pillow, which is not installed: install the extra "
            "'image' of skmode-deploy (in a checkout: pip install './deploy[image]'), or pass "
            "arrays."
        ) from None
    return pillow


def _read(opened: Any, image: Image, name: str) -> Array:
    """Check an image before it is decoded, then read its pixels."""
    width, height = opened.size
    if (height, width) != (image.height, image.width):
        raise ValueError(
            f"{name} must have height {image.height} and width {image.width}, got {height} and "
            f"{width}: resize or crop it as for training."
        )
    mode = _check_colours(opened, image, name)
    if getattr(opened, "n_frames", 1) > 1 and opened.format != "MPO":  # photos with a preview
        raise ValueError(
            f"{name} must be a single picture, got {opened.n_frames} frames: save one of them."
        )
    try:
        opened.load()
        pixels = np.asarray(opened if opened.mode == mode else opened.convert(mode))
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"{name} must be a whole image, but decoding it failed: {as_sentence(error)} Copy or "
            "save it again, or leave it out."
        ) from None
    if image.layout == "chw":
        return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return pixels[..., None] if image.layout == "hwc" and pixels.ndim == 2 else pixels


def _check_colours(opened: Any, image: Image, name: str) -> str:
    """Raise for colours that training did not have; return the mode to read."""
    mode = MODES.get(image.channels)
    if mode is None:
        raise ValueError(
            f"{name} must be an array, because the model reads {image.channels} channels, got a "
            "PIL image or a file: pass arrays."
        )
    found = SAME_AS.get(opened.mode, opened.mode)
    if _has_transparent_colour(opened):
        found = WITH_ALPHA.get(found, found)
    if found != mode or _has_16_bits(opened):
        _refuse_colours(opened, found, mode, name)
    return mode


def _has_transparent_colour(opened: Any) -> bool:
    """Whether a colour of a palette is transparent, or one that the file names."""
    if opened.mode == "P":
        return bool(opened.has_transparency_data)
    # Conversions keep the note, and have no format.
    return opened.format is not None and "transparency" in opened.info


def _has_16_bits(opened: Any) -> bool:
    """Whether Pillow would drop the lower half of 16 bits; it knows until the image is loaded."""
    return any("16" in str(tile[3]) for tile in getattr(opened, "tile", ()))


def _refuse_colours(opened: Any, found: str, mode: str, name: str) -> NoReturn:
    words = {"L": "grey", "RGB": "RGB", "RGBA": "RGB with an alpha channel"}
    cure = f'convert it as for training, for example with image.convert("{mode}")'
    if _has_16_bits(opened) or found.startswith(("I", "F")):
        found = f"more than 8 bits (mode {opened.mode})"
        cure = "save it with 8 bits, scaled as for training"
    elif mode != "RGBA" and found in ("RGBA", "LA", "PA", "La", "RGBa"):
        found = f"an alpha channel (mode {opened.mode})"
        cure = "put it on a background as for training, and save it without alpha"
    else:
        found = words.get(found, f"mode {found}")
    raise ValueError(f"{name} must be {words[mode]} of 8 bits, got {found}: {cure}.")
