"""What every HTTP request passes before the engine sees it: tokens, limits, request ids, logs.

An ASGI application around another one. Bodies are read here, so that the engine behind it never
waits for a slow client.
"""

import asyncio
import contextlib
import functools
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import orjson

from skmode_deploy.serving.engine.service import Service, now
from skmode_deploy.serving.models.model import ServedModel
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.request_ids import HEADER, choose_request_id
from skmode_deploy.serving.transport.tokens import Tokens

LOGGER = logging.getLogger("skmode_deploy.serving")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

JSON_LENGTH = b"inference-header-content-length"
REQUEST_ID = HEADER.encode()
CLOSE = (b"connection", b"close")
# /v2/models/NAME[/versions/VERSION][/infer|/ready]
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(/infer|/ready)?")
# In the state of a request: when its header was complete, whether its body is, and whether the
# header is known to keep its limit.
ARRIVED, COMPLETE, SHORT = "arrived", "complete", "short"
# Asked for without a token; not whether a model is ready, for that tells which there are.
_OPEN = re.compile(r"/|/v2/health/(live|ready)")


class Target(NamedTuple):
    """What a path leads to.

    Attributes
    ----------
    model : str
        Name of the model as the client wrote it. Empty where there is none.
    version : str
        Version that the path names. Empty for the current one.
    infer : bool
        Whether it asks for inference.
    path : str
        The path as the engine knows it, which has no versions: there ``churn@3`` is a model like
        any other.
    """

    model: str
    version: str
    infer: bool
    path: str


class DataPlane(Protocol):
    """What reads requests for inference and answers them."""

    def decode(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[Any, Any]: ...

    async def infer(self, model_name: str, request: Any) -> tuple[Any, Any]: ...


class Disconnected(Exception):
    """The client went away."""


class Front:
    """Pass requests that keep the limits on to an application."""

    def __init__(self, app: Application, plane: DataPlane, service: Service) -> None:
        self._app = app
        self._plane = plane
        self._service = service
        self._settings = service.settings
        file = self._settings.token_file
        self._tokens = None if file is None else Tokens(file)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # When its header was complete: what waits behind others has not come to this line yet.
        start = scope.get("state", {}).get(ARRIVED) or now()
        headers = dict(scope["headers"])
        given = headers.get(REQUEST_ID, b"").decode("latin-1")
        answer = _Answer(send, choose_request_id(given), self._service)
        target = _target(scope["path"])
        try:
            await self._answer(scope, headers, target, receive, answer, start)
        except Disconnected:
            answer.status = 499  # as nginx logs it; nobody hears it
        except RequestError as error:
            if error.limit:
                self._service.metrics.rejected(error.limit)
            await answer.refuse(error)
        except Exception as error:
            log_defect(error, answer.request_id)
            await answer.refuse(RequestError("The server failed: see its log.", 500))
        self._count(scope, target, answer, now() - start)

    async def _answer(
        self,
        scope: Any,
        headers: dict[bytes, bytes],
        target: Target,
        receive: Receive,
        answer: "_Answer",
        start: float,
    ) -> None:
        self._check_head(scope, headers)
        # No route has a query.
        known = {"path": target.path, "query_string": b""}
        if not _has_body(scope["method"], headers):
            await self._app({**scope, **known}, receive, answer)
            return
        taken = [0]
        try:
            if scope.get("state", {}).get(COMPLETE):  # nothing to wait for
                body = await self._read_body(headers, receive, taken)
            else:
                async with asyncio.timeout(max(0.0, start + self._settings.deadline - now())):
                    body = await self._read_body(headers, receive, taken)
            answer.has_body = False
            if target.infer and scope["method"] == "POST":
                await answer.send(*await self._infer(target, headers, body, answer, start))
            else:
                await self._app({**scope, **known}, _replay(body, receive), answer)
        except TimeoutError:
            raise RequestError(
                f"A request must arrive within {self._settings.deadline:g} seconds, and this one "
                "did not: send it faster, or in parts.",
                408,
                limit="slow",
            ) from None
        finally:
            self._service.admission.give_bytes(taken[0])

    async def _infer(
        self,
        target: Target,
        headers: dict[bytes, bytes],
        body: bytes,
        answer: "_Answer",
        start: float,
    ) -> tuple[bytes, int | None]:
        request, _ = self._plane.decode(body, headers)
        request.loaded = self._service.get(target.model, target.version)
        request.start = start
        answer.served = request.loaded.served
        written: tuple[bytes, int | None]
        written, _ = await self._plane.infer(target.model, request)
        return written

    def _check_head(self, scope: Any, headers: dict[bytes, bytes]) -> None:
        if not scope.get("state", {}).get(SHORT):
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
        if self._tokens is not None and not _OPEN.fullmatch(path):
            self._check_token(self._tokens, headers.get(b"authorization", b"").decode("latin-1"))
        if path.startswith("/v2/repository") and not self._settings.management:
            raise RequestError(
                "The repository may not be managed by requests: start the server with "
                "--management, or change the folder of the models.",
                403,
            )

    def _check_header_bytes(self, headers: list[tuple[bytes, bytes]]) -> None:
        # Each has a colon, a space and the end of its line as well.
        size = sum([len(name) + len(value) + 4 for name, value in headers])
        if size > self._settings.max_header_bytes:
            raise RequestError(
                f"The header must have at most {self._settings.max_header_bytes} bytes, got "
                f"{size}: leave out what is not needed.",
                431,
                limit="header",
            )

    def _check_token(self, tokens: Tokens, authorization: str) -> None:
        if not tokens.allow(authorization):
            raise RequestError(
                "The header Authorization must hold a token of this server, got none or another: "
                "send `Authorization: Bearer TOKEN`.",
                401,
                limit="unauthorized",
            )

    async def _read_body(
        self, headers: dict[bytes, bytes], receive: Receive, taken: list[int]
    ) -> bytes:
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
        most = self._settings.max_body_bytes
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > most):
            self._refuse_size(most)
        parts = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part = message.get("body", b"")
            if taken[0] + len(part) > most:
                self._refuse_size(most)
            self._service.admission.take_bytes(len(part))
            taken[0] += len(part)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _refuse_size(self, most: int) -> None:
        raise RequestError(
            f"The body must have at most {most} bytes, got more: send the rows in parts.",
            413,
            limit="body_size",
        )

    def _count(self, scope: Any, target: Target, answer: "_Answer", seconds: float) -> None:
        model, version = "", ""  # whatever a client wrote must not become a label
        served = answer.served
        if served is None and target.model:
            with contextlib.suppress(RequestError):
                served = self._service.get(target.model, target.version).served
        if served is not None:
            model, version = served.name, str(served.version)
        if target.infer:
            code = str(answer.status)
            self._service.metrics.requested(model, version, "rest", code, seconds)
        if LOGGER.isEnabledFor(logging.INFO):
            LOGGER.info(
                "request",
                extra={
                    "request_id": answer.request_id,
                    "protocol": "rest",
                    "method": scope["method"],
                    "path": scope["path"] if len(scope["path"]) <= 300 else scope["path"][:300],
                    "model": model,
                    "version": version,
                    "code": answer.status,
                    "milliseconds": round(seconds * 1000, 3),
                },
            )


