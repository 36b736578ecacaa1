"""KServe's implementation of the Open Inference Protocol around our models.

Used of it are the routes and documents of REST (`register_v2_endpoints`), and what stands between
them and a model: `DataPlane`, `ModelRepository` and `ModelRepositoryExtension`, each through its
public methods. Reading and writing of tensors is ours: KServe's own answers 500 where a client
sends what is no tensor.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

import skmode_deploy
from skmode_deploy.serving.engine.front import JSON_LENGTH
from skmode_deploy.serving.engine.metrics_server import write_metrics
from skmode_deploy.serving.engine.openapi import describe
from skmode_deploy.serving.engine.service import Loaded, Service
from skmode_deploy.serving.models.model import ScoredRequest
from skmode_deploy.serving.models.repository import ModelState
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.requests import read_request
from skmode_deploy.serving.protocol.responses import write_response

_arguments, sys.argv = sys.argv, sys.argv[:1]  # which KServe parses when it is imported
try:
    from kserve.errors import ModelNotFound, ModelNotReady, ServerNotReady
    from kserve.model_repository import ModelRepository
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
finally:
    sys.argv = _arguments

SERVER = "skmode-deploy"
EXTENSIONS = ["binary_tensor_data"]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]


class Body:
    """A body that is read when its turn has come.

    Attributes
    ----------
    loaded : Loaded or None
        What is to answer. None is the model of the name.
    start : float or None
        When the request arrived.
    """

    def __init__(self, data: bytes, json_length: int | None) -> None:
        self.data = data
        self.json_length = json_length
        self.loaded: Loaded | None = None
        self.start: float | None = None


def _write(scored: ScoredRequest) -> tuple[bytes, int | None]:
    return write_response(scored.response)


class Registry(ModelRepository):
    """Our repository as KServe asks it."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def get_models(self) -> dict[str, None]:
        """List the models."""
        return dict.fromkeys(self._service.repository.names())


class Management(ModelRepositoryExtension):
    """Load and unload models by requests."""

    def __init__(self, service: Service) -> None:
        super().__init__(Registry(service))
        self._service = service

    async def load(self, model_name: str) -> dict[str, Any]:
        """Load a model."""
        await self._change(self._service.repository.load, model_name)
        return {"name": model_name, "load": True}

    async def unload(self, model_name: str) -> dict[str, Any]:
        """Unload a model."""
        await self._change(self._service.repository.unload, model_name)
        return {"name": model_name, "unload": True}

    async def _change(self, change: Callable[[str], Any], name: str) -> None:
        try:
            await asyncio.to_thread(change, name)
        except LookupError as error:
            raise RequestError(str(error.args[0]), 404) from None
        except (OSError, ValueError) as error:
            raise RequestError(f"The model cannot be loaded: {error}", 409) from None


class Plane(DataPlane):
    """What KServe's routes ask."""

    def __init__(self, service: Service) -> None:
        super().__init__(Registry(service))
        self._service = service
        self._max_depth = service.settings.max_json_depth

    def metadata(self) -> dict[str, Any]:
        """Describe the server."""
        extensions = [*EXTENSIONS]
        if self._service.settings.management:
            extensions.append("model_repository")
        return {
            "name": SERVER,
            "version": skmode_deploy.__version__,
            "extensions": extensions,
        }

    async def ready(self) -> bool:
        """Say whether requests should be sent here."""
        return self._service.ready

    async def model_ready(
        self, model_name: str, disable_predictor_health_check: bool = False
    ) -> bool:
        """Say whether a model answers."""
        self._service.get(model_name)
        return True

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Describe a model."""
        return self._service.describe(model_name)

    async def infer(
        self, model_name: str, request: Any, headers: dict[str, str] | None = None
    ) -> tuple[Any, dict[str, str]]:
        """Answer a request."""
        loaded = request.loaded or self._service.get(model_name)
        answer = await self._service.infer(
            loaded,
            len(request.data),
            lambda: read_request(request.data, request.json_length, self._max_depth),
            _write,
            request.start,
        )
        return answer, {}

    def decode(
        self, body: Any, headers: Any, protocol_version: str = "", model_name: str | None = None
    ) -> tuple[Body, dict[str, Any]]:
        """Take a body; it is read when its turn has come."""
        length = headers.get(JSON_LENGTH)
        if length is not None and not (length.isdigit() and len(length) < 19):
            raise RequestError(
                "The header Inference-Header-Content-Length must be a whole number, got another "
                "text: state the length of the JSON in bytes."
            )
        return Body(body, None if length is None else int(length)), {}


def make_engine(
    service: Service, plane: Plane, registry: CollectorRegistry, lifespan: Lifespan
) -> FastAPI:
    """Make the application that answers REST, but for inference.

    That goes from the front to `plane` directly: KServe's route, which stays for the OpenAPI
    document, validates what are bytes to it, and takes a third of the time of a small request.
    """
    app = FastAPI(
        title=SERVER,
        version=skmode_deploy.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # they would lead to whatever host the client names
        lifespan=lifespan,
    )

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    def metrics(request: Request) -> Response:  # in a thread, for it may have to wait
        service.flush()
        return write_metrics(registry, request.headers.get("accept", ""))

    async def index(request: Request) -> Response:
        return JSONResponse([_describe_state(state) for state in service.repository.state()])

    app.add_route("/", live, include_in_schema=False)
    # Of the protocol's repository extension, which KServe has only in part.
    app.add_route("/v2/repository/index", index, methods=["POST"], include_in_schema=False)
    app.add_route("/metrics", metrics, include_in_schema=False)
    register_v2_endpoints(app, plane, Management(service))
    for error, status in _STATUS.items():
        app.add_exception_handler(error, _handler(status))
    app.openapi = lambda: describe(app, service)
    return app


def _describe_state(state: ModelState) -> dict[str, str]:
    return {
        "name": state.name,
        "version": "" if state.version is None else str(state.version),
        "state": state.state,
        "reason": state.reason,
    }


_STATUS: dict[Any, int | None] = {
    RequestError: None,
    RequestValidationError: 400,
    HTTPException: None,
    ModelNotFound: 404,
    ModelNotReady: 503,
    ServerNotReady: 503,
}
_REASONS = {
    404: "There is no such route: see /openapi.json.",
    405: "The route does not answer this method: see /openapi.json.",
}


def _handler(status: int | None) -> Callable[[Request, Any], Awaitable[Response]]:
    async def handle(request: Request, error: Any) -> Response:
        code = status
        reason = "The request cannot be read: see the Open Inference Protocol."
        headers = {}
        if isinstance(error, RequestError):
            code, reason = error.status, error.reason
            if error.retry_after is not None:
                headers["retry-after"] = str(error.retry_after)
        elif isinstance(error, HTTPException):
            code = error.status_code
            reason = _REASONS.get(code, reason)
            headers = dict(error.headers or {})
        elif isinstance(error, ServerNotReady):
            reason = "The server is not ready: try again later."
        return JSONResponse({"error": reason}, code or 500, headers)

    return handle
