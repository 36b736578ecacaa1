"""The inputs of a model: what it asks for, and the rows that the tensors of a request hold."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from skmode_deploy.bundle import IMAGE, Column, Image, Manifest
from skmode_deploy.running.inputs.columns import convert_column, texts_of_values
from skmode_deploy.running.inputs.images import suggest_shape
from skmode_deploy.serving.protocol.errors import RequestError, shorten
from skmode_deploy.serving.protocol.tensors import DTYPES, Array, Tensor

# By the dtype of a column: the datatype to ask for, and those that are taken as well.
DATATYPES = {
    "float32": "FP32",
    "float64": "FP64",
    "int64": "INT64",
    "uint8": "UINT8",
    "string": "BYTES",
}
_NUMBERS = frozenset(DTYPES) - {"BYTES"}
_ALLOWED = {
    "float32": _NUMBERS,
    "float64": _NUMBERS,
    # UINT64 holds numbers that INT64 cannot.
    "int64": frozenset(name for name in _NUMBERS if DTYPES[name].kind in "iub") - {"UINT64"},
    "string": frozenset({"BYTES"}),
}
_ALLOWED_PIXELS = {"uint8": ("UINT8",), "float32": ("FP32", "UINT8", "FP16", "FP64")}
MAX_SHOWN_NAMES = 5


def describe_inputs(manifest: Manifest) -> list[dict[str, Any]]:
    """Describe the inputs as the metadata of a model does; -1 stands for any number of rows."""
    image = manifest.image
    if image is not None:
        shape = [-1, *image.shape]
        return [{"name": IMAGE, "datatype": DATATYPES[image.dtype], "shape": shape}]
    if manifest.input == "array":
        first = manifest.columns[0]
        shape = [-1, len(manifest.columns)]
        return [{"name": first.input, "datatype": DATATYPES[first.dtype], "shape": shape}]
    return [
        {
            "name": column.input,
            "datatype": DATATYPES[column.dtype],
            "shape": [-1, *(column.image.shape if column.image is not None else (1,))],
        }
        for column in manifest.columns
    ]


class TensorReader(Protocol):
    """Read the tensors of a request as the rows that a predictor takes."""

    def read(self, inputs: Sequence[Tensor]) -> Any:
        """Read the rows; what a model cannot take is refused."""

    def check_refused(self, rows: Any) -> None:
        """Word the refusal of rows that the predictor refused, as for tensors."""


def open_tensor_reader(manifest: Manifest, max_rows: int) -> TensorReader:
    """Make the reader for the inputs of a model."""
    if manifest.image is not None:
        return ImageTensorReader(manifest.image, max_rows)
    return ColumnTensorReader(manifest, max_rows)


class ImageTensorReader:
    """Read the only tensor of a model of images as an array."""

    def __init__(self, image: Image, max_rows: int) -> None:
        self._image = image
        self._max_rows = max_rows

    def read(self, inputs: Sequence[Tensor]) -> Array:
        """Read the images; the predictor checks their pixels."""
        image, tensors = self._image, _by_name(inputs)
        _check_names(tensors, [IMAGE])
        values = _read_pixels(tensors[IMAGE], image)
        check_n_rows(len(values), self._max_rows)
        return values

    def check_refused(self, rows: Any) -> None:
        """Do nothing: the predictor names the image."""


def _read_pixels(tensor: Tensor, image: Image) -> Array:
    """Check type and shape of a tensor of images; the predictor checks the pixels."""
    allowed = _ALLOWED_PIXELS[image.dtype]
    if tensor.datatype not in allowed:
        raise RequestError(
            f"Input {tensor.name!r} must be of {' or '.join(allowed)}, got {tensor.datatype}: see "
            "the metadata of the model."
        )
    values = tensor.values
    if values.shape[1:] != image.shape:
        raise RequestError(
            f"Input {tensor.name!r} must have the shape [n, {', '.join(map(str, image.shape))}], "
            f"got {list(values.shape)}: {suggest_shape(image, values.shape)}."
        )
    return values


class ColumnTensorReader:
    """Read tensors as a dict of columns, or as an array of all."""

    def __init__(self, manifest: Manifest, max_rows: int) -> None:
        self._reads_array = manifest.input == "array"
        self._columns = manifest.columns
        self._by_input = {column.input: column for column in manifest.columns}
        self._by_name = {column.name: column for column in manifest.columns}
        self._max_rows = max_rows
        self._allowed = {
            column.name: _allowed_datatypes(column)
            for column in manifest.columns
            if column.kind != "image"
        }

    def read(self, inputs: Sequence[Tensor]) -> Any:
        """Read the rows; what a model cannot take is refused."""
        tensors = _by_name(inputs)
        return self._read_array(tensors) if self._reads_array else self._read_columns(tensors)

    def check_refused(self, rows: Any) -> None:
        """Refuse an array that holds infinite numbers."""
        # The predictor has found them itself. Looking before it would take the time twice; looking
        # now only words the refusal as for the other inputs.
        if self._reads_array:
            _to_finite(self._columns[0].input, self._columns[0], rows)

    def _read_columns(self, tensors: Mapping[str, Tensor]) -> dict[str, Array]:
        _check_names(tensors, list(self._by_input))
        rows = {
            column.name: self._read_column(tensors[name], column)
            for name, column in self._by_input.items()
        }
        heights = {len(values) for values in rows.values()}
        if len(heights) > 1:
            raise RequestError(
                "All inputs must have the same number of rows, got "
                f"{min(heights)} and {max(heights)}: send each column of the same rows."
            )
        check_n_rows(heights.pop(), self._max_rows)
        return rows

    def _read_column(self, tensor: Tensor, column: Column) -> Array:
        if column.image is not None:
            return _read_pixels(tensor, column.image)
        _check_datatype(tensor, self._allowed[column.name], column)
        values = tensor.values
        if values.ndim > 1:
            if values.shape[1:] != (1,):
                raise RequestError(
                    f"Input {tensor.name!r} must have the shape [n, 1] or [n], got "
                    f"{list(values.shape)}: send one value for each row."
                )
            values = values[:, 0]
        if (tensor.datatype == "BYTES") != (column.dtype == "string"):
            try:
                values = convert_column(column, values)[:, 0]
            except ValueError as error:
                raise RequestError(str(error)) from None
        return values if column.dtype == "string" else _to_finite(tensor.name, column, values)

    def _read_array(self, tensors: Mapping[str, Tensor]) -> Array:
        first, width = self._columns[0], len(self._columns)
        name = first.input
        if name not in tensors and tensors.keys() == self._by_name.keys():
            return self._stack_columns(tensors)
        _check_names(tensors, [name])
        values = tensors[name].values
        _check_datatype(tensors[name], self._allowed[first.name], first)
        if values.ndim == 1 and width == 1:
            values = values[:, None]
        if values.ndim != 2 or values.shape[1] != width:
            raise RequestError(
                f"Input {name!r} must have the shape [n, {width}], got {list(values.shape)}: send "
                "the columns of training; a single row has the shape "
                f"[1, {width}]."
            )
        check_n_rows(len(values), self._max_rows)
        return _convert(first, values)

    def _stack_columns(self, tensors: Mapping[str, Tensor]) -> Array:
        """Read one tensor for each column, as tables are sent, for a model that takes an array."""
        columns = [
            self._read_column(tensors[name], column) for name, column in self._by_name.items()
        ]
        if len({len(values) for values in columns}) > 1:
            raise RequestError(
                "All inputs must have the same number of rows, got different ones: send each "
                "column of the same rows."
            )
        check_n_rows(len(columns[0]), self._max_rows)
        return np.column_stack(columns)


def _by_name(inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    tensors = {tensor.name: tensor for tensor in inputs}
    if len(tensors) < len(inputs):
        counts = Counter(tensor.name for tensor in inputs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise RequestError(
            f"The inputs must have different names, got {shorten(twice)} more than once: send each "
            "once."
        )
    return tensors


def _check_names(tensors: Mapping[str, Tensor], expected: list[str]) -> None:
    if len(tensors) == 1 and expected == [*tensors]:
        return
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise RequestError(
            f"The inputs must be those of the model, got none called {_list_names(missing)}: "
            f"send {_list_names(expected)}."
        )
    if len(tensors) > len(expected):
        known = set(expected)
        extra = [name for name in tensors if name not in known]
        raise RequestError(
            f"The inputs must be those of the model, got {_list_names(extra)} as well: send "
            f"{_list_names(expected)}."
        )


def check_n_rows(n_rows: int, max_rows: int) -> None:
    """Refuse a request without rows, or with too many."""
    if not 1 <= n_rows <= max_rows:
        fix = "send more rows in several requests" if n_rows else "send at least one"
        raise RequestError(f"A request must have from 1 to {max_rows} rows, got {n_rows}: {fix}.")


def _allowed_datatypes(column: Column) -> frozenset[str]:
    """Return the datatypes that have values of the column, be it as text or by their text."""
    allowed = _ALLOWED[column.dtype]
    if column.dtype in ("float32", "float64"):
        return allowed | {"BYTES"}
    if column.dtype == "string" and (texts := texts_of_values(column)) is not None:
        return allowed | ({"BOOL"} if True in texts and texts[True] == "True" else _NUMBERS)
    return allowed


def _check_datatype(tensor: Tensor, allowed: frozenset[str], column: Column) -> None:
    if tensor.datatype not in allowed:
        others = {"string": "", "int64": " or another type of whole numbers"}
        expected = DATATYPES[column.dtype] + others.get(column.dtype, " or another type of numbers")
        raise RequestError(
            f"Input {tensor.name!r} must be of {expected}, got {tensor.datatype}: see the metadata "
            "of the model."
        )


def _convert(column: Column, values: Array) -> Array:
    """Convert to the column's dtype; numbers that are too large for it become infinite."""
    if values.dtype.kind == "O" or values.dtype == column.dtype:
        return values
    with np.errstate(over="ignore"):
        return values.astype(column.dtype)


def _to_finite(name: str, column: Column, values: Array) -> Array:
    """Convert to the column's dtype, and refuse infinite numbers."""
    values = _convert(column, values)
    # Categories of float64 are only compared: an infinite one is just one that training did not
    # see.
    is_number = column.kind == "number" or column.dtype == "float32"
    if is_number and values.dtype.kind == "f" and np.count_nonzero(np.isinf(values)):
        raise RequestError(
            f"Input {name!r} must hold numbers that are finite as {column.dtype}, or "
            "missing (NaN, in JSON null), got an infinite or too large one: correct it, or send it "
            "as missing."
        )
    return values


def _list_names(names: Sequence[str]) -> str:
    shown = ", ".join(shorten(name) for name in names[:MAX_SHOWN_NAMES])
    n_hidden = len(names) - MAX_SHOWN_NAMES
    return f"{shown} and {n_hidden} more" if n_hidden > 0 else shown
