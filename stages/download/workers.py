"""Ordered map over many items in worker processes, with a bounded number of waiting results."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 4  # items per worker that may be in progress or waiting: bounds memory
_of_this_worker: dict[str, Callable[[Any], Any]] = {}


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order. The number of workers changes no result.

    Args:
        function: copied once into each worker, not once per item: it may hold a million file names.
        items: small, since each is sent to a worker.
        workers: processes; 0 = this process computes all.
    """
    if workers == 0:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(function,)) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(_call, item))
                if len(waiting) > _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the caller stopped early, or an item failed
                future.cancel()


def _start(function: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    _of_this_worker["function"] = function


def _call(item: Any) -> Any:
    return _of_this_worker["function"](item)
