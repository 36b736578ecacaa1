"""Make the server of gRPC."""

from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from skmode_deploy.serving.engine.grpc_service.guard import CallGuard, largest_message
from skmode_deploy.serving.engine.grpc_service.open_inference_grpc_pb2_grpc import (
    add_GRPCInferenceServiceServicer_to_server,
)
from skmode_deploy.serving.engine.grpc_service.servicer import Servicer
from skmode_deploy.serving.engine.service import Service
from skmode_deploy.serving.settings import Settings


def make_grpc_server(service: Service) -> Any:
    """Make a server; it does not listen yet."""
    settings = service.settings
    server = aio.server(
        interceptors=(CallGuard(service),),
        options=[
            ("grpc.max_receive_message_length", largest_message(settings)),
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
    add_GRPCInferenceServiceServicer_to_server(Servicer(service), server)
    _bind(server, settings)
    return server


def _bind(server: Any, settings: Settings) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    if settings.tls_cert is None or settings.tls_key is None:
        server.add_insecure_port(address)
        return
    pair = (Path(settings.tls_key).read_bytes(), Path(settings.tls_cert).read_bytes())
    server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
