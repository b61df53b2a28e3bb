"""How every stage script runs: log, time, and say in one line what is wrong."""

import logging
import sys
import time
from collections.abc import Callable

from latentline.common.errors import UserError
from latentline.runtime.interrupt import InterruptedRunError
from latentline.runtime.timing import record_timing

_USER_ERROR_STATUS = 2
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
    record_timing(stage, seconds=time.monotonic() - started)
