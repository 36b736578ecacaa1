"""What every HTTP request passes before a route: access, limits, request ids, logs.

An ASGI application around another one. It reads the bodies, so that no route ever waits for a slow
client, and it serves inference itself: Starlette's routing takes a third of the time of a small
request.
"""

import asyncio
import contextlib
import functools
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from skmode_deploy.serving.engine.access import Access
from skmode_deploy.serving.engine.request_log import log_defect, log_request
from skmode_deploy.serving.engine.service import Service
from skmode_deploy.serving.models.model import (
    ScoredRequest,
    ServedLanguageModel,
    ServedModel,
)
from skmode_deploy.serving.protocol.errors import RequestError, is_openai, openai_error
from skmode_deploy.serving.protocol.request_ids import HEADER, choose_request_id
from skmode_deploy.serving.protocol.requests import read_request
from skmode_deploy.serving.protocol.responses import write_response
from skmode_deploy.serving.transport.connections import (
    BODY,
    HEADER_IS_SHORT,
    HEADER_TIME,
    RESPOND,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]
Respond = Callable[[bytes, bytes], Awaitable[None]]

JSON_LENGTH = b"inference-header-content-length"
REQUEST_ID = HEADER.encode()
CLOSE = (b"connection", b"close")
COMPLETIONS = "/v1/completions"
# /v2/models/NAME[/versions/VERSION][/infer|/ready]
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(/infer|/ready)?")
# Not whether a model is ready: that would tell which models there are.
_HEALTH = re.compile(r"/|/v2/health/(live|ready)")


class Target(NamedTuple):
    """The model that a path is about, as the client wrote it; ``""`` where it names none."""

    model: str
    version: str
    is_inference: bool


class Disconnected(Exception):
    """The client went away."""


class Gateway:
    """Serve inference, and pass other requests within the limits on to an application."""

    def __init__(self, app: Application, service: Service) -> None:
        self._app = app
        self._service = service
        self._settings = service.settings
        self._access = Access(service.settings)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # From the end of its header: a request may have waited for others before this line.
        start = scope.get("state", {}).get(HEADER_TIME) or time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(REQUEST_ID, b"").decode("latin-1")
        sender = ResponseSender(send, choose_request_id(given), self._service)
        sender.is_openai = is_openai(scope["path"])
        scope["skmode.sender"] = sender  # so that a route can say which model it asked
        target = _find_target(scope["path"])
        try:
            await self._respond(scope, headers, target, receive, sender, start)
        except Disconnected:
            sender.status = 499  # nginx's code for this; it is only logged
        except RequestError as error:
            if error.limit:
                self._service.metrics.rejected(error.limit)
            await sender.refuse(error)
        except Exception as error:
            log_defect(error, sender.request_id)
            await sender.refuse(RequestError("The server failed: see its log.", 500))
        self._record(scope, target, sender, time.perf_counter() - start)

    async def _respond(
        self,
        scope: Any,
        headers: dict[bytes, bytes],
        target: Target,
        receive: Receive,
        sender: "ResponseSender",
        start: float,
    ) -> None:
        self._check_head(scope, headers)
        method = scope["method"]
        if target.is_inference and method != "POST":
            raise RequestError("The route does not accept this method: see /openapi.json.", 405)
        if not _has_body(method, headers):
            await self._app(scope, receive, sender)
            return
        self._check_coding(headers)
        n_reserved = [0]
        try:
            body = scope.get("state", {}).get(BODY)
            if body is not None:
                self._reserve(len(body), n_reserved)
            else:
                remaining = start + self._settings.deadline - time.perf_counter()
                async with asyncio.timeout(max(0.0, remaining)):
                    body = await self._receive_body(headers, receive, n_reserved)
            sender.body_is_read = True
            if target.is_inference:
                response = await self._infer(target, headers, body, sender, start)
                await sender.send_prediction(*response, scope.get("state", {}).get(RESPOND))
            else:
                await self._app(scope, _replay(body, receive), sender)
        except TimeoutError:
            raise RequestError(
                f"A request must arrive within {self._settings.deadline:g} seconds, and this one "
                "did not: send it faster, or in parts.",
                408,
                limit="slow",
            ) from None
        finally:
            self._service.admission.release_bytes(n_reserved[0])

    async def _infer(
        self,
        target: Target,
        headers: dict[bytes, bytes],
        body: bytes,
        sender: "ResponseSender",
        start: float,
    ) -> tuple[bytes, int | None]:
        json_length = _read_json_length(headers)
        loaded = self._service.get(target.model, target.version)
        sender.served = loaded.served
        return await self._service.infer(
            loaded,
            len(body),
            lambda: read_request(body, json_length, self._settings.max_json_depth),
            _write,
            start,
        )

    def _check_head(self, scope: Any, headers: dict[bytes, bytes]) -> None:
        if not scope.get("state", {}).get(HEADER_IS_SHORT):
            self._check_header_bytes(scope["headers"])
        path = scope["path"]
        if not path.isprintable():
            raise RequestError("The path must have no control characters, got one: remove it.")
        query = scope["query_string"]
        if query and b"model_version" in unquote_to_bytes(query):
            raise RequestError(
                "The version must stand in the path, got it as a query: ask for "
                "/v2/models/NAME/versions/VERSION, and what is behind it."
            )
        if path == "/metrics" and self._settings.metrics_port is not None:
            raise RequestError("The metrics have a port of their own: ask there.", 404)
        if self._access.needs_token and not _HEALTH.fullmatch(path):
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            self._access.check_token(authorization, "rest")
        if path.startswith("/v2/repository"):
            self._access.check_management()

    def _check_header_bytes(self, headers: list[tuple[bytes, bytes]]) -> None:
        # 4 for the colon, the space and the line end of each.
        size = sum([len(name) + len(value) + 4 for name, value in headers])
        if size > self._settings.max_header_bytes:
            raise RequestError(
                f"The header must have at most {self._settings.max_header_bytes} bytes, got "
                f"{size}: leave out what is not needed.",
                431,
                limit="header",
            )

    def _check_coding(self, headers: dict[bytes, bytes]) -> None:
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding != b"identity":
            raise RequestError(
                "The body must not be compressed, got another Content-Encoding: send it as it is.",
                415,
            )
        if headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
            raise RequestError(
                "The Transfer-Encoding must be chunked, got another one: send the body as it is.",
                415,
            )

    async def _receive_body(
        self, headers: dict[bytes, bytes], receive: Receive, n_reserved: list[int]
    ) -> bytes:
        declared = headers.get(b"content-length", b"")
        max_bytes = self._settings.max_body_bytes
        if declared.isdigit() and (len(declared) > 18 or int(declared) > max_bytes):
            self._refuse_size()
        parts = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part = message.get("body", b"")
            self._reserve(len(part), n_reserved)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _reserve(self, n_bytes: int, n_reserved: list[int]) -> None:
        """Count bytes of a body: among those of this request, and those of all."""
        if n_reserved[0] + n_bytes > self._settings.max_body_bytes:
            self._refuse_size()
        self._service.admission.reserve_bytes(n_bytes)
        n_reserved[0] += n_bytes

    def _refuse_size(self) -> None:
        raise RequestError(
            f"The body must have at most {self._settings.max_body_bytes} bytes, got more: send "
            "the rows in parts.",
            413,
            limit="body_size",
        )

    def _record(self, scope: Any, target: Target, sender: "ResponseSender", seconds: float) -> None:
        """Count and log a request."""
        model, version = "", ""  # whatever a client wrote must not become a label
        served = sender.served
        if served is None and target.model:
            with contextlib.suppress(RequestError):
                served = self._service.get(target.model, target.version).served
        if served is not None:
            model, version = served.name, str(served.version)
        if target.is_inference or scope["path"] == COMPLETIONS:
            code = str(sender.status)
            self._service.metrics.requested(model, version, "rest", code, seconds)
        log_request(
            sender.request_id,
            "rest",
            scope["method"],
            model,
            version,
            sender.status,
            seconds,
            scope["path"],
        )


