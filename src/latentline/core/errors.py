"""The error type whose message is written for the user."""


class UserError(ValueError):
    """Bad input. The message is one line: ``SETTING (VALUE) must be EXPECTED; REMEDY``.

    Stages print it without a traceback and exit with status 2 (``core/stage.py``).
    """
