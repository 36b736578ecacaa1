"""Hide what other libraries say while they work for us, and nothing of other threads.

`warnings.catch_warnings` and `contextlib.redirect_stdout` change the whole process: meanwhile they
hide what other threads say, and at the end they undo what these changed. Here only messages of the
own context are hidden, and only the own change is undone.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

_hidden: ContextVar[bool] = ContextVar("_hidden", default=False)


class _InThisContext:
    """Matches warnings and log records of contexts in which messages are hidden."""

    def __init__(self, message: str = "") -> None:
        # scikit-learn makes the filters of its workers from it. They hide the warnings of the step.
        self.pattern = message

    def match(self, text: str) -> bool:
        """Stand for the pattern of a filter of warnings."""
        return _hidden.get() and re.match(self.pattern, text) is not None

    def filter(self, record: logging.LogRecord) -> bool:
        """Stand for a filter of a logger, which keeps what is not hidden."""
        return not _hidden.get()


class _Output:
    """Standard output without what is written in contexts in which messages are hidden."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if _hidden.get() else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def hide_warnings(message: str = "") -> Iterator[None]:
    """Hide the warnings of the block whose text begins as this regular expression says."""
    hidden: Any = ("ignore", _InThisContext(message), Warning, None, 0)
    filters: Any = warnings.filters
    token = _hidden.set(True)
    filters.insert(0, hidden)
    try:
        yield
    finally:
        _hidden.reset(token)
        # Another thread may have exchanged the list in the meantime. An entry that is left in a
        # list hides nothing.
        now: Any = warnings.filters
        for each in (filters, now):
            with contextlib.suppress(ValueError):
                each.remove(hidden)


@contextlib.contextmanager
def hide_records(logger: logging.Logger) -> Iterator[None]:
    """Hide what the block logs directly to a logger."""
    token = _hidden.set(True)
    # A filter of its own, because a logger keeps only one of several equal ones.
    own = _InThisContext()
    logger.addFilter(own)
    try:
        yield
    finally:
        _hidden.reset(token)
        logger.removeFilter(own)


@contextlib.contextmanager
def hide_output() -> Iterator[None]:
    """Hide what the block prints."""
    before = sys.stdout
    token = _hidden.set(True)
    sys.stdout = _Output(before)
    own = sys.stdout
    try:
        yield
    finally:
        _hidden.reset(token)
        if sys.stdout is own:
            sys.stdout = before
