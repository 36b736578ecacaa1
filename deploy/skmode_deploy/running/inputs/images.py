"""Convert images to the input of a graph, and check them."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from skmode_deploy.bundle import IMAGE, Column, Image
from skmode_deploy.running.inputs.columns import Array, is_missing, refuse_masked
from skmode_deploy.running.inputs.decoding import decode, is_pillow_image

MAX_BYTE = np.float32(255)
# Floats that miss [0, 1] by less were scaled, and then changed by an interpolation.
ROUNDING = 1e-3


class ImageReader:
    """Converts images to a graph input: an array of all, or one by one."""

    def __init__(self, image: Image, max_rows: int | None = None) -> None:
        self._image = image
        self._shape = image.shape
        self._dtype = np.dtype(image.dtype)
        self._max_rows = max_rows

    def __call__(self, X: Any) -> dict[str, Array]:
        """Convert images to an array of shape (n_images, ...) in the layout of the graph."""
        refuse_masked(X, "X", "X.filled(0), or what the hidden pixels shall be")
        found = _unwrap(X)
        if isinstance(found, list):
            self._check_height(len(found))
            return {IMAGE: self._stack(found)}
        array = found
        if array.ndim != len(self._shape) + 1 or array.shape[1:] != self._shape:
            raise ValueError(
                f"X must have shape {_shape_in_words(self._shape)}, got {array.shape}: "
                f"{suggest_shape(self._image, array.shape)}."
            )
        self._check_height(len(array))
        return {IMAGE: self._to_pixels(array, "X")}

    def parts(self, X: Any) -> Iterator[tuple[None, dict[str, Array]]]:
        """Convert all images."""
        yield None, self(X)

    def check_text(self, feeds: Mapping[str, Array]) -> None:
        """Do nothing: images hold no text."""

    def check_known(self, feeds: Mapping[str, Array]) -> None:
        """Do nothing: all pixels are known."""

    def _check_height(self, n_images: int) -> None:
        if self._max_rows is not None and n_images > self._max_rows:
            raise ValueError(
                f"X must have at most max_rows={self._max_rows} images, got {n_images}: pass them "
                "in parts, or load with a larger max_rows."
            )

    def _stack(self, items: list[Any]) -> Array:
        pixels = np.empty((len(items), *self._shape), self._dtype)
        for i, item in enumerate(items):
            pixels[i] = self._read_one(item, f"Image {i}")
        return pixels

    def _read_one(self, item: Any, name: str) -> Array:
        refuse_masked(item, name, "image.filled(0), or what the hidden pixels shall be")
        array = _to_array(item, name) if _is_array(item) else decode(item, self._image, name)
        if array.shape != self._shape:
            raise ValueError(
                f"{name} must have shape {self._shape}, got {array.shape}: "
                f"{suggest_shape(self._image, (1, *array.shape))}."
            )
        return self._to_pixels(array, name)

    def _to_pixels(self, array: Array, what: str) -> Array:
        """Convert numbers from 0 to 255, or from 0 to 1, to those that the graph reads."""
        if array.dtype == np.uint8:
            if self._dtype == np.uint8:
                return np.ascontiguousarray(array)
            return np.divide(array, MAX_BYTE, dtype=np.float32)
        if self._dtype == np.uint8 or array.dtype.kind != "f":
            also = "" if self._dtype == np.uint8 else ", or of floats from 0 to 1"
            raise ValueError(
                f"{what} must be of uint8, from 0 to 255{also}, got {array.dtype}: "
                f"{_suggest_dtype(array, self._dtype)}."
            )
        with np.errstate(over="ignore"):
            pixels = np.ascontiguousarray(array, dtype=np.float32)  # 1.0000000000000002 is 1
        _check_range(pixels, what)
        return pixels


class ImageCellReader(ImageReader):
    """Converts a table's column of images, some of which may be missing, to a graph input."""

    def __init__(self, column: Column) -> None:
        assert column.image is not None
        super().__init__(column.image)
        self._of = f" of column {column.name!r}"
        self._blank: Array | None = None
        if column.image.missing is not None:
            colour = np.array(column.image.missing, self._dtype)
            self._blank = np.empty(self._shape, self._dtype)
            self._blank[:] = colour if column.image.layout == "hwc" else colour[0]

    def read(self, values: Any) -> Array:
        """Convert the cells of a column to an array of shape (n_rows, ...)."""
        whole = isinstance(values, np.ndarray) and values.ndim > 1
        if whole and values.shape[1:] == self._shape:
            return self._to_pixels(values, f"The images{self._of}")
        return self._stack(list(values))

    def _read_one(self, item: Any, name: str) -> Array:
        if self._blank is not None and is_missing(item):
            return self._blank
        return super()._read_one(item, f"{name}{self._of}")


