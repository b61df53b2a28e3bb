"""Speeds and memory in metrics/timing.json. The file is an out of no stage, since its values differ from run to run."""

import resource
import sys
from pathlib import Path

from latentline.core.errors import UserError
from latentline.core.files import read_json, write_json

_FILE = Path("metrics/timing.json")


def record_timing(stage: str, **values: float | None) -> None:
    """Set ``values`` (rounded; None = unknown) and the peak memory of this process under ``stage``."""
    timings = _recorded(stage)
    rounded = {name: _rounded(value) for name, value in values.items()}
    write_json(
        _FILE, {**timings, stage: {**timings.get(stage, {}), **rounded, "peak_memory_mib": round(_peak_memory_mib())}}
    )


def _rounded(value: float | None) -> float | None:
    """Round to one decimal, and numbers below 1 to three digits."""
    return value if value is None else round(value, 1) if abs(value) >= 1 else float(f"{value:.3g}")


def _recorded(stage: str) -> dict[str, dict[str, float | None]]:
    """Return the content of the file. A damaged file counts as empty, since it must not cost a training."""
    try:
        timings = read_json(_FILE, stage) if _FILE.exists() else {}
    except UserError:
        return {}
    intact = isinstance(timings, dict) and all(isinstance(values, dict) for values in timings.values())
    return timings if intact else {}


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)  # bytes on macOS, KiB elsewhere
