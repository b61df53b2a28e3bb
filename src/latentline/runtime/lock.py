"""One process at a time."""

import fcntl
import os
from pathlib import Path

from latentline.core.errors import UserError


def lock(path: Path, owner: str) -> int:
    """Lock ``path``, which is created. Returns a file descriptor: the lock holds until that is closed or this process ends, however it ends.

    Raises:
        UserError: another process holds it; ``owner`` says what that is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UserError(f"{path} is locked: {owner} runs already; expected one process at a time; wait for it, or stop it") from None
    return descriptor
