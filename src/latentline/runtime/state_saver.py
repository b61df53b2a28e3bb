"""Saving of a running training: seldom, and mostly in a thread while the training goes on."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from latentline.runtime.compute import host_buffer, synchronize
from latentline.runtime.parallel import SINGLE_PROCESS, Ranks
from latentline.runtime.resume import ResumeFile

_SPACING = 50  # times the last save's cost: the least time between two saves, so that all cost at most 1/50 = 2 %
State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and JSON."""
Capture = Callable[[], State]
"""Returns the state of the training as it is; its tensors may be those that train on. All ranks must call it."""


class StateSaver:
    """Saves the states of one training on rank 0. All ranks must call the methods that take a ``capture``.

    :meth:`save` copies the state and returns; one thread hashes the copy and writes it, whole or not at all. The copy
    takes as much ordinary memory as the state. It stays for the next save, page-locked if the state is on a GPU.
    The block does not end before the write under way has ended.

    Args:
        file: where states are stored.
        every_seconds: least time between two saves; longer where a save costs more than 2 % of it.
        ranks: the processes that train together.
    """

    def __init__(self, file: ResumeFile, every_seconds: float, ranks: Ranks = SINGLE_PROCESS) -> None:
        self._file, self._every_seconds, self._ranks = file, every_seconds, ranks
        self._thread = ThreadPoolExecutor(1, "save")
        self._write: Future[float] | None = None
        self._copies: dict[str, Tensor] = {}
        self._cost = 0.0  # seconds that the last save took from the training
        self._last_save = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()

    def due(self) -> bool:
        """Return whether to save now; never on ranks other than 0, and never while a write is under way.

        Raises:
            OSError, SafetensorError: the last write has failed; the state before it is still there.
        """
        if not self._ranks.is_main or (self._write and not self._write.done()):
            return False
        self._wait()
        return time.monotonic() - self._last_save > max(self._every_seconds, _SPACING * self._cost)

    def save(self, capture: Capture) -> None:
        """Copy the state, and let the thread replace the `running` one by the copy."""
        self._wait()
        synchronize()  # else the clock would count the steps that are still queued on the GPU
        started = time.monotonic()
        tensors, meta = capture()
        if not self._ranks.is_main:
            return
        devices = {torch.device(self._ranks.device).type, *(tensor.device.type for tensor in tensors.values())}
        copies = self._copied(tensors)
        self._write = self._thread.submit(self._written, copies, meta, counted=devices == {"cpu"})
        self._last_save = time.monotonic()
        self._cost = self._last_save - started

    def save_and_wait(self, capture: Capture) -> None:
        """Replace the `running` state before this returns."""
        self._wait_and_write(self._file.save, capture)

    def save_extension_point(self, capture: Capture) -> None:
        """Replace the `kept` state, from which a run of more epochs starts, before this returns."""
        self._wait_and_write(self._file.save_extension_point, capture)

    def save_at_finish(self, capture: Capture) -> None:
        """Save the last state: see :meth:`ResumeFile.save_at_finish`."""
        self._wait_and_write(self._file.save_at_finish, capture)

    def _wait_and_write(self, write: Callable[[dict[str, Tensor], dict[str, Any]], None], capture: Capture) -> None:
        """Write the state from this thread; tensors in ordinary memory are not copied."""
        self._wait()
        tensors, meta = capture()
        if self._ranks.is_main:
            on_device = self._copied({name: tensor for name, tensor in tensors.items() if tensor.device.type != "cpu"})
            write(tensors | on_device, meta)
            self._last_save = time.monotonic()

    def _wait(self) -> None:
        """Wait for the write under way, if any, and raise its error."""
        if self._write:
            write, self._write = self._write, None
            self._cost += write.result()

    def _copied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return copies in ordinary memory, contiguous."""
        for name, tensor in tensors.items():
            if name not in self._copies:
                self._copies[name] = host_buffer(tensor)
            copy = self._copies[name]
            copy.copy_(tensor.detach(), non_blocking=copy.is_pinned())
        synchronize()
        return {name: self._copies[name] for name in tensors}

    def _written(self, tensors: dict[str, Tensor], meta: dict[str, Any], *, counted: bool) -> float:
        """Write in the thread; return the seconds of processor time, if ``counted``: a training on the CPU lacks them.

        Time that the disk takes is not counted, since the training goes on.
        """
        started = time.thread_time()
        self._file.save(tensors, meta)
        return time.thread_time() - started if counted else 0.0
