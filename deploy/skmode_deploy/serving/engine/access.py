"""Who may ask for what: bearer tokens and management, alike for REST and gRPC."""

from typing import Literal

from skmode_deploy.serving.protocol.errors import RequestError
from skmode_deploy.serving.settings import Settings
from skmode_deploy.serving.transport.tokens import Tokens

_NO_TOKEN = {
    "rest": "The header Authorization must hold a token of this server, got none or another: send "
    "`Authorization: Bearer TOKEN`.",
    "grpc": "The metadata must hold a token of this server as authorization, got none or another: "
    "send `Bearer TOKEN`.",
}


class Access:
    """Refuse requests without a token, and those that would load or unload models."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = None if settings.token_file is None else Tokens(settings.token_file)
        self._management = settings.management

    def check(
        self,
        authorization: str,
        protocol: Literal["rest", "grpc"],
        *,
        is_health: bool,
        is_management: bool,
    ) -> None:
        """Refuse a request that may not be made; the server's own health is open to everybody."""
        if not (self._tokens is None or is_health or self._tokens.allow(authorization)):
            raise RequestError(_NO_TOKEN[protocol], 401, limit="unauthorized")
        if is_management and not self._management:
            raise RequestError(
                "The repository may not be managed by requests: start the server with "
                "--management, or change the folder of the models.",
                403,
            )
