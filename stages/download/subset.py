"""Restriction of a data set to some of its classes, as if it had no others."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentline.core.errors import UserError
from latentline.data.decode import Shape, ValueRange
from stages.download.images import ImageInfo, Images
from stages.download.source import Source, SourceSplit


@dataclass(frozen=True, eq=False)
class ChosenImages(Images):
    """Some rows of other images; each keeps its name."""

    images: Images
    rows: NDArray[np.int64]  # (n,)

    @property
    def encoded(self) -> bool:  # type: ignore[override]
        """See :class:`Images`."""
        return self.images.encoded

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        """See :meth:`Images.name`."""
        return self.images.name(int(self.rows[row]))

    def info(self, row: int) -> ImageInfo:
        """See :meth:`Images.info`."""
        return self.images.info(int(self.rows[row]))

    def pixels(self, row: int, shape: Shape, value_range: ValueRange | None = None) -> NDArray[np.uint8]:
        """See :meth:`Images.pixels`."""
        return self.images.pixels(int(self.rows[row]), shape, value_range)

    def stored_values(self, row: int) -> NDArray[Any]:
        """See :meth:`Images.stored_values`."""
        return self.images.stored_values(int(self.rows[row]))


def of_classes(source: Source, names: list[str]) -> Source:
    """Return the images of the classes ``names``, which become all classes, in the source's order.

    Raises:
        UserError: the source has no classes, or not all of these.
    """
    classes = source.card.classes
    if not classes:
        raise UserError(f"data.classes ({names}) must be null, since {source.card.name} has no class labels; set it so")
    if unknown := [name for name in names if name not in classes]:
        expected = f"a class of {source.card.name} ({', '.join(classes)})"
        raise UserError(f"data.classes ({unknown[0]}) must be {expected}; correct it, or set it to null")
    kept = [label for label, name in enumerate(classes) if name in names]
    card = replace(source.card, classes=tuple(classes[label] for label in kept))
    splits = {
        name: _only(split, split.labels, kept) for name, split in source.splits.items() if split.labels is not None
    }
    return replace(source, card=card, splits=splits)


def _only(split: SourceSplit, labels: NDArray[np.int64], kept: list[int]) -> SourceSplit:
    rows = np.flatnonzero(np.isin(labels, kept))
    attributes = None if split.attributes is None else split.attributes[rows]
    captions = None if split.captions is None else [split.captions[row] for row in rows.tolist()]
    return SourceSplit(ChosenImages(split.images, rows), np.searchsorted(kept, labels[rows]), attributes, captions)
