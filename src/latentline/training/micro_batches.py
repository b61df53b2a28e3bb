"""Micro-batches: what gradient accumulation and several ranks make of a batch."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from torch import Tensor

from latentline.runtime.parallel import SINGLE_PROCESS, Ranks

MicroBatch = tuple[float, Tensor, dict[str, Tensor]]
"""Weight (its fraction of the batch's rows), mean loss over its rows, and terms of that loss for the log: scalars."""
Loss = Callable[[int], Iterable[MicroBatch]]
"""Step (counted from 0) -> this rank's micro-batches. Each is used up before the next is asked for."""


def micro_batches(
    count: int, gradient_accumulation_steps: int, ranks: Ranks = SINGLE_PROCESS
) -> Iterator[tuple[float, slice]]:
    """Cut a batch into micro-batches of nearly equal size and yield those of this rank.

    A rank with fewer rows than micro-batches repeats its first row with weight 0, so that every rank joins the same
    collectives.

    Args:
        count: rows of the batch over all ranks, at least 1.
        gradient_accumulation_steps: micro-batches over all ranks, at least 1. Each rank gets the same number, so there
            may be a few more.
        ranks: the processes that share the batch.

    Yields:
        The fraction of the batch's rows (0 to 1), and which rows.
    """
    own = ranks.slice_of(count)
    rows = own.stop - own.start
    wanted = min(-(-gradient_accumulation_steps // ranks.count), -(-count // ranks.count))
    filled = min(wanted, rows)
    for start, stop in pairwise(own.start + rows * index // max(filled, 1) for index in range(filled + 1)):
        yield (stop - start) / count, slice(start, stop)
    for _ in range(wanted - filled):
        yield 0.0, slice(0, 1)


def largest_micro_batch(count: int, gradient_accumulation_steps: int, ranks: Ranks = SINGLE_PROCESS) -> int:
    """Return the rows of this rank's largest micro-batch; see :func:`micro_batches`."""
    parts = micro_batches(count, gradient_accumulation_steps, ranks)
    return max(part.stop - part.start for _, part in parts)
