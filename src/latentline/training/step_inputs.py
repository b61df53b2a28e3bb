"""Inputs of training steps: rows, noise and times are drawn on the CPU, one step ahead where a GPU computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.shards import ShardedArray
from latentline.runtime.compute import pinned

Inputs = dict[str, Tensor]


class StepInputs:
    """The inputs of each step, on the device.

    On the CPU they are drawn when they are asked for. For any other device a thread draws those of the next step while
    this one computes, and puts them into pinned memory, from which they are copied without waiting.

    Args:
        draw: step -> its inputs by name, on the CPU. They depend on the step alone, so drawing ahead changes no byte.
        device: where the step computes.
    """

    def __init__(self, draw: Callable[[int], Inputs], device: torch.device) -> None:
        self._draw = draw
        self._device = device
        self._worker = None if device.type == "cpu" else ThreadPoolExecutor(1, "step_inputs")
        self._ahead: tuple[int, Future[Inputs]] | None = None

    def __call__(self, step: int) -> Inputs:
        """Return the inputs of ``step``. Steps that follow one another are drawn ahead."""
        if self._worker is None:
            return self._draw(step)
        ahead = (
            self._ahead if self._ahead and self._ahead[0] == step else (step, self._worker.submit(self._ready, step))
        )
        self._ahead = step + 1, self._worker.submit(self._ready, step + 1)
        return {name: part.to(self._device, non_blocking=True) for name, part in ahead[1].result().items()}

    def _ready(self, step: int) -> Inputs:
        return {name: pinned(part, self._device) for name, part in self._draw(step).items()}


@dataclass(frozen=True)
class RowSource:
    """Training images or latents: on the device, or on disk. See :func:`latentline.training.config.resident`."""

    array: Tensor | ShardedArray

    def __len__(self) -> int:
        return len(self.array)

    def inputs(self, rows: Tensor) -> Inputs:
        """Return what :meth:`batch` needs of ``rows`` int64 (B,), on the CPU."""
        return {"rows": rows} if isinstance(self.array, Tensor) else {"rows": rows, "batch": self.array[rows]}

    def batch(self, inputs: Inputs) -> Tensor:
        """Return the rows (B, ...) on the device, from inputs that are there."""
        return self.array[inputs["rows"]] if isinstance(self.array, Tensor) else inputs["batch"]

    def prefetch(self, rows: Tensor) -> None:
        """Make the system read ``rows`` (B,) from disk in the background."""
        if isinstance(self.array, ShardedArray):
            self.array.prefetch(rows)
