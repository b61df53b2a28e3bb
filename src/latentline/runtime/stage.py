"""How every stage script runs: log, time, and say in one line what is wrong."""

import errno
import logging
import os
import sys
import time
from collections.abc import Callable

from latentline.common.errors import UserError
from latentline.runtime.interrupt import InterruptedRunError
from latentline.runtime.timing import record_timing

_USER_ERROR_STATUS = 2
_SHOWN = 160  # characters of torch's own words
_REMEDY = "expected sizes that fit; lower its batch_size, the sizes of its network, or data.image_size"
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_INTERRUPTED_STATUS = 130  # as a shell reports Ctrl-C; anything but 0, else DVC would record half a result


def run_stage(stage: str, main: Callable[[], None]) -> None:
    """Run ``main`` and exit non-zero with one readable line when the user, not the program, can mend it."""
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr)
    started = time.monotonic()
    try:
        main()
        record_timing(stage, seconds=time.monotonic() - started)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(_USER_ERROR_STATUS)
    except (InterruptedRunError, KeyboardInterrupt):
        print(f"{stage} was interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(_INTERRUPTED_STATUS)
    except Exception as error:
        said = " ".join(str(error).split())[:_SHOWN]
        if _is_out_of_memory(error):
            print(f"error: {stage}: the memory of this machine is too small ({said}); {_REMEDY}", file=sys.stderr)
        elif _is_out_of_room(error):
            print(
                f"error: {stage}: the disk is full ({said}); expected room for outs and .state; make room and run the same command again to continue",
                file=sys.stderr,
            )
        else:
            raise
        sys.exit(_USER_ERROR_STATUS)


def _is_out_of_memory(error: Exception) -> bool:
    """Torch has an error type of its own for it on a GPU, and none on the CPU."""
    said = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said.lower() or "can't allocate memory" in said)
    )


def _is_out_of_room(error: Exception) -> bool:
    """Safetensors has an error type of its own for it, with no number in it but with the system's words."""
    return any(words in str(error) for words in _FULL)
