"""Make forks safe: a child opens its own sessions, and forks wait while a session opens."""

import ctypes
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

# A fork waits for sessions that are opening, but not forever: it may run in a signal handler that
# interrupted the opening itself.
MAX_WAIT_BEFORE_FORK = 10.0  # seconds


def abandon(session: Any) -> None:
    """Keep a parent's session alive in a child forever.

    Its threads do not exist in the child, and its locks may be held by such threads, so closing it
    could block forever.
    """
    if session is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


class ForkAware(Protocol):
    """Holds sessions or locks, which a forked child must not use."""

    def reset_after_fork(self) -> None:
        """Drop the sessions and locks of the parent."""


_owners: "weakref.WeakSet[ForkAware]" = weakref.WeakSet()
_state = threading.Condition()
_n_opening = 0


def after_fork_in_child(owner: ForkAware) -> None:
    """Call `owner.reset_after_fork()` in every forked child."""
    _owners.add(owner)


@contextmanager
def no_fork() -> Iterator[None]:
    """Delay forks while a session opens: onnxruntime holds locks of the process meanwhile."""
    global _n_opening
    with _state:
        _n_opening += 1
    try:
        yield
    finally:
        with _state:
            _n_opening -= 1
            _state.notify_all()


def _before_fork() -> None:
    _state.acquire()
    _state.wait_for(lambda: _n_opening == 0, timeout=MAX_WAIT_BEFORE_FORK)


def _after_fork_in_parent() -> None:
    _state.release()


def _after_fork_in_child() -> None:
    global _state, _n_opening
    _state = threading.Condition()
    _n_opening = 0
    for owner in list(_owners):
        owner.reset_after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
