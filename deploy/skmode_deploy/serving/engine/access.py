"""Who may ask for what, by REST and by gRPC: bearer tokens and management."""

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
    """Refuse requests without a token, and those that manage models; callers say which are open."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = None if settings.token_file is None else Tokens(settings.token_file)
        self._management = settings.management
        self.needs_token = self._tokens is not None

    def check_token(self, authorization: str, protocol: Literal["rest", "grpc"]) -> None:
        """Refuse a request that has no good token."""
        if self._tokens is not None and not self._tokens.allow(authorization):
            raise RequestError(_NO_TOKEN[protocol], 401, limit="unauthorized")

    def check_management(self) -> None:
        """Refuse a request that would load or unload models, unless the server allows that."""
        if not self._management:
            raise RequestError(
                "The repository may not be managed by requests: start the server with "
                "--management, or change the folder of the models.",
                403,
            )
