"""The REST routes, except inference, which `gateway` serves."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from skmode_deploy.serving.engine.completions import about_completions
from skmode_deploy.serving.engine.openapi import DocumentCache
from skmode_deploy.serving.engine.service import Service
from skmode_deploy.serving.observe.exposition import write_metrics
from skmode_deploy.serving.protocol.errors import RequestError, is_openai, openai_error

Endpoint = Callable[[Request], Awaitable[Response] | Response]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[Any]]

_REASONS = {
    404: "There is no such route: see /openapi.json.",
    405: "The route does not accept this method: see /openapi.json.",
}


class JSONResponse(Response):
    """A response in JSON, written by orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write the body."""
        return orjson.dumps(content)


def make_app(
    service: Service, registry: CollectorRegistry, lifespan: Lifespan | None = None
) -> Starlette:
    """Make the application that serves everything except inference."""
    routes = [
        Route("/metrics", metrics_endpoint(registry, service.flush)),
        *_about_the_server(service),
        *_about_models(service),
        *_about_the_repository(service),
        *about_completions(service),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=REFUSALS)
    app.router.redirect_slashes = False  # they would lead to whatever host the client names
    return app


def metrics_endpoint(registry: CollectorRegistry, flush: Callable[[], None]) -> Endpoint:
    """Make the endpoint of the metrics; it runs in a thread, for it may have to wait."""

    def metrics(request: Request) -> Response:
        flush()
        body, content_type = write_metrics(registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return metrics


def _about_the_server(service: Service) -> list[Route]:
    documents = DocumentCache(service)

    async def root(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def metadata(request: Request) -> Response:
        return JSONResponse(service.describe_server())

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(request: Request) -> Response:
        if not service.ready:
            raise RequestError("The server is not ready: try again later.", 503)
        return JSONResponse({"ready": True})

    async def openapi(request: Request) -> Response:
        return JSONResponse(documents.get())

    return [
        Route("/", root),
        Route("/v2", metadata),
        Route("/v2/", metadata),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/openapi.json", openapi),
    ]


def _about_models(service: Service) -> list[Route]:
    async def models(request: Request) -> Response:
        return JSONResponse({"models": service.repository.names()})

    async def metadata(request: Request) -> Response:
        name, version = _read_path(request)
        return JSONResponse(service.describe_model(name, version))

    async def ready(request: Request) -> Response:
        name, version = _read_path(request)
        service.get(name, version)
        return JSONResponse({"name": name, "ready": True})

    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    return [
        Route("/v2/models", models),
        Route(model, metadata),
        Route(version, metadata),
        Route(f"{model}/ready", ready),
        Route(f"{version}/ready", ready),
    ]


def _read_path(request: Request) -> tuple[str, str]:
    return request.path_params["name"], request.path_params.get("version", "")


def _about_the_repository(service: Service) -> list[Route]:
    async def index(request: Request) -> Response:
        entries = [
            {
                "name": state.name,
                "version": "" if state.version is None else str(state.version),
                "state": state.state,
                "reason": state.reason,
            }
            for state in service.repository.state()
        ]
        return JSONResponse(entries)

    async def load(request: Request) -> Response:
        name, _ = _read_path(request)
        await service.load(name)
        return JSONResponse({"name": name, "load": True})

    async def unload(request: Request) -> Response:
        name, _ = _read_path(request)
        await service.unload(name)
        return JSONResponse({"name": name, "unload": True})

    return [
        Route("/v2/repository/index", index, methods=["POST"]),
        Route("/v2/repository/models/{name}/load", load, methods=["POST"]),
        Route("/v2/repository/models/{name}/unload", unload, methods=["POST"]),
    ]


async def _refuse(request: Request, error: Any) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    return JSONResponse({"error": error.reason}, error.status, headers)


async def _refuse_route(request: Request, error: Any) -> Response:
    code = error.status_code
    reason = _REASONS.get(code, "The request cannot be read: see the Open Inference Protocol.")
    document = openai_error(reason, code) if is_openai(request.url.path) else {"error": reason}
    return JSONResponse(document, code, error.headers)


REFUSALS: dict[Any, Any] = {RequestError: _refuse, HTTPException: _refuse_route}
