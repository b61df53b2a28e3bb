"""From a source to data/prepared: scan the images, cut the splits, decode, write.

The number of workers changes no byte.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from latentline.core.attributes import with_statistics
from latentline.core.errors import UserError
from latentline.core.files import replaced_folder, write_sealed_json
from latentline.core.labels import LabelTable, Schema, build_schema, schema_to_json, write_labelled_rows
from latentline.data.captions import write_captions
from latentline.data.decode import Shape, UnreadableError, ValueRange
from stages.download.captions import require_captions
from stages.download.images import Images, content_digest
from stages.download.listed import Cropped, Unreadable
from stages.download.params import DataParams
from stages.download.scan import cropped, require_all_classes, scan_images, target_shape
from stages.download.source import Source
from stages.download.splits import SplitRows, content_keys, cut_splits
from stages.download.workers import ordered_map

log = logging.getLogger(__name__)

_CHUNK = 64  # images that a worker prepares at a time
_MAX_LOGGED = 10  # unreadable images named in the log before an error


@dataclass(frozen=True)
class Options:
    """Settings of section ``data`` that shape the prepared images (``params.py``)."""

    image_size: tuple[int, int] | None  # (H, W)
    channels: int | None
    shares: dict[str, float]
    limit: int | None
    max_unreadable: float
    horizontal_flip: bool
    seed: int
    workers: int
    value_range: ValueRange | None = None
    max_missing_captions: float = 0.0

    @classmethod
    def of(cls, params: DataParams, seed: int, workers: int) -> "Options":
        """Return the options that section ``data`` sets."""
        size = [params.image_size] * 2 if isinstance(params.image_size, int) else params.image_size
        return cls(
            image_size=(size[0], size[1]) if size else None,
            channels=params.channels,
            shares=params.splits.model_dump(),
            limit=params.limit,
            max_unreadable=params.max_unreadable,
            horizontal_flip=params.horizontal_flip,
            seed=seed,
            workers=workers,
            value_range=(params.value_range[0], params.value_range[1]) if params.value_range else None,
            max_missing_captions=params.max_missing_captions,
        )


@dataclass
class SplitStats:
    """Statistics of a split, updated while it is written."""

    published: str  # the publisher's split of its images
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    digests: list[NDArray[np.void]] = field(default_factory=list)  # 16 bytes each, of the prepared pixels
    extents: list[NDArray[np.uint8]] = field(default_factory=list)  # (n, 2), lowest and highest value of each image
    total: int = 0  # sum of all pixel values: integers, so that no order of adding changes them
    squares: int = 0

    @property
    def count(self) -> int:
        """Images written."""
        return sum(len(rows) for rows in self.rows)


@dataclass(frozen=True)
class PrepareResult:
    """Statistics of the prepared images."""

    stats: dict[str, SplitStats]
    unreadable: Unreadable
    shape: Shape
    cropped: Cropped
    captions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Split -> description of its captions; empty = there are none."""


def prepare(
    source: Source,
    root: Path,
    options: Options,
    check: Callable[[dict[str, int]], None] = lambda counts: None,
) -> PrepareResult:
    """Write ``source`` to ``root``, whole or not at all.

    Args:
        source: the images.
        root: folder to write.
        options: that shape them.
        check: receives the count of each split before anything is written, and may refuse it.

    Raises:
        UserError: more unreadable images than allowed, too few images for the splits, or an attribute without any
            value in the training images.
    """
    scans = {name: scan_images(split.images, options.workers) for name, split in source.splits.items()}
    unreadable = Unreadable()
    for scan in scans.values():
        unreadable.update(scan.unreadable)
    total = sum(len(split.images) for split in source.splits.values())
    _check_unreadable(unreadable, total, options.max_unreadable)
    require_all_classes(scans, source)
    shape = target_shape(list(scans.values()), options.image_size, options.channels)
    keyed = {name: (scan.rows, content_keys(scan.digests, options.seed)) for name, scan in scans.items()}
    splits = cut_splits(keyed, options.shares)
    check({name: min(len(split.rows), options.limit or len(split.rows)) for name, split in splits.items()})
    for name, split in splits.items():
        require_captions(source, name, split, options.limit, options.max_missing_captions)
    stats = {}
    described = {}
    captions = {}
    with replaced_folder(root) as folder:
        for name, split in splits.items():
            stats[name] = SplitStats(split.published)
            batches = _batches(source, split, shape, options, stats[name], unreadable)
            described[name] = write_labelled_rows(folder, name, "images", batches, {"kind": "images"})
            if not stats[name].count:
                raise UserError(f"data: split {name} (0 readable images) must have at least one; mend or add images")
            if (texts := source.splits[split.published].captions) is not None:
                rows = np.concatenate(stats[name].rows).tolist()
                captions[name] = write_captions(folder, name, (texts[row] for row in rows))
        _check_unreadable(unreadable, total, options.max_unreadable)
        card = asdict(source.card)
        del card["classes"], card["attributes"]
        card["schema"] = schema_to_json(_schema_with_statistics(source, stats["train"]))
        card |= {"shape": list(shape), "horizontal_flip": options.horizontal_flip, "splits": described}
        if options.value_range:
            card["value_range"] = list(options.value_range)  # images to edit are stretched likewise
        if captions:
            card["captions"] = captions
        write_sealed_json(folder / "card.json", card)
    lost = cropped(((source.splits[name].images, scan) for name, scan in scans.items()), shape)
    return PrepareResult(stats, unreadable, shape, lost, captions)


