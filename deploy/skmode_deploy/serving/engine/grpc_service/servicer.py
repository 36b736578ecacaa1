"""The calls of the protocol."""

import contextvars
from typing import Any

from skmode_deploy.serving.engine.grpc_service import open_inference_grpc_pb2 as pb2
from skmode_deploy.serving.engine.grpc_service.messages import (
    check_fields,
    parse,
    read_message,
    write_message,
)
from skmode_deploy.serving.engine.grpc_service.open_inference_grpc_pb2_grpc import (
    GRPCInferenceServiceServicer,
)
from skmode_deploy.serving.engine.service import Service

# Name and version of the model that a call asks, for its metrics.
asked_model: contextvars.ContextVar[list[str]] = contextvars.ContextVar("asked_model")


class Servicer(GRPCInferenceServiceServicer):
    """Answer calls; whatever they raise, `CallGuard` tells the client."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ServerLive(self, request: Any, context: Any) -> Any:
        """Say that the server runs."""
        return pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        """Say whether requests should be sent here."""
        return pb2.ServerReadyResponse(ready=self._service.ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        """Describe the server."""
        return pb2.ServerMetadataResponse(**self._service.describe_server())

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Say that a model is ready; a model that is not raises an error."""
        self._service.get(request.name, request.version)
        return pb2.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Describe a model."""
        document = self._service.describe_model(request.name, request.version)
        return pb2.ModelMetadataResponse(**document)

    async def ModelInfer(self, request: bytes, context: Any) -> Any:
        """Answer a request, which is parsed when its turn has come."""
        check_fields(request)
        # Its first two fields are those of a ModelInferRequest.
        head = parse(pb2.ModelReadyRequest.FromString, request)
        loaded = self._service.get(head.name, head.version)
        asked_model.get()[:] = [loaded.served.name, str(loaded.served.version)]
        read = pb2.ModelInferRequest.FromString
        with self._service.admission.reserve(len(request)):
            return await self._service.infer(
                loaded, len(request), lambda: read_message(parse(read, request)), write_message
            )

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        """Load a model."""
        name = _managed_name(request)
        await self._service.load(name)
        return pb2.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        """Unload a model."""
        name = _managed_name(request)
        await self._service.unload(name)
        return pb2.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)


def _managed_name(request: Any) -> str:
    """Return the name in a request of KServe's clients, or of Triton's."""
    name: str = request.triton_model_name or request.model_name
    return name
