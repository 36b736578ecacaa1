"""Logs as lines of JSON: what happened to which request, without any of its values."""

import json
import logging
import sys
import time
from typing import Any

import orjson

# Attributes that every record has: all others were passed as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Write a record as one line of JSON, with the fields of its ``extra``.

    Examples
    --------
    >>> import logging
    >>> from skmode_deploy.serving.observe.logs import JsonFormatter
    >>> record = logging.makeLogRecord({"msg": "request", "code": 200, "created": 0.0})
    >>> JsonFormatter().format(record)
    '{"time":"1970-01-01T00:00:00.000Z","level":"info","message":"request","code":200}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.created * 1000) % 1000:03d}Z",
            "level": (record.levelname if record.levelno else "info").lower(),
            "message": record.getMessage(),
        }
        fields = vars(record)
        line |= {key: fields[key] for key in fields if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            text: str = orjson.dumps(line, default=str).decode()
        except TypeError:  # file names may hold bytes that are not UTF-8
            text = json.dumps(line, default=str)
        return text


def configure_logs(level: str) -> None:
    """Write the logs of this program and of its libraries to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # Names of process, thread and task are not written: do not spend time on them per request.
    logging.logProcesses = logging.logThreads = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined, unused-ignore]
    logging.getLogger("skmode_deploy").setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    # Each request has a line of our own already.
    logging.getLogger("uvicorn.access").disabled = True
