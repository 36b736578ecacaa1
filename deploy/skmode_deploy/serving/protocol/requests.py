"""Requests for inference by REST: JSON, or JSON followed by tensors as bytes.

The second form is the protocol's binary tensor data extension. How much JSON there is, how deep it
is and how many bytes each tensor has is checked before anything of that size is made.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from skmode_deploy.serving.protocol.errors import RequestError, shorten
from skmode_deploy.serving.protocol.tensors import Tensor, from_bytes, from_list

MAX_NAME_CHARACTERS = 1000
MAX_BRACKETS = 250_000  # each becomes a Python object, thirty times as large


class Request(NamedTuple):
    """A request for inference, by REST or gRPC."""

    inputs: Sequence[Tensor]
    outputs: Mapping[str, bool] | None = None  # whether to send each as bytes; None is all outputs
    id: str = ""  # as the client calls it
    binary: bool = False  # whether to send bytes where `outputs` is None


def read_request(body: bytes, json_length: int | None, max_depth: int = 16) -> Request:
    """Read the body of a request; its first `json_length` bytes are JSON, or all where it is None.

    Examples
    --------
    >>> from skmode_deploy.serving.protocol.requests import read_request
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
    parameters = _read_parameters(document, "The body", "")
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
    """Read the id that a client gave its request."""
    return "" if value is None else _check_text(value, 'The "id" of a request')


def _parse(text: Any, max_depth: int) -> dict[str, Any]:
    if len(text) > MAX_BRACKETS:
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
    # Nesting is no deeper than the number of brackets, which is quick to count and nearly always
    # small enough.
    if _count_brackets(bytes(text)) > max_depth:
        _check_depth(document, max_depth)
    return document


def _count_brackets(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _check_brackets(text: bytes) -> None:
    n_brackets = _count_brackets(text)
    if n_brackets > MAX_BRACKETS:
        raise RequestError(
            f"The body must have at most {MAX_BRACKETS} lists and objects (brackets in strings "
            f'count as well), got {n_brackets}: send the "data" of each tensor as a flat list, or '
            "as bytes."
        )


def _check_depth(document: Any, max_depth: int) -> None:
    """Go down level by level: recursion would end at Python's own limit."""
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


def _check_text(value: Any, what: str) -> str:
    if type(value) is not str or len(value) > MAX_NAME_CHARACTERS:
        raise RequestError(
            f"{what} must be a string of at most {MAX_NAME_CHARACTERS} characters, got "
            f"{shorten(value)}: send such a string."
        )
    return value


def _read_parameters(item: Mapping[str, Any], what: str, name: str) -> dict[str, Any]:
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
    """Read an input whose bytes begin at `start` of `rest`; also return where they end."""
    if type(item) is not dict:
        raise RequestError(
            f"An input must be an object with name, datatype, shape and data, got {shorten(item)}: "
            "see the Open Inference Protocol."
        )
    name = _check_text(item.get("name"), "The name of an input")
    datatype, shape = item.get("datatype"), item.get("shape")
    parameters = _read_parameters(item, "Input", name)
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
    """Read which outputs a client wants, and whether as bytes; None is all."""
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
        name = _check_text(item.get("name"), "The name of an output")
        own = _read_parameters(item, "Output", name)
        check_output(name, own)
        outputs[name] = own.get("binary_data", binary) is True
    return outputs


def check_output(name: str, parameters: Container[str]) -> None:
    """Refuse what would change the values of an output, or where they go."""
    for extension in ("classification", "shared_memory_region"):
        if extension in parameters:
            raise RequestError(
                f"Output {shorten(name)} must be asked for as it is, got the parameter "
                f"{extension!r}, an extension that this server lacks: leave it out."
            )