class _Answer:
    """Send an answer on, with the id of its request, and remember its status.

    Where the server is about to stop it says so, and clients ask on a new connection, elsewhere.
    """

    def __init__(self, send: Send, request_id: str, service: Service) -> None:
        self._send = send
        self._service = service
        self.request_id = request_id
        self.status = 0
        self.has_body = True  # which may not have been read
        self.served: ServedModel | None = None  # what answered

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (REQUEST_ID, self.request_id.encode())]
            if self._service.stopping:
                headers.append(CLOSE)
            message = {**message, "headers": headers}
        await self._send(message)

    async def send(self, body: bytes, json_length: int | None) -> None:
        """Send the answer of a model."""
        self.status = 200
        headers = [(b"content-length", b"%d" % len(body)), (REQUEST_ID, self.request_id.encode())]
        if json_length is None:
            headers.append((b"content-type", b"application/json"))
        else:
            headers.append((b"content-type", b"application/octet-stream"))
            headers.append((JSON_LENGTH, b"%d" % json_length))
        if self._service.stopping:
            headers.append(CLOSE)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, error: RequestError) -> None:
        """Say why there is no answer."""
        if self.status:
            raise error  # half an answer is sent: the connection must be closed
        body = orjson.dumps({"error": error.reason})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.has_body:
            headers.append(CLOSE)
        await self({"type": "http.response.start", "status": error.status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _has_body(method: str, headers: dict[bytes, bytes]) -> bool:
    """Whether there is something to read: of any path, for what is not read has no limits."""
    if b"transfer-encoding" in headers:
        return True
    return method == "POST" or headers.get(b"content-length", b"0") != b"0"


@functools.lru_cache(1024)
def _target(path: str) -> Target:
    match = _MODEL.fullmatch(path)
    if not match:
        return Target("", "", False, path)
    model, version, rest = match[1], match[2] or "", match[3] or ""
    if version:
        path = f"/v2/models/{model}@{version}{rest}"
    return Target(model, version, rest == "/infer", path)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def log_defect(error: Exception, request_id: str) -> None:
    """Where it failed, but not the message: that may quote what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)
    LOGGER.error(
        "defect",
        extra={
            "request_id": request_id,
            "error": type(error).__name__,
            "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]],
        },
    )
