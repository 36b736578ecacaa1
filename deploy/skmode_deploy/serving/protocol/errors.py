"""Refusals: why a client gets no result."""

from typing import Any, Literal

import orjson

MAX_SHOWN_CHARACTERS = 80
# What turns requests away before they compute, as the metrics name it.
Limit = Literal["body_size", "deadline", "header", "memory", "queue_full", "slow", "unauthorized"]


class RequestError(Exception):
    """A request is refused, and the client is told why."""

    def __init__(
        self,
        reason: str,
        status: int = 400,
        retry_after: int | None = None,
        limit: Limit | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status  # code of HTTP
        self.retry_after = retry_after  # seconds
        self.limit = limit  # which limit was exceeded, if one was


def is_openai(path: str) -> bool:
    """Say whether a path is of OpenAI's protocol."""
    return path.startswith("/v1/")


def openai_error(reason: str, status: int) -> dict[str, Any]:
    """Write a refusal as clients of OpenAI's protocol read it."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": reason, "type": kind, "param": None, "code": None}}


def shorten(value: object) -> str:
    """Quote as JSON what a client sent, cut where it is long."""
    try:
        text: str = orjson.dumps(value).decode()
    except TypeError:
        text = "a value"
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "..."
