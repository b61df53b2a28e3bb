"""Images that a table lists: all are counted, and only the first are named, so that any number fits into memory."""

import heapq
from dataclasses import dataclass, field

MAX_LISTED = 1000
"""Rows of a table, or groups of images in it."""


@dataclass
class Unreadable:
    """Images that cannot be decoded."""

    count: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    """Name -> reason of the first :data:`MAX_LISTED` by name."""

    def update(self, other: "Unreadable") -> None:
        """Add other images."""
        self.count += other.count
        if other.reasons:
            self.reasons = dict(heapq.nsmallest(MAX_LISTED, (self.reasons | other.reasons).items()))


@dataclass(frozen=True)
class Cropped:
    """Images with other proportions than the prepared ones."""

    count: int
    worst: list[tuple[str, float]]
    """Name and the fraction that was cut off of :data:`MAX_LISTED` images, most first."""
