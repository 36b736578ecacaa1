"""The routes of completions: whole, or as server-sent events."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from skmode_deploy.language import Generation
from skmode_deploy.serving.engine.completions.requests import CompletionRequest, read_completion
from skmode_deploy.serving.engine.completions.turns import Piece, Turn, usage
from skmode_deploy.serving.engine.request_log import log_defect
from skmode_deploy.serving.engine.service import Loaded, Service
from skmode_deploy.serving.models.model import ServedLanguageModel
from skmode_deploy.serving.protocol.errors import RequestError, openai_error, shorten

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

EVENT_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    # Else nginx would collect the events, and pass them on in one block.
    (b"x-accel-buffering", b"no"),
]
CLIENT_LEFT = 499  # nginx's code for this; it is only logged


def about_completions(service: Service) -> list[Route]:
    """Make the routes."""

    async def complete(request: Request) -> Response:
        start = time.perf_counter()
        try:
            wanted = read_completion(await request.body())
            loaded = _find(service, wanted.model)
        except RequestError as error:
            return _refuse(service, error)
        with contextlib.suppress(KeyError):
            request.scope["skmode.sender"].served = loaded.served
        turn = Turn(service, loaded, wanted)
        return Completion(service, wanted, turn, start)

    async def models(request: Request) -> Response:
        names = [name for name in service.repository.names() if _is_language(service, name)]
        data = [_describe(service, name) for name in names]
        return _json({"object": "list", "data": data})

    async def model(request: Request) -> Response:
        try:
            name = request.path_params["name"]
            _find(service, name)
            return _json(_describe(service, name))
        except RequestError as error:
            return _refuse(service, error)

    return [
        Route("/v1/completions", complete, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name}", model),
    ]


def _is_language(service: Service, name: str) -> bool:
    with contextlib.suppress(RequestError):  # unloaded just now
        return isinstance(service.get(name).served, ServedLanguageModel)
    return False


def _find(service: Service, name: str) -> Loaded:
    loaded = service.get(name)
    if not isinstance(loaded.served, ServedLanguageModel):
        raise RequestError(
            f"The model must be a language model, got {shorten(name)}, which predicts rows or "
            "images: ask /v2 for its predictions.",
            404,
        )
    return loaded


def _describe(service: Service, name: str) -> dict[str, Any]:
    created = service.get(name).served.manifest.created
    seconds = int(datetime.fromisoformat(created).timestamp())
    return {"id": name, "object": "model", "created": seconds, "owned_by": "skmode"}


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), status, headers, "application/json")


def _refuse(service: Service, error: RequestError) -> Response:
    if error.limit:
        service.metrics.rejected(error.limit)
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return _json(openai_error(error.reason, error.status), error.status, headers)


class Completion(Response):
    """The response to a request for completions; a client that leaves ends them."""

    def __init__(
        self,
        service: Service,
        request: CompletionRequest,
        turn: Turn,
        start: float,
    ) -> None:
        super().__init__()
        self._service = service
        self._request = request
        self._turn = turn
        self._start = start
        self._head: dict[str, Any] = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": request.model,
        }

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Send it."""
        watcher = asyncio.create_task(self._watch(receive))
        try:
            if self._request.stream:
                await self._stream(scope, receive, send)
                return
            response = await self._collect()
            if watcher.done():
                response = Response(status_code=CLIENT_LEFT)
            await response(scope, receive, send)
        finally:
            watcher.cancel()
            self._turn.cancel()

    async def _watch(self, receive: Receive) -> None:
        """End the completions when the client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._turn.cancel()

    async def _collect(self) -> Response:
        texts: dict[int, list[str]] = {}
        generations: dict[int, Generation] = {}
        try:
            async for piece in self._turn.pieces(self._start):
                texts.setdefault(piece.choice, []).append(piece.text)
                generations[piece.choice] = piece.generation
        except RequestError as error:
            return _refuse(self._service, error)
        choices = [
            _choice(i, "".join(texts[i]), generations[i], is_last=True) for i in sorted(texts)
        ]
        used = usage([generations[i] for i in sorted(texts)], self._request.n)
        return _json({**self._head, "choices": choices, "usage": used})

    async def _stream(self, scope: Any, receive: Receive, send: Send) -> None:
        pieces = self._turn.pieces(self._start)
        generations: dict[int, Generation] = {}
        try:
            first = await anext(pieces, None)
        except RequestError as error:
            await _refuse(self._service, error)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
        try:
            if first is not None:
                generations[first.choice] = first.generation
                await send(self._event(first))
            async for piece in pieces:
                generations[piece.choice] = piece.generation
                await send(self._event(piece))
            if self._request.include_usage:
                used = usage(list(generations.values()), self._request.n)
                await send(_to_message({**self._head, "choices": [], "usage": used}))
        except Exception as error:  # the status is sent: only an event can tell
            await send(_to_message(self._explain(error)))
        body = b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _explain(self, error: Exception) -> dict[str, Any]:
        if isinstance(error, RequestError):
            if error.limit:
                self._service.metrics.rejected(error.limit)
            return openai_error(error.reason, error.status)
        log_defect(error, self._head["id"])
        return openai_error("The server failed: see its log.", 500)

    def _event(self, piece: Piece) -> MutableMapping[str, Any]:
        choice = _choice(piece.choice, piece.text, piece.generation, is_last=piece.is_last)
        return _to_message({**self._head, "choices": [choice]})


def _choice(index: int, text: str, generation: Generation, is_last: bool) -> dict[str, Any]:
    return {
        "index": index,
        "text": text,
        "logprobs": None,
        "finish_reason": generation.finish_reason if is_last else None,
        "domain": generation.domain,  # beyond OpenAI's
    }


def _to_message(document: dict[str, Any]) -> MutableMapping[str, Any]:
    """Write a server-sent event."""
    body = b"data: " + orjson.dumps(document) + b"\n\n"
    return {"type": "http.response.body", "body": body, "more_body": True}
