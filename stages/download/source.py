"""Options and result of every data source."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latentline.core.attributes import Attribute
from stages.download.columns import Kind
from stages.download.images import Images
from stages.download.params import DataParams


@dataclass(frozen=True)
class SourceSplit:
    """One of the publisher's splits, with no image decoded yet."""

    images: Images
    labels: NDArray[np.int64] | None = None  # (N,) indices of the card's classes; None = no class label
    attributes: NDArray[np.float32] | None = None  # (N, A) columns as in the card, NaN = missing; None = no attributes
    captions: Sequence[str] | None = None  # (N,), "" = this image has none; None = no captions


@dataclass(frozen=True)
class Card:
    """Description of a data set for people; stored beside the images."""

    name: str
    classes: tuple[str, ...]
    """Names of the class labels; empty = the images have none."""
    licence: str
    source: str
    citation: str
    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True)
class ColumnReport:
    """How a column of the user's labels was read."""

    name: str
    kind: Kind
    decided_by: str
    """``rule`` or ``data.attributes``."""
    categories: int
    """Of a categorical column; else 0."""
    missing: int
    """Rows without a value."""


@dataclass(frozen=True)
class CaptionOrigin:
    """Where the captions of the images were found."""

    found_in: str
    """The convention, for people; without a path, since no out may depend on one."""
    without_image: Sequence[str] = ()
    """Names of captions that belong to no image."""


@dataclass(frozen=True)
class Source:
    """A data set: its card and the publisher's splits, ``train`` and perhaps ``val`` and ``test``."""

    card: Card
    splits: dict[str, SourceSplit] = field(repr=False)
    left_out: dict[str, str] = field(default_factory=dict, repr=False)
    """Files of the user's folder that are not used: name -> kind."""
    columns: tuple[ColumnReport, ...] = ()
    """Columns of the user's labels; empty where no rule decided their kinds."""
    without_value: int = 0
    """Images that ``data.missing`` (drop) left out."""
    captions: CaptionOrigin | None = None
    """None = the images have no captions."""


@dataclass(frozen=True)
class SourceOptions:
    """Settings and folders that a source may use."""

    name: str
    path: Path
    """The user's own images (``data.path``)."""
    labels: Path
    """CSV of their labels (``data.labels``); an empty file = the sub-folders are the labels."""
    root: Path | None
    """Folder that holds the publisher's files; None = fetch them."""
    emnist_split: str
    medmnist_size: int
    timeout_seconds: float
    downloads: Path
    """Where fetched files are kept, so that another image size does not fetch them again."""
    scratch: Path
    """An empty folder for unpacked arrays; removed when the stage ends."""
    attributes: dict[str, Kind] = field(default_factory=dict)
    """Kinds of columns of labels (``data.attributes``); all others are decided by rule."""
    missing: Literal["refuse", "drop", "ignore"] = "refuse"
    """What happens to rows without a value (``data.missing``)."""
    max_unreadable: float = 1.0
    """Fraction of rows that may name no file."""
    captions: Literal["auto", "none"] = "auto"
    """Whether to look for captions (``data.captions``)."""

    @classmethod
    def of(cls, params: DataParams, scratch: Path) -> "SourceOptions":
        """Return the options that section ``data`` sets."""
        return cls(
            name=params.name,
            path=Path(params.path),
            labels=Path(params.labels),
            root=None if params.root is None else Path(params.root),
            emnist_split=params.emnist_split,
            medmnist_size=params.medmnist_size,
            timeout_seconds=params.timeout_seconds,
            downloads=Path(os.environ.get("DVC_ROOT", ".")) / ".state" / "downloads",
            scratch=scratch,
            attributes=dict(params.attributes),
            missing=params.missing,
            max_unreadable=params.max_unreadable,
            captions=params.captions,
        )