@dataclass(frozen=True)
class _Prepared:
    """The readable images of a chunk, and the reasons why others are unreadable."""

    images: NDArray[np.uint8]  # (n, C, H, W)
    rows: NDArray[np.int64]  # (n,)
    digests: NDArray[np.void]  # (n,), 16 bytes each
    extents: NDArray[np.uint8]  # (n, 2)
    totals: NDArray[np.int64]  # (n,)
    squares: NDArray[np.int64]  # (n,)
    unreadable: Unreadable

    def head(self, count: int) -> "_Prepared":
        """Return the first ``count`` images."""
        return _Prepared(
            self.images[:count],
            self.rows[:count],
            self.digests[:count],
            self.extents[:count],
            self.totals[:count],
            self.squares[:count],
            self.unreadable,
        )


def _prepare_rows(images: Images, shape: Shape, value_range: ValueRange | None, rows: NDArray[np.int64]) -> _Prepared:
    """Decode some rows; runs in a worker."""
    kept, pixels, reasons = [], [], {}
    for row in rows.tolist():
        try:
            pixels.append(images.pixels(row, shape, value_range))
            kept.append(row)
        except UnreadableError as error:
            reasons[images.name(row)] = str(error)
    block = np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8)
    digests = np.array([content_digest(image.tobytes()) for image in block], np.dtype("V16"))
    flat = block.reshape(len(block), -1)
    extents = np.stack([flat.min(axis=1), flat.max(axis=1)], axis=1)
    values = flat.astype(np.int64)
    totals, squares = values.sum(axis=1), np.square(values).sum(axis=1)
    unreadable = Unreadable(len(reasons), reasons)
    return _Prepared(block, np.array(kept, np.int64), digests, extents, totals, squares, unreadable)


def _batches(
    source: Source, rows: SplitRows, shape: Shape, options: Options, stats: SplitStats, unreadable: Unreadable
) -> Iterator[tuple[Tensor, LabelTable]]:
    """Yield the split's images and their labels in order, up to the limit; update its statistics."""
    left = min(options.limit or len(rows.rows), len(rows.rows))
    chunks = (rows.rows[start : start + _CHUNK] for start in range(0, len(rows.rows), _CHUNK))
    split, labels = source.splits[rows.published], _labels(source, rows.published)
    workers = options.workers if split.images.encoded else 0
    with tqdm(total=left, desc="prepare", unit=" images", disable=None, mininterval=1) as bar:
        for chunk in ordered_map(partial(_prepare_rows, split.images, shape, options.value_range), chunks, workers):
            done = chunk.head(left)
            unreadable.update(done.unreadable)
            stats.rows.append(done.rows)
            stats.digests.append(done.digests)
            stats.extents.append(done.extents)
            stats.total += int(done.totals.sum())
            stats.squares += int(done.squares.sum())
            yield torch.from_numpy(done.images), labels[torch.from_numpy(done.rows)]
            bar.update(len(done.rows))
            left -= len(done.rows)
            if not left:
                return


def _schema_with_statistics(source: Source, train: SplitStats) -> Schema:
    """Return the schema, with mean and standard deviation of continuous attributes over the training images."""
    rows = torch.from_numpy(np.concatenate(train.rows))
    labels = _labels(source, train.published)[rows]
    for name, empty in zip(labels.names, labels.values.isnan().all(dim=0).tolist(), strict=True):
        if empty:
            raise UserError(
                f"data.missing (ignore) must leave a value of {name!r} in some training image; add values, or remove "
                "the column"
            )
    return with_statistics(labels.schema, labels.values)


def _labels(source: Source, published: str) -> LabelTable:
    """Return the labels of one of the publisher's splits; the schema has no statistics yet."""
    split, card = source.splits[published], source.card
    arrays = {"labels": split.labels, "attributes": split.attributes}
    given = {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}
    schema = build_schema(card.classes, () if split.attributes is None else card.attributes)
    return LabelTable.from_arrays(schema, given, len(split.images))


def _check_unreadable(unreadable: Unreadable, total: int, allowed: float) -> None:
    """Raise UserError when more than the fraction ``allowed`` of ``total`` images is unreadable; log the first few."""
    if unreadable.count <= allowed * total:
        return
    for name, reason in list(unreadable.reasons.items())[:_MAX_LOGGED]:
        log.warning("unreadable: %s: %s", name, reason)
    raise UserError(
        f"data.max_unreadable ({allowed}) must be at least the unreadable fraction, {unreadable.count} of {total}; "
        "mend or remove them (the first ones are listed above), or raise data.max_unreadable"
    )
