"""Responses to inference by REST: JSON, followed by the tensors that the client wants as bytes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from skmode_deploy.serving.protocol.tensors import Tensor, to_bytes


class Response(NamedTuple):
    """The outputs of a model, for REST and gRPC."""

    model: str
    version: str
    outputs: Sequence[Tensor]
    binary: frozenset[str] = frozenset()  # names of the outputs to send as bytes
    id: str = ""  # as the client called the request


def write_response(response: Response) -> tuple[bytes, int | None]:
    """Write the body; also return the length of its JSON, or None if all of it is JSON."""
    outputs, rest = [], []
    for name, datatype, values in response.outputs:
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if name in response.binary:
            data = to_bytes(datatype, values)
            output["parameters"] = {"binary_data_size": len(data)}
            rest.append(data)
        else:
            flat = np.ascontiguousarray(values).reshape(-1)
            # orjson writes arrays of the other types as they are, without an object for each value.
            output["data"] = flat.tolist() if datatype in ("BYTES", "BOOL", "FP16") else flat
        outputs.append(output)
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.id:
        document["id"] = response.id
    document["outputs"] = outputs
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return (text, None) if not rest else (b"".join([text, *rest]), len(text))
