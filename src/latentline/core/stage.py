"""How every stage script runs: log, time, and say in one line what is wrong."""

import errno
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from latentline.core.errors import UserError
from latentline.core.interrupt import InterruptedRunError, LostRankError
from latentline.core.timing import record_timing

_USER_ERROR_STATUS = 2
_SHOWN = 160  # characters of torch's own words
_REMEDY = "expected sizes that fit; lower its batch_size, the sizes of its network, or data.image_size"
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_LOST_STATUS = 3
_LAG = 2.0  # seconds in which the first process of a machine says what the others would say too, and ends them
_INTERRUPTED_STATUS = 130  # as a shell reports Ctrl-C; anything but 0, else DVC would record half a result


def run_stage(stage: str, main: Callable[[], None]) -> None:
    """Run ``main`` and exit non-zero with one readable line when the user, not the program, can mend it."""
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr)
    started = time.monotonic()
    try:
        main()
        record_timing(stage, seconds=time.monotonic() - started)
    except UserError as error:
        _fail(f"error: {error}", _USER_ERROR_STATUS)
    except LostRankError as error:
        _fail(f"error: {stage}: {error}; run the same command again to continue from the state saved last", _LOST_STATUS)
    except (InterruptedRunError, KeyboardInterrupt):
        _fail(f"{stage} was interrupted; run the same command again to continue", _INTERRUPTED_STATUS)
    except Exception as error:
        said = " ".join(str(error).split())[:_SHOWN]
        if _is_out_of_memory(error):
            _fail(f"error: {stage}: the memory of this machine is too small ({said}); {_REMEDY}", _USER_ERROR_STATUS)
        if _is_out_of_room(error):
            room = "expected room for outs and .state; make room and run the same command again to continue"
            _fail(f"error: {stage}: the disk is full ({said}); {room}", _USER_ERROR_STATUS)
        raise


def _fail(line: str, status: int) -> NoReturn:
    """Say it and exit. Of several processes on one machine all but the first hold back: most often it says the same, and stops them."""
    if os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) != "0":
        time.sleep(_LAG)
    print(line, file=sys.stderr)
    sys.exit(status)


def _is_out_of_memory(error: Exception) -> bool:
    """Torch has an error type of its own for it on a GPU, and none on the CPU."""
    said = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said.lower() or "can't allocate memory" in said)
    )


def _is_out_of_room(error: Exception) -> bool:
    """Safetensors has an error type of its own for it, with no number in it but with the system's words."""
    return any(words in str(error) for words in _FULL)
