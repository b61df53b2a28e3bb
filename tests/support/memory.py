"""Peak memory of this process, for tests that something large is never in memory as a whole."""

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path


def peak_memory_mib(work: Callable[[], object]) -> float:
    """Return by how much the resident memory of this process grows during ``work``, mapped files included."""

    def status(name: str) -> float:
        return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    # Garbage of earlier tests, freed during the work, would hide what the work takes; so would a heap of freed pages.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status("VmRSS")
    work()
    return status("VmHWM") - before
