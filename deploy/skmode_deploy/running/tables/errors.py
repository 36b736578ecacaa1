"""Errors for invalid tables and commands."""


class InputError(ValueError):
    """The rows are not what the model needs."""


class UsageError(ValueError):
    """A command or one of its options is invalid."""
