"""Ctrl-C and SIGTERM as a wish to stop at the next good moment, instead of an exception in the middle of a step; and why runs end early."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRunError(Exception):
    """The run was asked to stop and has saved its state."""


class LostRankError(Exception):
    """Another process of the same run has ended, so that this one cannot go on. The message says which of them noticed."""


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Within the block, signals only set a flag; yields the function that reads it. A second signal acts at once."""
    received: list[int] = []
    previous = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
