"""Tensors of the Open Inference Protocol V2, read from lists and bytes, and written as bytes.

Nothing that a client states is believed: each shape, length and type is compared with the data
before an array is made.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skmode_deploy.serving.protocol.errors import RequestError, shorten

Array: TypeAlias = NDArray[Any]

DTYPES: dict[str, Any] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
# By the kind of the dtype: what the elements of a JSON list may be. null is a missing value.
_JSON_TYPES: dict[str, set[type]] = {
    "b": {bool},
    "u": {int},
    "i": {int},
    "f": {float, int, type(None)},
    "O": {str, type(None)},
}
_JSON_TYPES_IN_WORDS = {
    "b": "true and false",
    "u": "whole numbers",
    "i": "whole numbers",
    "f": "numbers, and null for missing",
    "O": "strings, and null for missing",
}
_LENGTH_BYTES = 4  # before each element of a BYTES tensor
MAX_DIMENSIONS = 4  # images, rows, columns and channels
MAX_DIMENSION_SIZE = 2**31 - 1
# Of a shape with a zero, if that were a one: numpy refuses to make a larger array, though empty.
_MAX_VALUES = 2**59


class Tensor(NamedTuple):
    """A named array: an input or an output."""

    name: str
    datatype: str  # as the protocol names it, such as "FP32"
    values: Array  # (n,), (n, width) or images; of `str` where the datatype is BYTES


def from_list(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """Read the values of a tensor from a list, flat or one list per row, as JSON has it."""
    dtype, n_values = _check_header(name, datatype, shape)
    values = _flatten(name, shape, data)
    if len(values) != n_values:
        raise RequestError(
            f"Input {shorten(name)} must have as many values as its shape {list(shape)} says, "
            f"{n_values}, got {len(values)}: correct the shape or the data."
        )
    wrong_types = set(map(type, values)) - _JSON_TYPES[dtype.kind]
    if wrong_types:
        first = next(value for value in values if type(value) in wrong_types)
        is_truth = isinstance(first, bool) and dtype.kind != "O"
        cure = (
            "send 1 or 0, or make the datatype BOOL"
            if is_truth
            else "correct the data or the datatype"
        )
        raise RequestError(
            f"Input {shorten(name)} of {datatype} must hold {_JSON_TYPES_IN_WORDS[dtype.kind]}, "
            f"got {shorten(first)}: {cure}."
        )
    if dtype.kind == "O":
        array = np.empty(n_values, object)
        array[:] = ["" if value is None else value for value in values]
        return Tensor(name, datatype, array.reshape(shape))
    try:
        with np.errstate(over="ignore"):  # the model refuses numbers that become infinite
            return Tensor(name, datatype, np.array(values, dtype).reshape(shape))
    except OverflowError:
        raise RequestError(
            f"Input {shorten(name)} must hold numbers that {datatype} can represent, got others: "
            "choose a datatype with a wider range."
        ) from None


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """Read the values of a tensor from bytes, little endian and in rows.

    This is the protocol's binary tensor data extension.
    """
    dtype, n_values = _check_header(name, datatype, shape)
    if dtype.kind == "O":
        return Tensor(name, datatype, _read_strings(name, n_values, data).reshape(shape))
    if len(data) != n_values * dtype.itemsize:
        raise RequestError(
            f"Input {shorten(name)} must have as many bytes as its shape {list(shape)} of "
            f"{datatype} takes, {n_values * dtype.itemsize}, got {len(data)}: send all values, "
            "little endian."
        )
    if dtype.kind == "b":
        numbers = np.frombuffer(data, np.uint8)
        if numbers.size and numbers.max() > 1:
            raise RequestError(
                f"Input {shorten(name)} of BOOL must have bytes that are 0 or 1, got "
                f"{numbers.max()}: send one byte for each value."
            )
    return Tensor(name, datatype, np.frombuffer(data, dtype).reshape(shape))


def to_bytes(datatype: str, values: Array) -> bytes:
    """Write the values of a tensor as bytes, little endian and in rows."""
    if datatype != "BYTES":
        return np.ascontiguousarray(values, DTYPES[datatype]).tobytes()
    parts = []
    for value in values.reshape(-1).tolist():
        text = value.encode()
        parts += [len(text).to_bytes(_LENGTH_BYTES, "little"), text]
    return b"".join(parts)


def _check_header(name: str, datatype: Any, shape: Any) -> tuple[Any, int]:
    """Give the dtype and the number of values, before anything of that size is made."""
    dtype = DTYPES.get(datatype) if type(datatype) is str else None
    if dtype is None:
        raise RequestError(
            f"Input {shorten(name)} must have one of the datatypes {', '.join(DTYPES)}, got "
            f"{shorten(datatype)}: see the metadata of the model."
        )
    is_sequence = type(shape) is list or type(shape) is tuple
    if (
        not is_sequence
        or not 1 <= len(shape) <= MAX_DIMENSIONS
        or set(map(type, shape)) != {int}
        or not 0 <= min(shape) <= max(shape) <= MAX_DIMENSION_SIZE
        or (0 in shape and math.prod(size or 1 for size in shape) > _MAX_VALUES)
    ):
        raise RequestError(
            f"Input {shorten(name)} must have a shape of one to four whole numbers from 0 to "
            f"{MAX_DIMENSION_SIZE}, got {shorten(shape)}: such as [n, 1] for n rows."
        )
    return dtype, math.prod(shape)


def _flatten(name: str, shape: Sequence[int], data: Any) -> list[Any]:
    """Give the values as a flat list, whether they came flat or as rows."""
    if type(data) is not list:
        raise RequestError(
            f'Input {shorten(name)} must have its values as a list "data", got {shorten(data)}: '
            "send a flat list in row-major order, or bytes with a binary_data_size."
        )
    if not any(type(value) is list for value in data):
        return data
    for size in shape[1:] or (None,):  # a shape of one dimension has no rows
        for row in data:
            if type(row) is not list or len(row) != size:
                raise RequestError(
                    f"Input {shorten(name)} must have nested data of its shape {list(shape)}, got "
                    f"a row {shorten(row)}: send rows of equal length, or a flat list."
                )
        data = [value for row in data for value in row]
    values: list[Any] = data
    return values


def _read_strings(name: str, n_values: int, data: Any) -> Array:
    """Read strings that each follow their length, without believing any of the lengths."""
    if len(data) < n_values * _LENGTH_BYTES:
        _refuse_strings(name, n_values)
    texts, start, end = [], 0, len(data)
    for _ in range(n_values):
        first = start + _LENGTH_BYTES
        start = first + int.from_bytes(data[start:first], "little")
        if first > end or start > end:
            _refuse_strings(name, n_values)
        texts.append(bytes(data[first:start]))
    if start != end:
        _refuse_strings(name, n_values)
    array = np.empty(n_values, object)
    try:
        array[:] = [text.decode() for text in texts]
    except UnicodeDecodeError:
        raise RequestError(
            f"Input {shorten(name)} must hold strings in UTF-8, got other bytes: encode them anew."
        ) from None
    return array


def _refuse_strings(name: str, n_values: int) -> NoReturn:
    raise RequestError(
        f"Input {shorten(name)} of BYTES must be {n_values} strings, each after its length in 4 "
        "bytes, little endian, got bytes that are not: check the lengths and the shape."
    )
