"""A line of the log for each request, and one for each that this program failed at."""

import logging
import traceback

LOGGER = logging.getLogger("skmode_deploy.serving")
# A client chooses the path, and a deep traceback of a defect is cut: no line of the log gets long.
MAX_PATH = 300
MAX_FRAMES = 8


def log_request(
    request_id: str,
    protocol: str,
    method: str,
    model: str,
    version: str,
    code: str | int,
    seconds: float,
    path: str | None = None,
) -> None:
    """Log a request, without any of its values."""
    if not LOGGER.isEnabledFor(logging.INFO):
        return
    fields = {"request_id": request_id, "protocol": protocol, "method": method}
    if path is not None:
        fields["path"] = path[:MAX_PATH]
    more = {"code": code, "milliseconds": round(seconds * 1000, 3)}
    LOGGER.info("request", extra={**fields, "model": model, "version": version, **more})


def log_defect(error: Exception, request_id: str) -> None:
    """Log where this program failed, but not the message: that may quote what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    LOGGER.error(
        "defect",
        extra={
            "request_id": request_id,
            "error": type(error).__name__,
            "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        },
    )
