"""Images as users pass them: arrays, or anything that can be decoded to arrays of one size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import NDArray

from skmode._encoding.columns import is_table
from skmode._encoding.decoding import as_array, decode, is_array, is_pillow
from skmode._encoding.texts import is_missing

Channels = Literal["last", "first"]
Layout = Literal["hw", "hwc", "chw"]

N_CHANNELS = (1, 3, 4)
# Floats that miss [0, 1] by less were scaled, and then changed by an interpolation.
ROUNDING = 1e-3


class ImageEncoder:
    """What training saw of the images: their size, channels and type.

    Attributes
    ----------
    height_, width_, n_channels_ : int
        Size of each image; one channel where the images have two dimensions.
    layout_ : {"hw", "hwc", "chw"}
        Order of an image's axes.
    dtype_ : {"uint8", "float32"}
        Type of the pixels.
    """

    def __init__(self, channels: Channels = "last") -> None:
        self.channels = channels

    def fit(self, X: NDArray[Any]) -> ImageEncoder:
        """Learn the shape and type of checked images."""
        self.layout_: Layout = "hw" if X.ndim == 3 else "hwc" if self.channels == "last" else "chw"
        size = dict(zip(self.layout_, X.shape[1:], strict=True))
        self.height_, self.width_ = int(size["h"]), int(size["w"])
        self.n_channels_ = int(size.get("c", 1))
        self.dtype_: Literal["uint8", "float32"] = "uint8" if X.dtype == np.uint8 else "float32"
        return self

    @property
    def shape_(self) -> tuple[int, ...]:
        """Shape of each image."""
        size = {"h": self.height_, "w": self.width_, "c": self.n_channels_}
        return tuple(size[axis] for axis in self.layout_)

    def transform(self, X: NDArray[Any]) -> NDArray[Any]:
        """Bring checked images into the type of training, after a check of their shape."""
        if X.shape[1:] != self.shape_:
            raise ValueError(
                f"X must hold images of shape {self.shape_} (axes: {', '.join(self.layout_)}), as "
                f"training did, got {X.shape[1:]}: {self._cure(X.shape[1:])}."
            )
        if self.dtype_ == "uint8" and X.dtype != np.uint8:
            raise ValueError(
                f"X must hold uint8 pixels, as training did, got {X.dtype}: pass "
                "np.rint(X * 255).astype(np.uint8)."
            )
        if self.dtype_ == "float32" and X.dtype == np.uint8:
            return X / np.float32(255)
        return X

    def read(self, X: Any) -> NDArray[Any]:
        """Read images of any kind, in the type and shape of training."""
        return self.read_checked(X, "the estimator")

    def read_checked(self, X: Any, name: str) -> NDArray[Any]:
        """Read images of any kind for the estimator of this name."""
        images = check_images(X, self.channels, name, one_channel=self._has_one_channel)
        return self.transform(images)

    @property
    def _has_one_channel(self) -> bool:
        """Whether grey images have an axis of channels, which those out of files lack."""
        return self.layout_ != "hw" and self.n_channels_ == 1

    def _cure(self, shape: tuple[int, ...]) -> str:
        size = self.height_, self.width_
        if self.n_channels_ == 1 and shape in (size, (*size, 1), (1, *size)):
            axes = ", ".join(map(str, self.shape_))
            return f"change only the axes, with X.reshape(-1, {axes})"
        if len(shape) == 3 and sorted(shape) == sorted(self.shape_):
            return "move the axes, for example with np.moveaxis"
        return "resize or crop the images, or convert their colours, as for training"


class ImageCellEncoder(ImageEncoder):
    """What training saw of a table's column of images, of which some may be missing.

    Attributes
    ----------
    missing_ : tuple of float
        Mean colour of the training images, one number for each channel. A missing image is read as
        one that has this colour everywhere.
    has_missing_ : bool
        Whether training saw missing images.
    """

    def fit_cells(self, items: Sequence[Any]) -> ImageCellEncoder:
        """Learn the shape and type of the images in a column."""
        rows = [i for i, item in enumerate(items) if not is_missing(item)]
        if not rows:
            raise ValueError(
                f"At least one image must not be missing, got {len(items)} that are None, NaN or "
                "empty: leave the column out."
            )
        self.has_missing_ = len(rows) < len(items)
        images = _check_cells([items[i] for i in rows], rows)
        self.fit(images)
        mean = images.mean(axis=(0, 1, 2), dtype=np.float64)
        mean = np.rint(mean) if self.dtype_ == "uint8" else mean.astype(np.float32)
        self.missing_ = tuple(float(each) for each in np.atleast_1d(mean))
        return self

    def read_cells(self, items: Sequence[Any]) -> NDArray[Any]:
        """Read the images of a column, in the type and shape of training."""
        rows = [i for i, item in enumerate(items) if not is_missing(item)]
        if len(rows) == len(items):
            return self._read_known(items, rows)
        colour = np.array(self.missing_, self.dtype_)
        pixels = np.empty((len(items), *self.shape_), self.dtype_)
        pixels[:] = colour if self.layout_ == "hwc" else colour[0]
        if rows:
            pixels[rows] = self._read_known([items[i] for i in rows], rows)
        return pixels

    def _read_known(self, items: Sequence[Any], rows: Sequence[int]) -> NDArray[Any]:
        return self.transform(_check_cells(items, rows, one_channel=self._has_one_channel))


def _check_cells(
    items: Sequence[Any], rows: Sequence[int], *, one_channel: bool = False
) -> NDArray[Any]:
    """Read the images of a column, whose numbers in messages are those of their rows."""
    array = _stack(list(items), "last", rows, one_channel)
    if array.ndim not in (3, 4):
        raise ValueError(
            "Each image must have the shape (height, width), or with channels, got "
            f"{array.shape[1:]}: reshape it."
        )
    if array.ndim == 4 and array.shape[-1] not in N_CHANNELS:
        raise ValueError(
            f"Images must have 1, 3 or 4 channels, in their last axis, got shape "
            f"{array.shape[1:]}: move the axes, for example with np.moveaxis(image, 0, -1), or "
            "make them grey, RGB or RGBA."
        )
    if 0 in array.shape:
        raise ValueError(f"Images must have pixels, got shape {array.shape[1:]}: leave it out.")
    return array if array.dtype == np.uint8 else _check_numbers(array, "The estimator")


def check_images(
    X: Any, channels: Channels, name: str, *, one_channel: bool = False
) -> NDArray[Any]:
    """Read images into one array `(n, h, w)` or with channels, of uint8 or of float32 in [0, 1].

    With `one_channel`, grey images out of files get an axis of channels.
    """
    array = _read(X, channels, one_channel)
    if array.ndim not in (3, 4):
        raise ValueError(
            "X must hold images, of shape (n, height, width) or with channels, got shape "
            f"{array.shape}: reshape rows of pixels with X.reshape(-1, height, width), and pass a "
            "single image as X[None]."
        )
    if 0 in array.shape:
        what = "sample" if array.shape[0] == 0 else "feature"
        raise ValueError(
            f"Found array with 0 {what}(s) (shape={array.shape}) while a minimum of 1 is required "
            f"by {name}."
        )
    if array.ndim == 4:
        _check_channels(array.shape, channels)
    return array if array.dtype == np.uint8 else _check_numbers(array, name)


def _read(X: Any, channels: Channels, one_channel: bool) -> NDArray[Any]:
    """Make one array of whatever holds the images."""
    if isinstance(X, str | bytes | bytearray | os.PathLike) or is_pillow(X):
        raise ValueError(
            f"X must hold many images, got a single {type(X).__name__}: pass a list of images."
        )
    if scipy.sparse.issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but images are dense: pass "
            "X.toarray().reshape(-1, height, width)."
        )
    _refuse_masked(X, "X")
    items = _unwrap(X)
    if isinstance(items, np.ndarray):
        if items.dtype.kind not in "OSU" or items.ndim != 1:
            return items
        items = items.tolist()
    if not items:
        return np.empty((0, 1, 1), np.uint8)
    return _stack(items, channels, range(len(items)), one_channel)


def _stack(
    items: list[Any], channels: Channels, rows: Sequence[int], one_channel: bool
) -> NDArray[Any]:
    """Decode images one by one, and make one array of them."""
    for i, item in zip(rows, items, strict=True):
        _refuse_masked(item, f"image {i}")
    arrays = decode(items, rows)
    if one_channel:
        arrays = [
            array if is_array(item) or array.ndim != 2 else array[..., None]
            for array, item in zip(arrays, items, strict=True)
        ]
    if channels == "first":  # what comes out of a file has them last
        arrays = [
            array if is_array(item) or array.ndim != 3 else np.moveaxis(array, -1, 0)
            for array, item in zip(arrays, items, strict=True)
        ]
    _check_alike(arrays, rows)
    return np.stack(arrays)


def _refuse_masked(values: Any, what: str) -> None:
    """Raise for masked arrays: numpy would read the pixels under the mask."""
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(
            f"Images must not be masked arrays, because the mask would be lost, got {what}: pass "
            "X.filled(0), or what the hidden pixels shall be."
        )


def _unwrap(X: Any) -> NDArray[Any] | list[Any]:
    """Take an array, or images one by one, out of what holds them."""
    if isinstance(X, np.ndarray):
        return np.asarray(X)
    if is_table(X):
        columns = list(nw.from_native(X, eager_only=True).iter_columns())
        if len(columns) != 1:
            raise ValueError(
                f"A table of images must have one column, which holds them, got {len(columns)}: "
                "select it by name, or reshape pixels to an array (n, height, width)."
            )
        return _unwrap(X.iloc[:, 0] if isinstance(X, pd.DataFrame) else columns[0].to_native())
    if isinstance(X, pd.Series | list | tuple):
        return list(X)
    if hasattr(X, "__array__"):  # a tensor, or a series of another library
        array = as_array(X)
        # Of lists, polars makes an array of two dimensions.
        return list(X.to_list()) if hasattr(X, "to_list") and array.ndim < 3 else array
    raise TypeError(
        f"X must be an array, or a list, Series or column of images, got {type(X).__name__}: "
        "convert it."
    )


def _check_alike(arrays: list[NDArray[Any]], rows: Sequence[int]) -> None:
    """Raise unless all images have one shape and type."""
    first = arrays[0]
    for i, array in zip(rows, arrays, strict=True):
        if array.shape != first.shape:
            raise ValueError(
                f"All images must have one shape, got {first.shape} for image {rows[0]} and "
                f"{array.shape} "
                f"for image {i}: resize or crop them, and convert their colours."
            )
        if array.dtype != first.dtype:
            raise ValueError(
                f"All images must have one type, got {first.dtype} for image {rows[0]} and "
                f"{array.dtype} for image {i}: convert them."
            )


def _check_channels(shape: tuple[int, ...], channels: Channels) -> None:
    given, other = (shape[-1], shape[1]) if channels == "last" else (shape[1], shape[-1])
    if given in N_CHANNELS:
        return
    cure = "make them grey, RGB or RGBA"
    if other in N_CHANNELS:
        cure = f'set channels="{"first" if channels == "last" else "last"}" if they come so'
    raise ValueError(
        f"Images must have 1, 3 or 4 channels, got {given} in shape {shape} with "
        f'channels="{channels}": {cure}.'
    )


def _check_numbers(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Check pixels that are not uint8: floats within [0, 1]."""
    if array.dtype.kind != "f":
        raise ValueError(
            f"Pixels must be uint8, or floats within [0, 1], got {array.dtype.name}: "
            f"{_cure_of_dtype(array)}."
        )
    with np.errstate(over="ignore"):
        pixels = np.asarray(array, dtype=np.float32)  # 1.0000000000000002 is 1
    lowest, highest = pixels.min(), pixels.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        what = "NaN" if np.isnan(pixels).any() else "infinity"
        raise ValueError(
            f"Input X contains {what}. {name} does not accept missing pixels: fill them in, for "
            "example with np.nan_to_num(X), or leave these images out."
        )
    if lowest < 0 or highest > 1:
        raise ValueError(
            f"Pixels that are floats must lie within [0, 1], got {lowest:.8g} to {highest:.8g}: "
            f"{_cure_of_range(lowest, highest)}; the estimator does the rest."
        )
    return pixels


def _cure_of_range(lowest: np.float32, highest: np.float32) -> str:
    if lowest >= -ROUNDING and highest <= 1 + ROUNDING:
        return "clip them with np.clip(X, 0, 1)"
    return "divide by 255" if lowest >= 0 and highest <= 255 else "scale them"


def _cure_of_dtype(array: NDArray[Any]) -> str:
    if array.dtype.kind == "b":
        return "pass X.astype(np.uint8) * 255"
    if array.dtype.kind not in "iu":
        return "convert the images to numbers"
    bytes_at_most = array.min() >= 0 and array.max() <= 255
    of_bytes = "pass X.astype(np.uint8) if they are from 0 to 255" if bytes_at_most else ""
    of_16_bits = "pass X / 65535 if they are from 0 to 65,535" if _has_16_bits(array) else ""
    return ", or ".join(filter(None, [of_bytes, of_16_bits])) or "scale them to [0, 1]"


def _has_16_bits(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "u" and array.dtype.itemsize == 2
