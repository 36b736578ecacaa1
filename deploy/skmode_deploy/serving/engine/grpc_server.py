"""gRPC: KServe's service around our models, with the same limits as REST."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from skmode_deploy.serving.engine.front import log_defect
from skmode_deploy.serving.engine.kserve_engine import Management, Plane
from skmode_deploy.serving.engine.service import Service, now
from skmode_deploy.serving.models.model import ScoredRequest
from skmode_deploy.serving.protocol.errors import RequestError, shorten
from skmode_deploy.serving.protocol.request_ids import HEADER, choose_request_id
from skmode_deploy.serving.protocol.requests import Request, read_id
from skmode_deploy.serving.protocol.tensors import DTYPES, Tensor, from_bytes, from_list, to_bytes
from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.tokens import Tokens

from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages  # isort: skip
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs  # isort: skip
from kserve.protocol.grpc.servicer import InferenceServicer  # isort: skip

LOGGER = logging.getLogger("skmode_deploy.serving")
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
MOST_PARTS = 100_000
_INFER = "ModelInfer"
_OPEN = ("ServerLive", "ServerReady")
_MANAGEMENT = ("RepositoryModelLoad", "RepositoryModelUnload")
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
# Model and version of the request that is answered, for its metrics.
_asked: contextvars.ContextVar[list[str]] = contextvars.ContextVar("asked")


class Servicer(InferenceServicer):
    """Answer gRPC."""

    def __init__(self, service: Service) -> None:
        super().__init__(Plane(service), Management(service))
        self._service = service

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Infer."""
        _check_parts(request)
        # Its first two fields are those of a ModelInferRequest.
        head = _parse(messages.ModelReadyRequest.FromString, request)
        loaded = self._service.get(head.name, head.version)
        _asked.get()[:] = [loaded.served.name, str(loaded.served.version)]
        parse = messages.ModelInferRequest.FromString
        with self._service.admission.bytes_of(request):
            return await self._service.infer(
                loaded, len(request), lambda: read_message(_parse(parse, request)), write_message
            )

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Say whether a model answers."""
        self._service.get(request.name, request.version)
        return messages.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Describe a model."""
        document = self._service.describe(request.name, request.version)
        return messages.ModelMetadataResponse(**document)


