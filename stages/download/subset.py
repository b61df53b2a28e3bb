"""Some classes of a data set, as if it had no others."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from latentline.data.decode import Shape
from stages.download.images import Facts, Images
from stages.download.source import Source, SourceSplit


@dataclass(frozen=True, eq=False)
class ChosenImages(Images):
    """Some of other images, which keep their names."""

    images: Images
    rows: NDArray[np.int64]  # (n,), of those

    @property
    def encoded(self) -> bool:  # type: ignore[override]
        """See :class:`Images`."""
        return self.images.encoded

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """See :meth:`Images.name`."""
        return self.images.name(int(self.rows[row]))

    def facts(self, row: int) -> Facts:
        """See :meth:`Images.facts`."""
        return self.images.facts(int(self.rows[row]))

    def pixels(self, row: int, shape: Shape) -> NDArray[np.uint8]:
        """See :meth:`Images.pixels`."""
        return self.images.pixels(int(self.rows[row]), shape)


def of_classes(source: Source, names: list[str]) -> Source:
    """The images of classes ``names``, which are the classes from then on, in the source's order.

    Raises:
        UserError: the source has no classes, or not all of these.
    """
    known = source.card.classes
    if unknown := [name for name in names if name not in known]:
        there = ", ".join(known) if known else "none at all: the images have no class label"
        raise UserError(f"data.classes: {unknown[0]} is no class of {source.card.name}; expected some of: {there}; correct it, or set it to null")
    kept = [label for label, name in enumerate(known) if name in names]
    card = replace(source.card, classes=tuple(known[label] for label in kept))
    return Source(card, {name: _only(split, split.labels, kept) for name, split in source.splits.items() if split.labels is not None})


def _only(split: SourceSplit, labels: NDArray[np.int64], kept: list[int]) -> SourceSplit:
    rows = np.flatnonzero(np.isin(labels, kept))
    attributes = None if split.attributes is None else split.attributes[rows]
    return SourceSplit(ChosenImages(split.images, rows), np.searchsorted(kept, labels[rows]), attributes)
