"""Micro-batches: what gradient accumulation and several ranks make of a batch."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from torch import Tensor

from latentline.runtime.parallel import SINGLE_PROCESS, Ranks

MicroBatch = tuple[float, Tensor, dict[str, Tensor]]
"""Weight (its fraction of the batch's rows), mean loss over its rows, and terms of that loss for the log: scalars."""
Loss = Callable[[int], Iterable[MicroBatch]]
"""Step (counted from 0) -> this rank's micro-batches. Each is used up before the next is asked for."""


def micro_batch_count(count: int, gradient_accumulation_steps: int, ranks: Ranks = SINGLE_PROCESS) -> int:
    """Return how many micro-batches :func:`micro_batches` yields, the same number on each rank."""
    return min(-(-gradient_accumulation_steps // ranks.count), -(-count // ranks.count))


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
    wanted = micro_batch_count(count, gradient_accumulation_steps, ranks)
    filled = min(wanted, rows)
    for start, stop in pairwise(own.start + rows * index // max(filled, 1) for index in range(filled + 1)):
        yield (stop - start) / count, slice(start, stop)
    for _ in range(wanted - filled):
        yield 0.0, slice(0, 1)


def own_micro_batches(
    count: int, gradient_accumulation_steps: int, ranks: Ranks = SINGLE_PROCESS
) -> tuple[slice, list[tuple[float, slice]]]:
    """Return which rows of a batch this rank reads, and its micro-batches as slices of those rows.

    See :func:`micro_batches`. A rank without rows reads the first one, for micro-batches of weight 0.
    """
    own = ranks.slice_of(count)
    if own.start == own.stop:
        own = slice(0, 1)
    parts = micro_batches(count, gradient_accumulation_steps, ranks)
    return own, [
        (weight, slice(part.start - own.start, part.stop - own.start) if weight else slice(0, 1))
        for weight, part in parts
    ]


def largest_micro_batch(count: int, gradient_accumulation_steps: int, ranks: Ranks = SINGLE_PROCESS) -> int:
    """Return the rows of this rank's largest micro-batch; see :func:`micro_batches`."""
    parts = micro_batches(count, gradient_accumulation_steps, ranks)
    return max(part.stop - part.start for _, part in parts)
