"""The one exception that a user is meant to read."""


class InputError(ValueError):
    """Bad input or usage: one sentence that names the file and the remedy (exit code 2, no traceback)."""
