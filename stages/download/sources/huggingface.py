"""A folder that ``save_to_disk`` of Hugging Face ``datasets`` wrote."""

import difflib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.watched import require_watchable
from latentline.data.captions import clean_caption
from latentline.data.decode import UnreadableError
from stages.download.archives import LARGEST_IMAGE
from stages.download.columns import Kind, TextColumn, attribute_with_missing, class_texts, missing_values
from stages.download.images import EncodedImages, Images
from stages.download.source import CaptionOrigin, Card, Source, SourceOptions, SourceSplit
from stages.download.sources.caption_column import caption_column
from stages.download.sources.missing_rows import rows_without_value
from stages.download.sources.table import column_report, is_near_label
from stages.download.subset import ChosenImages

log = logging.getLogger(__name__)

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
    """Return the first image column of ``data.path``, with classes from a column ``label`` or ``labels``.

    Columns that ``data.attributes`` names are attributes; the rules are those of a CSV of labels.
    """
    try:
        from datasets import Dataset, Image, load_from_disk
    except ImportError:
        raise UserError(
            "data.name (huggingface) needs the package datasets; `.venv/bin/pip install -e '.[huggingface]'`"
        ) from None

    require_watchable("data.path", options.path)
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
    features = named["train"].features
    label = next((name for name in _LABELS if name in features), None)
    caption = caption_column(_texts_of(features), options, f"data.path ({options.path})")
    wanted = _wanted(features, (column, caption), label, options)
    needed = [*wanted, *([caption] if caption else [])]
    if lacking := next((name for name, split in named.items() if set(needed) - set(split.features)), None):
        raise UserError(
            f"data.path ({options.path}, split {lacking!r}) must have columns {', '.join(needed)}; add them"
        )
    edges = np.cumsum([len(split) for split in named.values()])[:-1]
    columns = {name: _texts(named, name, options) for name in wanted}
    kinds: dict[str, Kind] = {**options.attributes, **({label: "categorical"} if label else {})}
    missing = {name: missing_values(texts, kinds.get(name)) for name, texts in columns.items()}
    left_out = rows_without_value(columns, missing, options.missing, f"data.path ({options.path})", label)
    kept = np.split(~left_out, edges) if columns else [np.ones(len(split), bool) for split in named.values()]
    classes: tuple[str, ...] = ()
    labels = None
    if label is not None:
        classes, labels = _classes(features[label], columns.pop(label).without(left_out), options.attributes.get(label))
    found = [
        attribute_with_missing(texts.without(left_out), missing[name][~left_out], options.attributes.get(name))
        for name, texts in columns.items()
    ]
    values = np.stack([part for _, part in found], axis=1) if found else None
    ends = np.cumsum([int(part.sum()) for part in kept])[:-1]
    splits = {}
    for number, (name, split) in enumerate(named.items()):
        images: Images = HubImages(
            split.select_columns([column]).cast_column(column, Image(decode=False)), column, name
        )
        if not kept[number].all():
            images = ChosenImages(images, np.flatnonzero(kept[number]))
        splits[_SPLITS[name]] = SourceSplit(
            images,
            None if labels is None else np.split(labels, ends)[number],
            None if values is None else np.split(values, ends)[number],
            _captions(split, caption, kept[number], options.path) if caption else None,
        )
    described = ([Attribute(label, "categorical", classes)] if label else []) + [one for one, _ in found]
    card = Card(
        name="huggingface",
        classes=classes,
        licence=str(named["train"].info.license or "the owner's"),
        source="data.path",
        citation=str(named["train"].info.citation),
        attributes=tuple(one for one, _ in found),
    )
    reports = tuple(column_report(one, options.attributes, int(missing[one.name].sum())) for one in described)
    origin = CaptionOrigin(f"column {caption} of data.path") if caption else None
    return Source(card, splits, columns=reports, without_value=int(left_out.sum()), captions=origin)