class Guard(aio.ServerInterceptor):
    """Ask for tokens, count, log, and say why a call is refused."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        file = settings.token_file
        self._tokens = None if file is None else Tokens(file)
        # A message is in memory before anything is known of it: so many may be at a time.
        self._room = asyncio.Semaphore(
            max(1, settings.max_pending_bytes // _largest_message(settings))
        )

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Put ourselves before a method."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        name = handler_call_details.method.rpartition("/")[2]
        metadata = dict(handler_call_details.invocation_metadata or ())

        async def answer(requests: AsyncIterator[bytes], context: Any) -> Any:
            if name == _INFER:
                async with self._room:
                    return await handler.unary_unary(await self._receive(requests), context)
            message = await self._receive(requests)
            return await handler.unary_unary(_parse(handler.request_deserializer, message), context)

        async def call(requests: AsyncIterator[bytes], context: Any) -> Any:
            return await self._call(name, metadata, answer, requests, context)

        # As a stream of requests, of which there is one: so we are asked before it is received.
        return grpc.stream_unary_rpc_method_handler(call, None, handler.response_serializer)

    async def _receive(self, requests: AsyncIterator[bytes]) -> bytes:
        try:
            return await anext(requests)
        except StopAsyncIteration:
            raise RequestError(
                "The call must hold a message, got none: make it with a client of the protocol."
            ) from None

    async def _call(
        self,
        name: str,
        metadata: dict[str, Any],
        method: Any,
        requests: AsyncIterator[bytes],
        context: Any,
    ) -> Any:
        start = now()
        asked = ["", ""]
        _asked.set(asked)
        request_id = choose_request_id(str(metadata.get(HEADER, "")))
        context.set_trailing_metadata(((HEADER, request_id),))
        code, refusal = grpc.StatusCode.OK, ""
        answer = None
        try:
            self._check(name, metadata)
            # To arrive and to be answered; of the latter the service has the deadline as well.
            async with asyncio.timeout(2 * self._service.settings.deadline):
                answer = await method(aiter(requests), context)
        except asyncio.CancelledError:  # the client does not wait any more
            self._count(name, asked, grpc.StatusCode.CANCELLED.name, request_id, now() - start)
            raise
        except TimeoutError:
            self._service.metrics.rejected("slow")
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            refusal = (
                f"A request must arrive within {2 * self._service.settings.deadline:g} seconds, "
                "and this one did not: send it faster, or in parts."
            )
        except RequestError as error:
            if error.limit:
                self._service.metrics.rejected(error.limit)
            code, refusal = CODES.get(error.status, grpc.StatusCode.UNKNOWN), error.reason
        except Exception as error:
            log_defect(error, request_id)
            code, refusal = grpc.StatusCode.INTERNAL, "The server failed: see its log."
        self._count(name, asked, code.name, request_id, now() - start)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, refusal)
        return answer

    def _check(self, name: str, metadata: dict[str, Any]) -> None:
        closed = self._tokens is not None and name not in _OPEN
        if closed and not self._tokens.allow(str(metadata.get("authorization", ""))):  # type: ignore[union-attr]
            raise RequestError(
                "The metadata must hold a token of this server as authorization, got none or "
                "another: send `Bearer TOKEN`.",
                401,
                limit="unauthorized",
            )
        if name in _MANAGEMENT and not self._service.settings.management:
            raise RequestError(
                "The repository may not be managed by requests: start the server with "
                "--management, or change the folder of the models.",
                403,
            )

    def _count(
        self, name: str, asked: list[str], code: str, request_id: str, seconds: float
    ) -> None:
        model, version = asked
        if name == _INFER:
            self._service.metrics.requested(model, version, "grpc", code, seconds)
        LOGGER.info(
            "request",
            extra={
                "request_id": request_id,
                "protocol": "grpc",
                "method": name,
                "model": model,
                "version": version,
                "code": code,
                "milliseconds": round(seconds * 1000, 3),
            },
        )


def _check_parts(message: bytes) -> None:
    """Refuse a message of very many parts: each would become an object forty times as large."""
    at = n_parts = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        if tag & 7 == 2:
            size, at = _read_varint(message, at)
            at += size
        elif tag & 7 == 0:
            _, at = _read_varint(message, at)
        else:
            return  # no message of this protocol: whoever reads it says so
        n_parts += 1
        if n_parts > MOST_PARTS:
            raise RequestError(
                f"A request must have at most {MOST_PARTS} inputs, outputs and parameters, got "
                "more: send those of the model."
            )


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for byte in message[at : at + 10]:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            break
    return value, at


def _parse(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """Take a message apart; what it is not, grpc itself would say by quoting the exception."""
    try:
        return parse(data)
    except Exception:  # which one, depends on how protobuf is built
        raise RequestError(
            "The call must hold a message of the Open Inference Protocol, got other bytes, or text "
            "that is not UTF-8: make it with a client of that protocol."
        ) from None


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
    outputs = {output.name: bool(raw) for output in request.outputs} or None
    return Request(tensors, outputs, read_id(request.id), bool(raw))


def write_message(scored: ScoredRequest) -> Any:
    """Write a message."""
    answer = scored.response
    response = messages.ModelInferResponse(
        model_name=answer.model, model_version=answer.version, id=answer.id
    )
    for name, datatype, values in answer.outputs:
        output = response.outputs.add(name=name, datatype=datatype, shape=values.shape)
        if answer.binary or datatype not in _CONTENTS:
            response.raw_output_contents.append(to_bytes(datatype, values))
            continue
        flat = values.reshape(-1).tolist()
        if datatype == "BYTES":
            flat = [text.encode() for text in flat]
        getattr(output.contents, _CONTENTS[datatype]).extend(flat)
    return response


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
        data = [_text(name, value) for value in data]
    return from_list(name, tensor.datatype, shape, data)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RequestError(
            f"Input {shorten(name)} must hold strings in UTF-8, got other bytes: encode them anew."
        ) from None


def make_grpc_server(service: Service) -> Any:
    """Make a server; it does not listen yet."""
    settings = service.settings
    server = aio.server(
        interceptors=(Guard(service),),
        options=[
            ("grpc.max_receive_message_length", _largest_message(settings)),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", settings.max_header_bytes),
            ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
            ("grpc.compression_enabled_algorithms_bitset", 1),  # none, as for REST
            ("grpc.max_allowed_incoming_connections", settings.max_connections),
            ("grpc.server_handshake_timeout_ms", int(settings.deadline * 1000)),
            ("grpc.max_connection_idle_ms", int(settings.idle_timeout * 1000)),
            ("grpc.max_concurrent_streams", 100),
            ("grpc.so_reuseport", int(settings.workers > 1)),
        ],
        maximum_concurrent_rpcs=settings.max_connections,
    )
    stubs.add_GRPCInferenceServiceServicer_to_server(Servicer(service), server)
    _bind(server, settings)
    return server


def _largest_message(settings: Settings) -> int:
    return min(settings.max_body_bytes, settings.max_grpc_message_bytes)


def _bind(server: Any, settings: Settings) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    if settings.tls_cert is None or settings.tls_key is None:
        server.add_insecure_port(address)
        return
    pair = (Path(settings.tls_key).read_bytes(), Path(settings.tls_cert).read_bytes())
    server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
