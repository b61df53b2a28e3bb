"""Images whose prepared pixels are equal, within a split and across splits: a test image that was trained on proves nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Duplicates:
    """Counts, and which images they are."""

    within: dict[str, int]
    """Split -> images that equal an earlier one of the same split."""
    across: int
    """Images of val and test that also are in a split before theirs (train, val, test)."""
    groups: list[list[tuple[str, int]]]
    """Equal images as (split, position), the most often repeated first."""


def find_duplicates(digests: dict[str, NDArray[np.void]]) -> Duplicates:
    """Compare by digest. Splits in the order train, val, test."""
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
    edges = np.flatnonzero(np.diff(group[repeated])) + 1
    splits = list(digests)
    groups = [[(splits[names[row]], int(positions[row])) for row in rows] for rows in np.split(repeated, edges) if len(rows)]
    return Duplicates(within, across, groups)
