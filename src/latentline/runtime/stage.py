"""How every stage script runs: log, time, and say in one line what is wrong."""

import logging
import sys
import time
from collections.abc import Callable

from latentline.common.errors import UserError
from latentline.runtime.interrupt import InterruptedRunError
from latentline.runtime.timing import record_timing

_USER_ERROR_STATUS = 2
_SHOWN = 160  # characters of torch's own words
_REMEDY = "expected sizes that fit; lower its batch_size, the sizes of its network, or data.image_size"
_INTERRUPTED_STATUS = 130  # as a shell reports Ctrl-C; anything but 0, else DVC would record half a result


def run_stage(stage: str, main: Callable[[], None]) -> None:
    """Run ``main`` and exit non-zero with one readable line when the user, not the program, can mend it."""
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr)
    started = time.monotonic()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(_USER_ERROR_STATUS)
    except (InterruptedRunError, KeyboardInterrupt):
        print(f"{stage} was interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(_INTERRUPTED_STATUS)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print(f"error: {stage}: the memory of this machine is too small ({' '.join(str(error).split())[:_SHOWN]}); {_REMEDY}", file=sys.stderr)
        sys.exit(_USER_ERROR_STATUS)
    record_timing(stage, seconds=time.monotonic() - started)


def _is_out_of_memory(error: Exception) -> bool:
    """Torch has an error type of its own for it on a GPU, and none on the CPU."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate memory" in str(error)
