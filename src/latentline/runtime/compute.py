"""Device, threads, memory and determinism."""

import ctypes
import os
import platform
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from latentline.core.errors import UserError

_IMAGE_AXES = 4  # (B, C, H, W)
_MEMORY_LIMIT = Path(
    "/sys/fs/cgroup/memory.max"
)  # of a container (Linux, control groups v2); a number of bytes, or "max"
M = TypeVar("M", bound=torch.nn.Module)
# mallopt's parameters (glibc's malloc.h): allocate everything on the heap, and never return its end
_MALLOC_SETTINGS = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 256 << 20)}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # scikit-learn and scipy read these


def set_up(device: str, threads: int, deterministic: bool = True) -> torch.device:
    """Fix the thread count, select the algorithms, and return the device.

    Args:
        device: ``auto`` (cuda, else mps, else cpu), ``cpu``, ``cuda`` or ``mps``.
        threads: CPU threads. Exact bytes depend on it, so the machine does not decide it.
        deterministic: whether a GPU repeats its bytes, attention included; False = its fastest algorithms. The CPU
            always repeats them.

    Raises:
        UserError: this machine has no such device.
    """
    chosen = _device(device)
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    _keep_freed_memory()
    torch.set_num_threads(threads)
    if deterministic or chosen.type == "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS picks algorithms by free memory
        os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # read when torch first compiles
        # torch.use_deterministic_algorithms sets the same, but imports the compiler: a second of each stage's start.
        # "error" and not "warn", with which attention on CUDA takes its fastest algorithm.
        torch.set_deterministic_debug_mode("error")
        # Filling would write each new tensor twice, and none is read before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    else:
        torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = not deterministic
    torch.set_flush_denormal(True)  # numbers near zero would cost a hundred times the rest on some CPUs
    return chosen


def has_device(device: str) -> bool:
    """Return whether this machine has a device for that value of ``compute.device``."""
    if device == "cuda":
        return torch.cuda.is_available()
    return device != "mps" or torch.backends.mps.is_available()


def _device(device: str) -> torch.device:
    if not has_device(device):
        raise UserError(
            f"compute.device ({device}) must be a device of this machine that torch {torch.__version__} can use; "
            "set it to auto or cpu, or install the device's driver and a torch built for it"
        )
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if has_device(name))
    return torch.device(device)


def to_device(module: M, device: torch.device) -> M:
    """Move a network to the device, in the memory layout in which its convolutions and norms are fastest there.

    On the CPU this is channels-last. CUDA's GroupNorm makes its input contiguous, which costs a copy of each
    channels-last map, so there only networks with BatchNorm are channels-last. On MPS all are contiguous.
    """
    return module.to(device).to(memory_format=_layout(module, device))


def channels_last(x: Tensor) -> Tensor:
    """Return maps (B, C, H, W) on the CPU in the channels-last layout of :func:`to_device`, and all else contiguous."""
    wanted = x.ndim == _IMAGE_AXES and x.device.type == "cpu"
    return x.contiguous(memory_format=torch.channels_last if wanted else torch.contiguous_format)


def _layout(module: torch.nn.Module, device: torch.device) -> torch.memory_format:
    keeps = any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
    kept = device.type == "cpu" or (device.type == "cuda" and keeps)
    return torch.channels_last if kept else torch.contiguous_format


def pinned(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU in memory from which it is copied to ``device`` without waiting (non_blocking).

    The CPU and MPS share one memory and need none; the meta device has no memory.
    """
    return x if device.type in ("cpu", "mps", "meta") else x.pin_memory()


def memory_bytes(device: torch.device) -> int:
    """Return the bytes of the device's memory; on the CPU the machine's, or the limit of this process's container."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _MEMORY_LIMIT.read_text().strip() if _MEMORY_LIMIT.is_file() else "max"
    return min(machine, int(limit)) if limit.isdecimal() else machine


def gpu_name(device: torch.device) -> str | None:
    """Return what a GPU calls itself, such as ``NVIDIA A100-SXM4-80GB``; None of other devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def peak_memory_mib(device: torch.device) -> float | None:
    """Return the most MiB that tensors took of the GPU since :func:`reset_peak_memory`; None of other devices."""
    return torch.cuda.max_memory_allocated(device) / (1 << 20) if device.type == "cuda" else None


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure the peak of the GPU's memory again; of other devices none is measured."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_count(device: torch.device) -> int | None:
    """Return how many devices of that type this machine has; None = no limit, since processes share a CPU."""
    if device.type == "cuda":
        return torch.cuda.device_count()
    return None if device.type == "cpu" else 1


def host_buffer(like: Tensor) -> Tensor:
    """Return an empty, contiguous tensor like ``like`` in ordinary memory; page-locked where ``like`` is on a GPU."""
    return torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=like.is_cuda)


def synchronize() -> None:
    """Wait until the GPU, if this process uses one, has done all that was asked of it."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _keep_freed_memory() -> None:
    """Stop glibc from returning large freed tensors to the kernel, since the next step faults their pages in again.

    On two CPU cores a small U-Net trains up to 1.4 times as fast.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in _MALLOC_SETTINGS.values():
            libc.mallopt(parameter, value)
