"""Why a table is not read or written."""


class InputError(ValueError):
    """The rows are not what the model needs."""


class UsageError(ValueError):
    """A command, or an option of it, makes no sense."""
