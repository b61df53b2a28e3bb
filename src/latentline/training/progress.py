"""Progress bar of a training, and its speed: images and FLOPs per second, share of the device's peak, memory."""

import logging
import time
from collections.abc import Callable, Mapping

import torch
from tqdm import tqdm

from latentline.runtime.compute import peak_memory_mib, reset_peak_memory
from latentline.runtime.parallel import Ranks
from latentline.runtime.peak import peak_tflops
from latentline.runtime.precision import Precision

log = logging.getLogger(__name__)

_LOG_SECONDS = 60.0  # between two lines of a log, where no bar is drawn
Speed = dict[str, float | None]
"""Values of metrics/timing.json by name; None = unknown."""


class Progress:
    """Progress bar and speed of the steps of one training. Where the output is no terminal, a line a minute.

    The first step of the process warms up and is not timed. Validation, figures and saves are not timed either. Clocks
    are read only where the loop has waited for the device anyway.

    Args:
        section: of params.yaml.
        total_steps: of the training.
        first_step: of this process.
        batch_size: images of a step on all ranks; 0 = unknown.
        device: of this rank.
        precision: of the training, for the device's peak.
        ranks: the processes that share the work.
    """

    def __init__(
        self,
        section: str,
        total_steps: int,
        first_step: int,
        batch_size: int,
        device: torch.device,
        precision: Precision,
        ranks: Ranks,
    ) -> None:
        self._batch_size, self._device, self._ranks = batch_size, device, ranks
        self._peak = peak_tflops(device, precision)
        reset_peak_memory(device)
        self._step_flops = 0.0  # of the latest step, on this rank
        self._new: list[float] = []  # FLOPs of each step since the last reading
        self._warm = False
        self._steps, self._flops, self._seconds = 0, 0.0, 0.0  # that are timed
        self._since = self._logged = time.monotonic()
        self._section, self._total_steps, self._step = section, total_steps, first_step
        hidden = None if ranks.is_main else True  # None = where the output is no terminal
        self._bar = tqdm(total=total_steps, initial=first_step, desc=section, disable=hidden, mininterval=1)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, flops: float) -> None:
        """Count a step of ``flops`` on this rank; waits for nothing."""
        self._bar.update()
        self._step += 1
        self._step_flops = flops
        self._new.append(flops)

    def stop_clock(self) -> None:
        """Stop the clock; the device has computed all steps so far."""
        if self._warm:
            self._seconds += time.monotonic() - self._since
            self._steps, self._flops = self._steps + len(self._new), self._flops + sum(self._new)
        self._warm, self._new = True, []

    def start_clock(self, row: Mapping[str, float]) -> None:
        """Start the clock again, and show the speed beside ``row``, the latest epoch's."""
        if not self._bar.disable:
            self._bar.set_postfix({**row, **_in_short(self.speed())}, refresh=False)
        self._since = time.monotonic()
        if self._bar.disable and self._ranks.is_main and self._steps and self._since - self._logged > _LOG_SECONDS:
            self._logged = self._since
            left = tqdm.format_interval(self._seconds / self._steps * (self._total_steps - self._step))
            log.info("%s: step %d of %d, %s left", self._section, self._step, self._total_steps, left)

    def report(self, receive: Callable[[Speed], None]) -> None:
        """Pass the speed on and log it, on rank 0 and where steps were timed."""
        if (speed := self.speed()) and self._ranks.is_main:
            receive(speed)
            log.info("%s", ", ".join(f"{name} {value}" for name, value in _in_short(speed).items()))

    def speed(self) -> Speed:
        """Return the speed of the timed steps of all ranks; share of the peak and memory are this rank's.

        It is empty where no step is timed.
        """
        if not self._seconds:
            return {}
        tflops = self._flops / self._seconds / 1e12
        return {
            "images_per_second": self._batch_size * self._steps / self._seconds if self._batch_size else None,
            "gflop_per_step": self._step_flops * self._ranks.count / 1e9,
            "tflop_per_second": tflops * self._ranks.count,
            "share_of_peak": tflops / self._peak if self._peak else None,
            "peak_device_memory_mib": peak_memory_mib(self._device),
        }


def _in_short(speed: Speed) -> dict[str, str]:
    """Return what is not unknown, with short names and units, for the progress bar and the log."""
    shown = {
        "images_per_second": ("images/s", "{:.4g}"),
        "gflop_per_step": ("GFLOP/step", "{:.4g}"),
        "tflop_per_second": ("TFLOP/s", "{:.3g}"),
        "share_of_peak": ("of peak", "{:.0%}"),
        "peak_device_memory_mib": ("MiB", "{:.0f}"),
    }
    return {shown[name][0]: shown[name][1].format(value) for name, value in speed.items() if value is not None}
