"""What a data source delivers, whichever it is."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SourceSplit:
    """One split as its publisher cut it."""

    images: NDArray[np.uint8]  # (N, C, H, W)
    labels: NDArray[np.int64]  # (N,), indices into the card's classes


@dataclass(frozen=True)
class Card:
    """What people should know of a data set; stored beside the images."""

    name: str
    classes: tuple[str, ...]
    licence: str
    source: str
    citation: str


@dataclass(frozen=True)
class Source:
    """A data set as read: its card and its splits (``train`` and ``test`` at least)."""

    card: Card
    splits: dict[str, SourceSplit] = field(repr=False)
