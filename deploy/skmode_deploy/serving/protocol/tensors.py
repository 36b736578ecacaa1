"""Tensors of the Open Inference Protocol V2: from a request to arrays, and from arrays to answers.

A request is JSON, or JSON followed by the values of its tensors as bytes (the binary tensor data
extension). Nothing that a client states is believed: every shape, length and type is compared with
what is really there before an array of it is made.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from skmode_deploy.serving.protocol.errors import RequestError

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
# Of what a list of JSON may hold; null is a missing value.
_PLAIN: dict[str, set[type]] = {
    "b": {bool},
    "u": {int},
    "i": {int},
    "f": {float, int, type(None)},
    "O": {str, type(None)},
}
_LENGTH = 4  # bytes before each element of a BYTES tensor
MOST_DIMENSIONS = 2
MOST_SIZE = 2**31  # of a dimension
MOST_NAME = 1000
MOST_SHOWN = 80
MOST_BRACKETS = 250_000  # each becomes an object of Python, thirty times as large


class Tensor(NamedTuple):
    """A named array.

    Attributes
    ----------
    name : str
        Name of an input or output.
    datatype : str
        Type in the words of the protocol, such as ``"FP32"``.
    values : ndarray
        Values; of strings an array of `str`.
    """

    name: str
    datatype: str
    values: Array


class Request(NamedTuple):
    """What a client asks.

    Attributes
    ----------
    inputs : sequence of Tensor
        Inputs.
    outputs : mapping from str to bool, or None
        Which outputs it wants, and whether as bytes. None is all.
    id : str
        What the client calls the request.
    binary : bool
        Whether it wants bytes where `outputs` is None.
    """

    inputs: Sequence[Tensor]
    outputs: Mapping[str, bool] | None = None
    id: str = ""
    binary: bool = False


class Answer(NamedTuple):
    """What a model answers.

    Attributes
    ----------
    model : str
        Name of the model.
    version : str
        Its version.
    outputs : sequence of Tensor
        Outputs.
    binary : frozenset of str
        Names of those to send as bytes.
    id : str
        What the client called the request.
    """

    model: str
    version: str
    outputs: Sequence[Tensor]
    binary: frozenset[str] = frozenset()
    id: str = ""


def shorten(value: object) -> str:
    """Show a client what it sent, cut where it is long."""
    try:
        text: str = orjson.dumps(value).decode()
    except TypeError:
        text = "a value"
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."


def read_request(body: bytes, json_length: int | None, max_depth: int = 16) -> Request:
    """Read the body of a request.

    Examples
    --------
    >>> from skmode_deploy.serving.protocol.tensors import read_request
    >>> body = b'{"inputs": [{"name": "age", "datatype": "FP32", "shape": [2], "data": [7, null]}]}'
    >>> read_request(body, None).inputs[0].values
    array([ 7., nan], dtype=float32)
    """
    if json_length is not None and not 0 < json_length <= len(body):
        raise RequestError(
            "The header Inference-Header-Content-Length must be the length of the JSON at the "
            f"start of the body, from 1 to its {len(body)} bytes, got {json_length}: state the "
            "length in bytes."
        )
    document = _parse(body if json_length is None else memoryview(body)[:json_length], max_depth)
    inputs = document.get("inputs")
    if type(inputs) is not list or not inputs:
        raise RequestError(
            'The body must have a list "inputs" of at least one tensor, got '
            f"{shorten(inputs)}: add the inputs of the model."
        )
    parameters = _parameters(document, "The body", "")
    rest = memoryview(body)[len(body) if json_length is None else json_length :]
    tensors, end = [], 0
    for item in inputs:
        tensor, end = _read_tensor(item, rest, end)
        tensors.append(tensor)
    if end != len(rest):
        raise RequestError(
            f"The bytes after the JSON must be those of the tensors, {end}, got {len(rest)}: state "
            'each tensor\'s length as "binary_data_size".'
        )
    return Request(
        inputs=tensors,
        outputs=_read_outputs(document.get("outputs"), parameters),
        id=read_id(document.get("id")),
        binary=parameters.get("binary_data_output") is True,
    )


def read_id(value: Any) -> str:
    """Read what a client calls its request."""
    return "" if value is None else _text(value, 'The "id" of a request')


def write_answer(answer: Answer) -> tuple[bytes, int | None]:
    """Write the body of an answer."""
    outputs, rest = [], []
    for name, datatype, values in answer.outputs:
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if name in answer.binary:
            data = to_bytes(datatype, values)
            output["parameters"] = {"binary_data_size": len(data)}
            rest.append(data)
        else:
            flat = np.ascontiguousarray(values).reshape(-1)
            output["data"] = flat.tolist() if datatype in ("BYTES", "BOOL", "FP16") else flat
        outputs.append(output)
    document: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id:
        document["id"] = answer.id
    document["outputs"] = outputs
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (text, None) if not rest else (b"".join([text, *rest]), len(text))


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """Read the values of a tensor from bytes."""
    dtype, n_values = _check_header(name, datatype, shape)
    if dtype.kind == "O":
        return Tensor(name, datatype, _strings(name, n_values, data).reshape(shape))
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


def from_list(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """Read the values of a tensor from a list, as JSON has it."""
    dtype, n_values = _check_header(name, datatype, shape)
    values = _flatten(name, shape, data)
    if len(values) != n_values:
        raise RequestError(
            f"Input {shorten(name)} must have as many values as its shape {list(shape)} says, "
            f"{n_values}, got {len(values)}: correct the shape or the data."
        )
    strange = set(map(type, values)) - _PLAIN[dtype.kind]
    if strange:
        first = next(value for value in values if type(value) in strange)
        raise RequestError(
            f"Input {shorten(name)} of {datatype} must hold {_WORDS[dtype.kind]}, got "
            f"{shorten(first)}: correct the data or the datatype."
        )
    if dtype.kind == "O":
        array = np.empty(n_values, object)
        array[:] = ["" if value is None else value for value in values]
        return Tensor(name, datatype, array.reshape(shape))
    try:
        with np.errstate(over="ignore"):  # the model refuses what is infinite then
            return Tensor(name, datatype, np.array(values, dtype).reshape(shape))
    except OverflowError:
        raise RequestError(
            f"Input {shorten(name)} must hold numbers that {datatype} can represent, got others: "
            "choose a datatype with a wider range."
        ) from None


def to_bytes(datatype: str, values: Array) -> bytes:
    """Write values as bytes."""
    if datatype != "BYTES":
        return np.ascontiguousarray(values, DTYPES[datatype]).tobytes()
    parts = []
    for value in values.reshape(-1).tolist():
        text = value.encode()
        parts += [len(text).to_bytes(_LENGTH, "little"), text]
    return b"".join(parts)


_WORDS = {
    "b": "true and false",
    "u": "whole numbers",
    "i": "whole numbers",
    "f": "numbers, and null for missing",
    "O": "strings, and null for missing",
}


def _parse(text: Any, max_depth: int) -> dict[str, Any]:
    if len(text) > MOST_BRACKETS:
        _check_brackets(bytes(text))
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"The body must be JSON, and reading it gave: {error}. NaN and Infinity are no JSON: a "
            "missing value is null."
        ) from None
    if type(document) is not dict:
        raise RequestError(
            f'The body must be a JSON object with "inputs", got {shorten(document)}: see the '
            "Open Inference Protocol."
        )
    # No deeper than there are brackets: so is nearly every request, and to count them is quick.
    opened = bytes(text)
    if opened.count(b"[") + opened.count(b"{") > max_depth:
        _check_depth(document, max_depth)
    return document


def _check_brackets(text: bytes) -> None:
    n_brackets = text.count(b"[") + text.count(b"{")
    if n_brackets > MOST_BRACKETS:
        raise RequestError(
            f"The body must have at most {MOST_BRACKETS} lists and objects (brackets in strings "
            f'count as well), got {n_brackets}: send the "data" of each tensor as a flat list, or '
            "as bytes."
        )


def _check_depth(document: Any, max_depth: int) -> None:
    level = [document]
    for _ in range(max_depth):
        inner: list[Any] = []
        for value in level:
            children = value.values() if type(value) is dict else value
            inner += [child for child in children if type(child) in (dict, list)]
        if not inner:
            return
        level = inner
    raise RequestError(
        f"The body must be nested at most {max_depth} levels deep, got more: send flat data."
    )


def _text(value: Any, what: str) -> str:
    if type(value) is not str or len(value) > MOST_NAME:
        raise RequestError(
            f"{what} must be a string of at most {MOST_NAME} characters, got {shorten(value)}: "
            "send such a string."
        )
    return value


def _parameters(item: Mapping[str, Any], what: str, name: str) -> dict[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise RequestError(
            f'{what}{name and " " + shorten(name)} must have an object as its "parameters", got '
            f"{shorten(parameters)}: send names and values, or leave them out."
        )
    return parameters


def _read_tensor(item: Any, rest: memoryview, start: int) -> tuple[Tensor, int]:
    if type(item) is not dict:
        raise RequestError(
            f"An input must be an object with name, datatype, shape and data, got {shorten(item)}: "
            "see the Open Inference Protocol."
        )
    name = _text(item.get("name"), "The name of an input")
    datatype, shape = item.get("datatype"), item.get("shape")
    parameters = _parameters(item, "Input", name)
    if "binary_data_size" not in parameters:
        return from_list(name, datatype, shape, item.get("data")), start  # type: ignore[arg-type]
    size = parameters["binary_data_size"]
    if type(size) is not int or not 0 <= size <= len(rest) - start:
        raise RequestError(
            f"Input {shorten(name)} must have a binary_data_size from 0 to the {len(rest) - start} "
            f"bytes that are left after the JSON, got {shorten(size)}: state its length, and that "
            "of the JSON in the header Inference-Header-Content-Length."
        )
    if item.get("data") is not None:
        raise RequestError(
            f'Input {shorten(name)} must have either "data" or a binary_data_size, got both: leave '
            "one out."
        )
    data = rest[start : start + size]
    return from_bytes(name, datatype, shape, data), start + size  # type: ignore[arg-type]


def _read_outputs(items: Any, parameters: Mapping[str, Any]) -> dict[str, bool] | None:
    if items is None or items == []:
        return None
    if type(items) is not list or any(type(item) is not dict for item in items):
        raise RequestError(
            f'The "outputs" of a request must be a list of objects with a name, got '
            f"{shorten(items)}: name the outputs, or leave them out for all."
        )
    binary = parameters.get("binary_data_output") is True
    outputs = {}
    for item in items:
        name = _text(item.get("name"), "The name of an output")
        wanted = _parameters(item, "Output", name).get("binary_data", binary)
        outputs[name] = wanted is True
    return outputs


def _check_header(name: str, datatype: Any, shape: Any) -> tuple[Any, int]:
    """Type and number of values; nothing of that size is made yet."""
    dtype = DTYPES.get(datatype) if type(datatype) is str else None
    if dtype is None:
        raise RequestError(
            f"Input {shorten(name)} must have one of the datatypes {', '.join(DTYPES)}, got "
            f"{shorten(datatype)}: see the metadata of the model."
        )
    plain = type(shape) is list or type(shape) is tuple
    if (
        not plain
        or not 1 <= len(shape) <= MOST_DIMENSIONS
        or set(map(type, shape)) != {int}
        or not 0 <= min(shape) <= max(shape) < MOST_SIZE
    ):
        raise RequestError(
            f"Input {shorten(name)} must have a shape of one or two whole numbers from 0 to "
            f"{MOST_SIZE - 1}, got {shorten(shape)}: such as [n, 1] for n rows."
        )
    return dtype, math.prod(shape)


def _flatten(name: str, shape: Sequence[int], data: Any) -> list[Any]:
    if type(data) is not list:
        raise RequestError(
            f'Input {shorten(name)} must have its values as a list "data", got {shorten(data)}: '
            "send a flat list in row-major order, or bytes with a binary_data_size."
        )
    if not any(type(value) is list for value in data):
        return data
    width = shape[1] if len(shape) == MOST_DIMENSIONS else None
    for row in data:
        if type(row) is not list or len(row) != width:
            raise RequestError(
                f"Input {shorten(name)} must have nested data of its shape {list(shape)}, got a "
                f"row {shorten(row)}: send rows of equal length, or a flat list."
            )
    return [value for row in data for value in row]


def _strings(name: str, n_values: int, data: Any) -> Array:
    if len(data) < n_values * _LENGTH:
        _fail_strings(name, n_values)
    texts, start, end = [], 0, len(data)
    for _ in range(n_values):
        first = start + _LENGTH
        start = first + int.from_bytes(data[start:first], "little")
        if first > end or start > end:
            _fail_strings(name, n_values)
        texts.append(bytes(data[first:start]))
    if start != end:
        _fail_strings(name, n_values)
    array = np.empty(n_values, object)
    try:
        array[:] = [text.decode() for text in texts]
    except UnicodeDecodeError:
        raise RequestError(
            f"Input {shorten(name)} must hold strings in UTF-8, got other bytes: encode them anew."
        ) from None
    return array


def _fail_strings(name: str, n_values: int) -> None:
    raise RequestError(
        f"Input {shorten(name)} of BYTES must be {n_values} strings, each after its length in 4 "
        "bytes, little endian, got bytes that are not: check the lengths and the shape."
    )
