"""The machine: device, threads, memory, determinism."""

import ctypes
import os
import platform
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

_MAPS = 4  # axes of a batch of them
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container (Linux, control groups v2); a number of bytes, or "max"
M = TypeVar("M", bound=torch.nn.Module)
# mallopt's parameters (glibc's malloc.h): serve everything from the heap, and never give its end back
_MALLOC_SETTINGS = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 256 << 20)}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # scikit-learn and scipy read these


def set_up(device: str, threads: int) -> torch.device:
    """Fix the thread count, ask for deterministic algorithms, and pick the device.

    Args:
        device: ``auto`` (cuda, else mps, else cpu), ``cpu``, ``cuda`` or ``mps``.
        threads: CPU threads; exact bytes depend on it, so it never comes from the machine.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may pick algorithms by free memory
    _keep_freed_memory()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling new tensors would write each twice, and none is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_flush_denormal(True)  # numbers near zero would cost a hundred times the rest on some CPUs
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def place(module: M, device: torch.device) -> M:
    """Move to the device, channels last: the layout in which CPU and GPU convolutions are fastest."""
    return module.to(device).to(memory_format=torch.channels_last)


def fast_layout(x: Tensor) -> Tensor:
    """Maps (B, C, H, W) channels last, the layout in which :func:`place` keeps the networks; vectors (B, D) as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == _MAPS else x.contiguous()


def memory_bytes(device: torch.device) -> int:
    """All memory of the device; on the CPU the machine's, or less where this process runs in a container with a limit."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _MEMORY_LIMIT.read_text().strip() if _MEMORY_LIMIT.is_file() else "max"
    return min(machine, int(limit)) if limit.isdecimal() else machine


def devices_there(device: torch.device) -> int | None:
    """How many devices of that kind this machine has; None = as many as one likes, since a CPU is shared."""
    if device.type == "cuda":
        return torch.cuda.device_count()
    return None if device.type == "cpu" else 1


def _keep_freed_memory() -> None:
    """Stop glibc from handing every large freed tensor back to the kernel, only to fault its pages in again at the next step.

    On two CPU cores a small U-Net trains up to 1.4 times as fast for it.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in _MALLOC_SETTINGS.values():
            libc.mallopt(parameter, value)
