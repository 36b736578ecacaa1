"""From messages of gRPC to requests, and from responses to messages."""

from collections.abc import Callable
from typing import Any

from skmode_deploy.serving.engine.grpc_service import open_inference_grpc_pb2 as pb2
from skmode_deploy.serving.models.model import ScoredRequest
from skmode_deploy.serving.protocol.errors import RequestError, shorten
from skmode_deploy.serving.protocol.requests import Request, check_output, read_id
from skmode_deploy.serving.protocol.tensors import (
    DTYPES,
    Tensor,
    from_bytes,
    from_list,
    to_bytes,
)

MAX_FIELDS = 100_000
_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse(read: Callable[[bytes], Any], data: bytes) -> Any:
    """Parse a message; grpc itself would send clients the text of any error."""
    try:
        return read(data)
    except Exception:  # its type depends on the build of protobuf
        raise RequestError(
            "The call must hold a message of the Open Inference Protocol, got other bytes, or text "
            "that is not UTF-8: make it with a client of that protocol."
        ) from None


def check_fields(message: bytes) -> None:
    """Refuse a message of very many fields: each would become an object forty times as large."""
    at = n_fields = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        if tag & 7 == 2:  # a length, then as many bytes
            size, at = _read_varint(message, at)
            at += size
        elif tag & 7 == 0:
            _, at = _read_varint(message, at)
        else:
            return  # not a message of this protocol, so the parser will refuse it
        n_fields += 1
        if n_fields > MAX_FIELDS:
            raise RequestError(
                f"A request must have at most {MAX_FIELDS} inputs, outputs and parameters, got "
                "more: send those of the model."
            )


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Read an integer of protobuf at an offset; also give the offset behind it."""
    value = shift = 0
    for byte in message[at : at + 10]:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            break
    return value, at


def read_message(request: Any) -> Request:
    """Read a message."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(
            f"There must be one raw_input_contents for each of the {len(request.inputs)} inputs, "
            f"or none at all, got {len(raw)}: send the values of all inputs in the same way."
        )
    if not request.inputs:
        raise RequestError("A request must have inputs, got none: send those of the model.")
    tensors = [
        _read_tensor(tensor, raw[i] if raw else None) for i, tensor in enumerate(request.inputs)
    ]
    for output in request.outputs:
        check_output(output.name, output.parameters)
    outputs = {output.name: bool(raw) for output in request.outputs} or None
    return Request(tensors, outputs, read_id(request.id), bool(raw))


def write_message(scored: ScoredRequest) -> Any:
    """Write a message."""
    response = scored.response
    message = pb2.ModelInferResponse(
        model_name=response.model, model_version=response.version, id=response.id
    )
    for name, datatype, values in response.outputs:
        output = message.outputs.add(name=name, datatype=datatype, shape=values.shape)
        if response.binary or datatype not in _CONTENTS:
            message.raw_output_contents.append(to_bytes(datatype, values))
            continue
        flat = values.reshape(-1).tolist()
        if datatype == "BYTES":
            flat = [text.encode() for text in flat]
        getattr(output.contents, _CONTENTS[datatype]).extend(flat)
    return message


def _read_tensor(tensor: Any, raw: bytes | None) -> Tensor:
    name, shape = tensor.name, list(tensor.shape)
    if raw is not None:
        if tensor.HasField("contents"):
            raise RequestError(
                f"Input {shorten(name)} must have either contents or raw_input_contents, got "
                "both: leave one out."
            )
        return from_bytes(name, tensor.datatype, shape, raw)
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        datatypes = ", ".join(DTYPES)
        raise RequestError(
            f"Input {shorten(name)} must have one of the datatypes {datatypes}, FP16 as "
            f"raw_input_contents, got {shorten(tensor.datatype)}: see the metadata of the model."
        )
    data: list[Any] = list(getattr(tensor.contents, field))
    if field == "bytes_contents":
        data = [_decode(name, value) for value in data]
    return from_list(name, tensor.datatype, shape, data)


def _decode(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RequestError(
            f"Input {shorten(name)} must hold strings in UTF-8, got other bytes: encode them anew."
        ) from None
