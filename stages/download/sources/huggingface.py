"""A Hugging Face ``datasets`` directory on disk, as ``save_to_disk`` writes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentline.core.errors import UserError
from latentline.data.decode import UnreadableError
from stages.download.archives import LARGEST_IMAGE
from stages.download.columns import class_labels
from stages.download.images import EncodedImages
from stages.download.source import Card, Request, Source, SourceSplit

_SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
_LABELS = ("label", "labels")


@dataclass(frozen=True, eq=False)
class HubImages(EncodedImages):
    """The images of one split, in Arrow files that are memory-mapped."""

    dataset: Any  # datasets.Dataset, whose image column is not decoded
    column: str
    split: str

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, row: int) -> str:
        """``train image 17``."""
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


def read_huggingface(request: Request) -> Source:
    """The first image column of ``data.path``; classes from a column ``label`` or ``labels``, where there is one."""
    try:
        from datasets import Dataset, load_from_disk
    except ImportError:
        raise UserError("data.name: huggingface needs the package datasets; install it with `pip install latentline[huggingface]`") from None

    try:
        loaded = load_from_disk(str(request.path))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"data.path: {request.path} is no folder that datasets' save_to_disk wrote ({' '.join(str(error).split())})") from None
    named = {"train": loaded} if isinstance(loaded, Dataset) else dict(loaded)
    if unknown := next((name for name in named if name not in _SPLITS), None):
        raise UserError(f"data.path: {request.path} has split {unknown!r}, expected {', '.join(_SPLITS)}; rename it")
    if "train" not in named:
        raise UserError(f"data.path: {request.path} has splits {', '.join(named)}, expected train among them; rename one")
    column = _image_column(named["train"].features, request.path)
    label = next((name for name in _LABELS if name in named["train"].features), None)
    classes, splits = _labelled(named, label, column, request.path)
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
    raise UserError(f"data.path: {path} has columns {', '.join(features)}, expected one of images; cast_column(name, Image()) makes one")


def _labelled(named: dict[str, Any], label: str | None, column: str, path: Path) -> tuple[tuple[str, ...], dict[str, SourceSplit]]:
    from datasets import ClassLabel, Image, Value

    images = {name: HubImages(split.select_columns([column]).cast_column(column, Image(decode=False)), column, name) for name, split in named.items()}
    if label is None:
        return (), {_SPLITS[name]: SourceSplit(found) for name, found in images.items()}
    where = f"data.path: {path}, column {label!r}"
    feature = named["train"].features[label]
    scalar = isinstance(feature, ClassLabel | Value)
    values = {name: np.asarray(split.select_columns([label])[:][label]) for name, split in named.items()} if scalar else {}
    if not scalar or any(part.dtype.kind not in "biuU" for part in values.values()):
        raise UserError(f"{where}: expected one integer or text in every row; remove the rows without, or rename the column")
    if isinstance(feature, ClassLabel):
        classes, numbers = tuple(feature.names), values
        if any(len(part) and (part.min() < 0 or part.max() >= len(classes)) for part in values.values()):
            raise UserError(f"{where}: has rows without a class; expected one of {len(classes)} in every row; remove them")
    else:
        classes, together = class_labels(np.concatenate(list(values.values())), where)
        edges = np.cumsum([len(part) for part in values.values()])[:-1]
        numbers = dict(zip(values, np.split(together, edges), strict=True))
    return classes, {_SPLITS[name]: SourceSplit(images[name], numbers[name].astype(np.int64)) for name in named}
