"""Ctrl-C and SIGTERM as a flag that is read between steps, and the errors of runs that end early."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedRunError(Exception):
    """A signal stopped the run, which has saved its state."""


class LostRankError(Exception):
    """Another process of the same run has ended, so this one must stop. The message names the rank that noticed it."""


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal came.

    Within the block a first signal only sets this flag; a second one raises KeyboardInterrupt.
    """
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
