"""A folder that ``save_to_disk`` of Hugging Face ``datasets`` wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentline.core.errors import UserError
from latentline.data.decode import UnreadableError
from stages.download.archives import LARGEST_IMAGE
from stages.download.columns import class_labels
from stages.download.images import EncodedImages
from stages.download.source import Card, Source, SourceOptions, SourceSplit

_SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
_LABELS = ("label", "labels")


@dataclass(frozen=True, eq=False)
class HubImages(EncodedImages):
    """The images of one split, in Arrow files that are memory-mapped."""

    dataset: Any  # datasets.Dataset with an undecoded image column
    column: str
    split: str

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, row: int) -> str:
        """Return a name such as ``train image 17``."""
        return f"{self.split} image {row}"

    def content(self, row: int) -> bytes:
        """See :meth:`EncodedImages.content`."""
        image = self.dataset[row][self.column]
        if image is None:
            raise UnreadableError("no image in this row")
        content: bytes = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
        if len(content) > LARGEST_IMAGE:
            raise UnreadableError(f"{len(content)} bytes, expected at most {LARGEST_IMAGE}")
        return content


def read_huggingface(options: SourceOptions) -> Source:
    """Return the first image column of ``data.path``, with classes from a column ``label`` or ``labels``."""
    try:
        from datasets import Dataset, load_from_disk
    except ImportError:
        raise UserError(
            "data.name (huggingface) needs the package datasets; `pip install latentline[huggingface]`"
        ) from None

    try:
        loaded = load_from_disk(str(options.path))
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.path ({options.path}: {reason}) must be a folder that save_to_disk of datasets wrote; write it again"
        ) from None
    named = {"train": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    if unknown := next((name for name in named if name not in _SPLITS), None):
        raise UserError(
            f"data.path ({options.path}, split {unknown!r}) must have splits {', '.join(_SPLITS)}; rename it"
        )
    if "train" not in named:
        raise UserError(f"data.path ({options.path}, splits {', '.join(named)}) must have a split train; rename one")
    column = _image_column(named["train"].features, options.path)
    label = next((name for name in _LABELS if name in named["train"].features), None)
    classes, splits = _labelled(named, label, column, options.path)
    card = Card(
        name="huggingface",
        classes=classes,
        licence=str(named["train"].info.license or "the owner's"),
        source="data.path",
        citation=str(named["train"].info.citation),
    )
    return Source(card, splits)


def _image_column(features: Any, path: Path) -> str:
    from datasets import Image

    for name, feature in features.items():
        if isinstance(feature, Image):
            return str(name)
    raise UserError(
        f"data.path ({path}, columns {', '.join(features)}) must have a column of images; "
        "make one with cast_column(name, Image())"
    )


def _labelled(
    named: dict[str, Any], label: str | None, column: str, path: Path
) -> tuple[tuple[str, ...], dict[str, SourceSplit]]:
    from datasets import ClassLabel, Image, Value

    images = {
        name: HubImages(split.select_columns([column]).cast_column(column, Image(decode=False)), column, name)
        for name, split in named.items()
    }
    if label is None:
        return (), {_SPLITS[name]: SourceSplit(found) for name, found in images.items()}
    where = f"data.path: column {label!r} of {path}"
    feature = named["train"].features[label]
    scalar = isinstance(feature, ClassLabel | Value)
    values = (
        {name: np.asarray(split.select_columns([label])[:][label]) for name, split in named.items()} if scalar else {}
    )
    if not scalar or any(part.dtype.kind not in "biuU" for part in values.values()):
        raise UserError(f"{where} must hold an integer or text in every row; remove other rows, or rename the column")
    if isinstance(feature, ClassLabel):
        classes, numbers = tuple(feature.names), values
        if any(len(part) and (part.min() < 0 or part.max() >= len(classes)) for part in values.values()):
            raise UserError(f"{where} must hold one of {len(classes)} classes in every row; remove the other rows")
    else:
        classes, together = class_labels(np.concatenate(list(values.values())), where)
        edges = np.cumsum([len(part) for part in values.values()])[:-1]
        numbers = dict(zip(values, np.split(together, edges), strict=True))
    return classes, {_SPLITS[name]: SourceSplit(images[name], numbers[name].astype(np.int64)) for name in named}
