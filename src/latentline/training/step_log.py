"""The numbers of the latest steps. They stay on the device until they are read, since reading them waits for it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

_SECONDS = 1.0  # between two readings, about
_MOST_STEPS = 100
M = TypeVar("M")


@dataclass
class StepNumbers:
    """Loss, logged terms and gradient norm of one network's step."""

    names: list[str] = field(default_factory=list)
    """Of the terms, in the order of the log."""
    parts: list[tuple[float, Tensor]] = field(default_factory=list)
    """Of each micro-batch its weight, and its loss and terms (1 + T,), on the device."""
    gradient_norm: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Scalar, before clipping."""

    def add(self, weight: float, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Add a micro-batch; waits for nothing."""
        self.names = list(terms)
        numbers = [number.detach().to(loss.dtype) for number in (loss, *terms.values())]
        self.parts.append((weight, torch.stack(numbers)))

    def total(self, dtype: torch.dtype) -> Tensor:
        """Return the sums of loss and terms over the micro-batches (1 + T,), on the device."""
        return torch.stack([weight * numbers.to(dtype) for weight, numbers in self.parts]).sum(dim=0)

    def finite(self) -> Tensor:
        """Return whether loss and gradient norm are finite: bool (), on the device."""
        loss = sum(weight * numbers[0] for weight, numbers in self.parts)
        return (loss + self.gradient_norm).isfinite()


@dataclass(frozen=True)
class ReadNumbers:
    """What :class:`StepNumbers` holds, on the host."""

    loss: float
    terms: dict[str, float]
    gradient_norm: float


class StepLog(Generic[M]):
    """Numbers of the steps since the last reading, and when to read next.

    On the CPU, where nothing waits, each step is read. On other devices a reading is due about once a second.

    Args:
        device: of the numbers.
        step: steps done so far.
    """

    def __init__(self, device: torch.device, step: int) -> None:
        self._pending: list[tuple[int, M, StepNumbers]] = []
        self._each = device.type == "cpu"
        self._last, self._next, self._time = step, step + 1, time.monotonic()

    def add(self, step: int, module: M, numbers: StepNumbers) -> None:
        """Add the numbers of ``module`` at ``step``, counted from 0."""
        self._pending.append((step, module, numbers))

    def due(self, steps: int) -> bool:
        """Return whether to read after ``steps`` steps."""
        return steps >= self._next

    def read(self) -> Iterator[tuple[int, M, ReadNumbers]]:
        """Yield (step, module, numbers) of all steps since the last reading, in order. This waits for the device."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        flat = [part for _, _, step in pending for _, part in step.parts]
        flat += [step.gradient_norm.reshape(1).to(flat[0].dtype) for _, _, step in pending]
        values = torch.cat(flat).tolist()
        norms = values[-len(pending) :]
        position = 0
        for (step, module, numbers), norm in zip(pending, norms, strict=True):
            sums = [0.0] * (1 + len(numbers.names))  # in float64, so that sums over an epoch keep all digits
            for weight, part in numbers.parts:
                own = values[position : position + len(part)]
                sums = [total + weight * value for total, value in zip(sums, own, strict=True)]
                position += len(part)
            yield step, module, ReadNumbers(sums[0], dict(zip(numbers.names, sums[1:], strict=True)), norm)

    def steps_to_next(self, steps: int) -> int:
        """Return in how many steps to read again, from the time since the last reading; ``steps`` are done."""
        if self._each:
            return 1
        now = time.monotonic()
        done, seconds = steps - self._last, now - self._time
        self._last, self._time = steps, now
        return max(1, min(int(_SECONDS * done / max(seconds, 1e-9)), 2 * done, _MOST_STEPS))

    def read_again_at(self, steps: int) -> None:
        """Make the next reading due after ``steps`` steps."""
        self._next = steps
