"""The one error type that a user is meant to read."""


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, its value, what was expected, and the remedy.

    Stages print it without a traceback and exit with status 2 (see ``runtime.stage``).
    """
