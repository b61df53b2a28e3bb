"""How far a long job is: a bar on a terminal, and elsewhere a line in the log each minute."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_LOG_SECONDS = 60.0
log = logging.getLogger(__name__)


def with_progress(
    items: Iterable[Item], total: int, name: str, *, ready: int = 0, shown: bool = True
) -> Iterator[Item]:
    """Return the items; show their progress while they are taken.

    Args:
        items: each is one of ``total`` parts of the job.
        total: number of the items.
        name: of the items.
        ready: items that come first, at once, since an earlier run has computed them.
        shown: False = by another process.
    """
    bar = tqdm(items, total=total, desc=name, disable=None if shown else True, mininterval=1)
    if not shown or not bar.disable:  # None: disabled where the output is no terminal
        yield from bar
        return
    began = logged = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if done == ready:
            began = now
        if ready < done < total and now - logged > _LOG_SECONDS:
            logged = now
            left = tqdm.format_interval((now - began) / (done - ready) * (total - done))
            log.info("%s: %d of %d, %s left", name, done, total, left)
