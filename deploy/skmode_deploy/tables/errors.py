"""Errors for tables and commands that are refused."""


class InputError(ValueError):
    """The rows are not what the model needs."""


class UsageError(ValueError):
    """A command, or one of its options, makes no sense."""