def _texts_of(features: Any) -> list[str]:
    """Return the columns that hold one text in each row."""
    from datasets import Value

    return [
        name
        for name, feature in features.items()
        if isinstance(feature, Value) and feature.dtype in ("string", "large_string", "string_view")
    ]


def _captions(split: Any, caption: str, kept: NDArray[np.bool_], path: Path) -> list[str]:
    """Return the captions of the rows ``kept`` (N,) of a split. Raises UserError where they are no texts."""
    if caption not in _texts_of(split.features):
        raise UserError(f"data.path ({path}): column {caption!r} must hold texts in every split; cast it")
    texts = split.select_columns([caption])[:][caption]
    return [clean_caption(text or "") for text, chosen in zip(texts, kept.tolist(), strict=True) if chosen]


def _wanted(features: Any, used: tuple[str, str | None], label: str | None, options: SourceOptions) -> list[str]:
    """Return the columns to read: the label and those of ``data.attributes``; name the others in the log.

    ``used`` are the columns of images and of captions.

    Raises:
        UserError: a column of ``data.attributes`` that does not exist, or one that nearly is ``label``.
    """
    if unknown := next((name for name in options.attributes if name not in features or name == used[0]), None):
        found = f"{unknown}: {options.attributes[unknown]}"
        close = difflib.get_close_matches(unknown, features, 1)
        remedy = f"did you mean {close[0]!r}?" if close else "correct or remove it"
        raise UserError(
            f"data.attributes ({found}) must name a column of data.path ({options.path}): {', '.join(features)}; "
            f"{remedy}"
        )
    others = [name for name in features if name not in (*used, label, *options.attributes)]
    if near := next((name for name in others if label is None and is_near_label(name)), None):
        raise UserError(
            f"data.path ({options.path}): column {near!r} must be called 'label' or be in data.attributes; "
            "did you mean 'label'? rename it with rename_column, or remove it with remove_columns"
        )
    if others:
        log.info("columns that are not used: %s (data.attributes would read them)", ", ".join(others))
    return ([label] if label else []) + [name for name in options.attributes if name != label]


def _texts(named: dict[str, Any], name: str, options: SourceOptions) -> TextColumn:
    """Return the column ``name`` of all splits, one after the other, as texts; a missing value is an empty text."""
    from datasets import ClassLabel, Value

    where = f"data.path ({options.path})"
    feature = named["train"].features[name]
    may_lack = options.missing != "refuse"
    values = [value for split in named.values() for value in split.select_columns([name])[:][name]]
    if not isinstance(feature, ClassLabel | Value) or not all(
        isinstance(value, str | int | float) or (value is None and may_lack) for value in values
    ):
        raise UserError(
            f"{where}: column {name!r} must hold an integer or text in every row; remove other rows, rename the "
            "column, or set data.missing to drop or ignore where values are missing"
        )
    missing = (None, -1) if isinstance(feature, ClassLabel) and may_lack else (None,)  # -1: an unlabelled row
    cells = np.array(["" if value in missing else str(value).strip() for value in values], object)
    return TextColumn(name, cells, np.concatenate([np.arange(len(split)) for split in named.values()]), where)


def _classes(feature: Any, column: TextColumn, kind: Kind | None) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the classes of the label column, and their indices (N,)."""
    from datasets import ClassLabel

    if not isinstance(feature, ClassLabel):
        return class_texts(column, kind)
    labels = column.cells.astype(np.int64)
    if len(labels) and (labels.min() < 0 or labels.max() >= len(feature.names)):
        raise UserError(
            f"{column.where}: column {column.name!r} must hold one of {len(feature.names)} classes in every row; "
            "remove the other rows"
        )
    return tuple(feature.names), labels


def _image_column(features: Any, path: Path) -> str:
    from datasets import Image

    for name, feature in features.items():
        if isinstance(feature, Image):
            return str(name)
    raise UserError(
        f"data.path ({path}, columns {', '.join(features)}) must have a column of images; "
        "make one with cast_column(name, Image())"
    )
