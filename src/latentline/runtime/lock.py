"""File lock that ends with its process."""

import fcntl
import os
from pathlib import Path

from latentline.core.errors import UserError


def lock(path: Path, owner: str) -> int:
    """Create and lock ``path``, and return a file descriptor.

    The lock holds until the descriptor is closed or the process ends in any way.

    Args:
        path: the lock file; its folder is created too.
        owner: what holds the lock, for the error message.

    Raises:
        UserError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UserError(
            f"{path} is locked: {owner} runs already; expected one process at a time; wait for it, or stop it"
        ) from None
    return descriptor
