"""What a data source is asked for and what it delivers, whichever it is."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentline.core.attributes import Column
from stages.download.images import Images


@dataclass(frozen=True)
class SourceSplit:
    """One split as its publisher cut it, nothing decoded yet."""

    images: Images
    labels: NDArray[np.int64] | None = None  # (N,), indices into the card's classes; None = no class label
    attributes: NDArray[np.float32] | None = None  # (N, A), columns as in the card; None = no attributes


@dataclass(frozen=True)
class Card:
    """What people should know of a data set; stored beside the images."""

    name: str
    classes: tuple[str, ...]
    """Names of the class labels; empty = the images have none."""
    licence: str
    source: str
    citation: str
    attributes: tuple[Column, ...] = ()


@dataclass(frozen=True)
class Source:
    """A data set as read: its card and its splits. ``train`` at least; ``val`` and ``test`` where the publisher cut them."""

    card: Card
    splits: dict[str, SourceSplit] = field(repr=False)


@dataclass(frozen=True)
class Request:
    """What a loader may look at."""

    name: str
    path: Path
    """The user's own images (``data.path``)."""
    labels: Path
    """CSV of their labels (``data.labels``); an empty file = labels are the sub-folders."""
    root: Path | None
    """Folder that holds the publisher's files; None = fetch them."""
    emnist_split: str
    medmnist_size: int
    timeout_seconds: float
    downloads: Path
    """Where fetched files are kept, so that another image size does not fetch them again."""
    scratch: Path
    """An empty folder for unpacked arrays; removed when the stage ends."""
