"""Refusals: why a client gets no result."""

import orjson

MAX_SHOWN_CHARACTERS = 80


class RequestError(Exception):
    """A request is refused, and the client is told why."""

    def __init__(
        self, reason: str, status: int = 400, retry_after: int | None = None, limit: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status  # code of HTTP
        self.retry_after = retry_after  # seconds
        self.limit = limit  # which limit was exceeded, as the metrics name it; "" if none was


def shorten(value: object) -> str:
    """Quote as JSON what a client sent, cut where it is long."""
    try:
        text: str = orjson.dumps(value).decode()
    except TypeError:
        text = "a value"
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "..."
