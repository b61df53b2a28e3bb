"""Images with equal prepared pixels, within a split and across splits, where they would make metrics too good."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.download.listed import MAX_LISTED


@dataclass(frozen=True)
class Duplicates:
    """Counts of duplicates, and the images themselves."""

    within: dict[str, int]
    """Split -> number of images equal to an earlier one of the same split."""
    across: int
    """Number of images of val and test that are also in an earlier split (train, val, test)."""
    groups: list[list[tuple[str, int]]]
    """The :data:`MAX_LISTED` largest groups of equal images as (split, position), the largest first."""


def find_duplicates(digests: dict[str, NDArray[np.void]]) -> Duplicates:
    """Find equal digests; ``digests`` has the splits in the order train, val, test."""
    names = np.repeat(np.arange(len(digests)), [len(part) for part in digests.values()])  # (N,) index of the split
    positions = np.concatenate([np.arange(len(part)) for part in digests.values()])  # (N,)
    together = np.concatenate(list(digests.values()))
    _, group, sizes = np.unique(together, return_inverse=True, return_counts=True)
    within = {name: len(part) - len(np.unique(part)) for name, part in digests.items()}
    first_split = np.full(len(sizes), len(digests))
    np.minimum.at(first_split, group, names)
    across = int((first_split[group] < names).sum())

    repeated = np.flatnonzero(sizes[group] > 1)
    repeated = repeated[np.lexsort((repeated, group[repeated], -sizes[group[repeated]]))]
    edges = (np.flatnonzero(np.diff(group[repeated])) + 1)[:MAX_LISTED]
    splits = list(digests)
    groups = [
        [(splits[names[row]], int(positions[row])) for row in rows]
        for rows in np.split(repeated, edges)[:MAX_LISTED]
        if len(rows)
    ]
    return Duplicates(within, across, groups)