def _unwrap(X: Any) -> Array | list[Any]:
    """Take an array, or images one by one, out of what holds them."""
    if isinstance(X, np.ndarray):
        return X.tolist() if X.dtype.kind in "OSU" and X.ndim == 1 else np.asarray(X)
    if isinstance(X, str | bytes | bytearray | memoryview | os.PathLike) or is_pillow_image(X):
        raise ValueError(
            f"X must hold any number of images, got a single {type(X).__name__}: pass a list, [X]."
        )
    X = _only_column(X)
    if isinstance(X, list | tuple):
        return list(X)
    array = _as_array(X) if hasattr(X, "__array__") else None
    # Of lists, polars makes an array of two dimensions.
    if array is not None and array.dtype.kind in "biuf" and array.ndim > 2:
        return array
    for method in ("to_list", "to_pylist"):  # columns of pandas, polars and Arrow
        if hasattr(X, method):
            items: list[Any] = getattr(X, method)()
            return items
    if array is not None:
        return array
    raise ValueError(
        f"X must be an array, or a list or a column of images, got {type(X).__name__}: convert it."
    )


def _is_array(item: Any) -> bool:
    """Whether numpy makes an array of an image: a tensor, or lists of numbers."""
    if isinstance(item, list | tuple):
        return bool(item) and isinstance(item[0], list | tuple)
    is_scalar = isinstance(item, str | bytes | np.generic)
    return hasattr(item, "__array__") and not is_scalar and not is_pillow_image(item)


def _as_array(values: Any) -> Array:
    """Make an array, also of tensors that numpy refuses: with a gradient, on a GPU, of bfloat16."""
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
    return np.asarray(values)


def _to_array(item: Any, name: str) -> Array:
    try:
        return _as_array(item)
    except ValueError:
        raise ValueError(
            f"{name} must have rows of one length, got a list of others: correct it."
        ) from None


def _only_column(X: Any) -> Any:
    """Return the only column of a table; what is no table stays as it is."""
    if isinstance(X, Mapping):
        columns = list(X.values())
    elif hasattr(X, "columns") and hasattr(X, "shape"):
        columns = [X[name] for name in getattr(X, "column_names", X.columns)]
    else:
        return X
    if len(columns) != 1:
        raise ValueError(
            f"X must be an array, or a list or a column of images, got a table of {len(columns)} "
            "columns: select the column of images."
        )
    return columns[0]


def _shape_in_words(shape: tuple[int, ...]) -> str:
    return f"(n_samples, {', '.join(map(str, shape))})"


def suggest_shape(image: Image, shape: tuple[int, ...]) -> str:
    """Say how images of another shape, number of images first, become what the graph reads."""
    height, width, channels = image.height, image.width, image.channels
    last, first = (height, width, channels), (channels, height, width)
    rest = shape[1:]
    if shape == image.shape:
        return "a single image is X[None]"
    if channels == 1 and rest in (last, first, (height, width)):
        axes = {"hw": "", "hwc": ", 1", "chw": "1, "}[image.layout]
        sizes = f"{axes}{height}, {width}" if image.layout == "chw" else f"{height}, {width}{axes}"
        return f"change only the axes, with X.reshape(-1, {sizes})"
    if image.layout == "hwc" and rest == first:
        return "move the channels to the end, with np.moveaxis(X, 1, -1)"
    if image.layout == "chw" and rest == last:
        return "move the channels before the height, with np.moveaxis(X, -1, 1)"
    if len(shape) == 2 and rest == (height * width * channels,):
        return f"give each image its axes, with X.reshape{(-1, *image.shape)}"
    colours = {1: "grey", 3: "RGB", 4: "RGBA"}.get(channels, f"{channels} channels")
    return (
        f"resize or crop the images to height {height} and width {width}, as for training, and "
        f"convert their colours to {colours}"
    )


def _suggest_dtype(array: Array, dtype: np.dtype[Any]) -> str:
    if array.dtype.kind == "f":
        return "pass (X * 255).round().astype(np.uint8) if they are from 0 to 1"
    if array.dtype.kind == "b":
        return "pass X.astype(np.uint8) * 255"
    if array.dtype == np.uint16:
        return "pass (X // 256).astype(np.uint8) if they are from 0 to 65,535"
    if array.dtype.kind in "iu":
        return "pass X.astype(np.uint8) if they are from 0 to 255"
    return "convert the images to numbers"


def _check_range(array: Array, what: str) -> None:
    """Raise for floats that are not within [0, 1]."""
    if not array.size or (array.min() >= 0 and array.max() <= 1):  # False also where it is NaN
        return
    bad = ~((array >= 0) & (array <= 1))
    where = tuple(np.argwhere(bad)[0].tolist())
    if what == "X":
        what = f"Image {where[0]}"
    value = float(array[where])
    cure = "scale them to [0, 1]; uint8 numbers may be from 0 to 255"
    if not np.isfinite(value):
        cure = "fill missing pixels in, or leave the image out"
    elif -ROUNDING <= value <= 1 + ROUNDING:
        cure = "clip them with np.clip(X, 0, 1)"
    raise ValueError(f"{what} must hold finite numbers from 0 to 1, got {value:.8g}: {cure}.")
