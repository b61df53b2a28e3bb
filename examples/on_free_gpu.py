"""Run a command on the first GPU that no other such command uses; wait while all are in use.

    python examples/on_free_gpu.py 0,1,2,3 dvc --wait-for-lock exp run --temp --set-param denoiser.epochs=30

Takes a GPU by locking the file LATENTLINE_GPU_LOCKS/gpu-0.lock of this machine; the folder is the system's temporary
one by default. The command inherits the lock, and the system releases it when the command ends, however it ends.
Nothing is left behind after a crash. The command sees its GPU as the only one, through CUDA_VISIBLE_DEVICES. For Linux
and macOS.
"""

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path

_SECONDS_BETWEEN_TRIES = 0.2


def take(gpu: str, folder: Path) -> bool:
    """Lock ``gpu`` for this process and the command that replaces it; return False if another process holds it."""
    file = os.open(folder / f"gpu-{gpu}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    os.set_inheritable(file, True)
    return True


def main(gpus: list[str], command: list[str]) -> None:
    """Replace this process by ``command`` on one of ``gpus``."""
    folder = Path(os.environ.get("LATENTLINE_GPU_LOCKS", tempfile.gettempdir()))
    while (free := next((gpu for gpu in gpus if take(gpu, folder)), None)) is None:
        time.sleep(_SECONDS_BETWEEN_TRIES)
    os.environ["CUDA_VISIBLE_DEVICES"] = free
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python examples/on_free_gpu.py GPU,GPU,... COMMAND ARGUMENT ...")
    main(sys.argv[1].split(","), sys.argv[2:])
