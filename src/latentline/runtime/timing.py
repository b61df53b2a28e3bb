"""Speeds and memory: metrics/timing.json, which no stage's outs contain, since they differ from run to run."""

import resource
import sys
from pathlib import Path

from latentline.common.errors import UserError
from latentline.common.files import read_json, write_json

_FILE = Path("metrics/timing.json")


def record_timing(stage: str, **values: float) -> None:
    """Set ``values`` (rounded) and the peak memory of this process under ``stage``."""
    try:
        timings = read_json(_FILE, stage) if _FILE.exists() else {}
    except UserError:
        timings = {}  # half a file of speeds is no reason to lose a training
    rounded = {name: round(value, 1) for name, value in values.items()}
    write_json(_FILE, {**timings, stage: {**timings.get(stage, {}), **rounded, "peak_memory_mib": round(_peak_memory_mib())}})


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)  # bytes on macOS, KiB elsewhere