class ResponseSender:
    """Send a response with the id of its request, and remember its status.

    While the server drains, responses tell clients to make a new connection, which leads elsewhere.
    """

    def __init__(self, send: Send, request_id: str, service: Service) -> None:
        self._send = send
        self._service = service
        self.request_id = request_id
        self.status = 0
        self.body_is_read = False
        # The model that was asked.
        self.served: ServedModel | ServedLanguageModel | None = None
        self.is_openai = False  # whether the client reads errors as OpenAI writes them

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (REQUEST_ID, self.request_id.encode())]
            if self._service.stopping:
                headers.append(CLOSE)
            message = {**message, "headers": headers}
        await self._send(message)

    async def send_prediction(
        self, body: bytes, json_length: int | None, respond: Respond | None = None
    ) -> None:
        """Send the response of a model; through `respond` it takes fewer steps."""
        self.status = 200
        headers = [(b"content-length", b"%d" % len(body)), (REQUEST_ID, self.request_id.encode())]
        if json_length is None:
            headers.append((b"content-type", b"application/json"))
        else:
            headers.append((b"content-type", b"application/octet-stream"))
            headers.append((JSON_LENGTH, b"%d" % json_length))
        if respond is not None and not self._service.stopping:
            lines = [name + b": " + value + b"\r\n" for name, value in headers]
            await respond(b"".join(lines), body)
            return
        if self._service.stopping:
            headers.append(CLOSE)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, error: RequestError) -> None:
        """Send the reason of a refusal."""
        if self.status:
            raise error  # half a response is sent: the connection must be closed
        document: dict[str, Any] = {"error": error.reason}
        if self.is_openai:
            document = openai_error(error.reason, error.status)
        body = orjson.dumps(document)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if error.status == 405:
            headers.append((b"allow", b"POST"))
        if not self.body_is_read:
            headers.append(CLOSE)
        await self({"type": "http.response.start", "status": error.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _write(scored: ScoredRequest) -> tuple[bytes, int | None]:
    return write_response(scored.response)


def _read_json_length(headers: dict[bytes, bytes]) -> int | None:
    length = headers.get(JSON_LENGTH)
    if length is None:
        return None
    if not (length.isdigit() and len(length) < 19):
        raise RequestError(
            "The header Inference-Header-Content-Length must be a whole number, got another "
            "text: state the length of the JSON in bytes."
        )
    return int(length)


def _has_body(method: str, headers: dict[bytes, bytes]) -> bool:
    """Say whether there is something to read; on any path, for limits hold for what is read."""
    if b"transfer-encoding" in headers:
        return True
    return method == "POST" or headers.get(b"content-length", b"0") != b"0"


@functools.lru_cache(1024)
def _find_target(path: str) -> Target:
    match = _MODEL.fullmatch(path)
    if not match:
        return Target("", "", False)
    return Target(match[1], match[2] or "", match[3] == "/infer")


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
