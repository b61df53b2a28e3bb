"""Runner of every stage script: logging, timing, and errors as one line."""

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError, LostRankError
from latentline.core.timing import record_timing

_USER_ERROR_STATUS = 2
_MAX_CHARS = 160  # of torch's own error messages
_SMALLER = "lower its batch_size, the sizes of its network, or data.image_size"
_SMALLER_BATCH = (
    "raise {0}.optimizer.accumulate{1}, or lower {0}.optimizer.batch_size, the sizes of the network, or data.image_size"
)
_LESS_MEMORY = {  # stage -> what makes it need less
    "download": "lower compute.workers, data.limit or data.image_size",
    "train_feature_extractor": _SMALLER_BATCH.format("feature_extractor", ""),
    "train_autoencoder": _SMALLER_BATCH.format("autoencoder", " (on several GPUs also compute.devices)"),
    "train_denoiser": _SMALLER_BATCH.format("denoiser", " (on several GPUs also compute.devices)"),
    "encode_and_cache_latents": "lower the sizes of the autoencoder or data.image_size, or set compute.device to cpu",
    "sample": "lower sample.batch_size",
    "train_latent_classifiers": "lower latent_classifiers.train_count",
    "evaluate": "lower evaluate.max_images or evaluate.pair_count, or set compute.device to cpu",
    "manipulate": "lower manipulate.count, or set compute.device to cpu",
}
_ROOM = "make room and run the same command again to continue"
_AGAIN = "run the same command again to continue"
_DISK_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_LOST_STATUS = 3
_LAG = 2.0  # seconds; until then the first process of a machine prints the error and ends the others
_INTERRUPTED_STATUS = 130  # as a shell reports Ctrl-C; anything but 0, else DVC would record half a result


def run_stage(stage: str, main: Callable[[], None]) -> None:
    """Run ``main``. After an error that the user can mend, print one line and exit with a non-zero status."""
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr)
    threading.excepthook = partial(_end_by_thread, stage)
    started = time.monotonic()
    try:
        main()
        record_timing(stage, seconds=time.monotonic() - started)
    except UserError as error:
        _fail(f"error: {error}", _USER_ERROR_STATUS)
    except LostRankError as error:
        _fail(_lost_line(stage, error), _LOST_STATUS)
    except (InterruptedRunError, KeyboardInterrupt):
        _fail(f"{stage} was interrupted; {_AGAIN}", _INTERRUPTED_STATUS)
    except Exception as error:
        message = " ".join(str(error).split())[:_MAX_CHARS]
        if _is_out_of_memory(error):
            remedy = _LESS_MEMORY.get(stage, _SMALLER)
            _fail(f"error: {stage}: this machine has too little memory ({message}); {remedy}", _USER_ERROR_STATUS)
        if "does not have a deterministic implementation" in message:
            operation = message.partition(",")[0]
            _fail(f"error: {stage}: {operation}; set compute.deterministic to false", _USER_ERROR_STATUS)
        if _is_disk_full(error):
            _fail(f"error: {stage}: the disk is full ({message}); {_ROOM}", _USER_ERROR_STATUS)
        raise


def _lost_line(stage: str, error: BaseException) -> str:
    return f"error: {stage}: {error}; {_AGAIN} from the state saved last"


def _end_by_thread(stage: str, raised: threading.ExceptHookArgs) -> None:
    """End the process at once if a thread has noticed that another process has ended: the main thread may hang."""
    if isinstance(raised.exc_value, LostRankError):
        _print(_lost_line(stage, raised.exc_value))
        os._exit(_LOST_STATUS)
    threading.__excepthook__(raised)


def _fail(line: str, status: int) -> NoReturn:
    """Print the line and exit."""
    _print(line)
    sys.exit(status)


def _print(line: str) -> None:
    """Print the line.

    On each machine all processes but the first wait before, since the first usually prints the same and ends them.
    """
    if os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) != "0":
        time.sleep(_LAG)
    print(line, file=sys.stderr, flush=True)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out. Torch has an error type of its own for this on a GPU, and none on CPU and MPS."""
    message = str(error)
    words = ("out of memory" in message.lower(), "can't allocate memory" in message, "_ALLOC_FAILED" in message)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(words))


def _is_disk_full(error: Exception) -> bool:
    """Return whether the disk is full. Safetensors' own error type holds the system's message, not its number."""
    return any(message in str(error) for message in _DISK_FULL)
