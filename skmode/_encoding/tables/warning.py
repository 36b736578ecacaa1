"""Warn of what is in a table, at the line of the user's that passed it."""

import inspect
import warnings

LIBRARIES = ("skmode.", "sklearn.")


def warn_user(message: str) -> None:
    """Warn at the first line outside of skmode and scikit-learn, whose decorators call `fit`."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith(LIBRARIES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level + 1)
