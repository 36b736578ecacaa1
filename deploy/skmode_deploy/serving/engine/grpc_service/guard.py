"""What every call by gRPC passes: access, limits, request ids, metrics, logs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from skmode_deploy.serving.engine.access import Access
from skmode_deploy.serving.engine.grpc_service.messages import parse
from skmode_deploy.serving.engine.grpc_service.servicer import asked_model
from skmode_deploy.serving.engine.request_log import log_defect, log_request
from skmode_deploy.serving.engine.service import Service
from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.protocol.request_ids import HEADER, choose_request_id
from skmode_deploy.serving.settings import Settings

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
_INFER = "ModelInfer"
_HEALTH = ("ServerLive", "ServerReady")
_MANAGEMENT = ("RepositoryModelLoad", "RepositoryModelUnload")


class CallGuard(aio.ServerInterceptor):
    """Check access, count, log, and say why a call is refused."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings
        self._access = Access(settings)
        # A message is in memory before it can be checked, so only this many may arrive at once.
        self._room = asyncio.Semaphore(
            max(1, settings.max_pending_bytes // largest_message(settings))
        )

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Guard a method.

        It becomes one with a stream of requests, of which there is one: grpc calls such a method
        before it receives the message.
        """
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        name = handler_call_details.method.rpartition("/")[2]
        metadata = dict(handler_call_details.invocation_metadata or ())

        async def respond(requests: AsyncIterator[bytes], context: Any) -> Any:
            if name == _INFER:
                async with self._room:
                    return await handler.unary_unary(await self._receive(requests), context)
            message = await self._receive(requests)
            return await handler.unary_unary(parse(handler.request_deserializer, message), context)

        async def call(requests: AsyncIterator[bytes], context: Any) -> Any:
            return await self._call(name, metadata, respond, requests, context)

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
        start = time.perf_counter()
        asked = ["", ""]
        asked_model.set(asked)
        request_id = choose_request_id(str(metadata.get(HEADER, "")))
        context.set_trailing_metadata(((HEADER, request_id),))
        code, refusal = grpc.StatusCode.OK, ""
        response = None
        try:
            self._check(name, metadata)
            # Once for the message to arrive, and once for the service, which has its own deadline.
            async with asyncio.timeout(2 * self._service.settings.deadline):
                response = await method(aiter(requests), context)
        except asyncio.CancelledError:  # the client does not wait any more
            code = grpc.StatusCode.CANCELLED
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
        finally:
            self._record(name, asked, code.name, request_id, time.perf_counter() - start)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, refusal)
        return response

    def _check(self, name: str, metadata: dict[str, Any]) -> None:
        if name not in _HEALTH:
            self._access.check_token(str(metadata.get("authorization", "")), "grpc")
        if name in _MANAGEMENT:
            self._access.check_management()

    def _record(
        self, name: str, asked: list[str], code: str, request_id: str, seconds: float
    ) -> None:
        """Count and log a call."""
        model, version = asked
        if name == _INFER:
            self._service.metrics.requested(model, version, "grpc", code, seconds)
        log_request(request_id, "grpc", name, model, version, code, seconds)


def largest_message(settings: Settings) -> int:
    """Say how many bytes a message may have."""
    return min(settings.max_body_bytes, settings.max_grpc_message_bytes)
