"""From a source to data/prepared: look at every image once, cut the splits, decode, write; the same bytes for any number of workers."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from latentline.core.attributes import with_statistics
from latentline.core.errors import UserError
from latentline.core.files import replaced_folder, write_sealed_json
from latentline.core.labels import LabelTable, Schema, build_schema, schema_to_json, write_labelled_rows
from latentline.data.decode import Shape, UnreadableError
from stages.download.images import Images, content_digest
from stages.download.scan import Survey, survey, target_shape
from stages.download.source import Source
from stages.download.splits import Member, content_keys, cut_splits
from stages.download.workers import ordered_map

log = logging.getLogger(__name__)

_CHUNK = 64  # images a worker prepares in one go
_LOGGED = 10  # unreadable images named in the log before an error


@dataclass(frozen=True)
class Options:
    """The knobs of section ``data`` that shape the prepared images; see params/data.py."""

    image_size: tuple[int, int] | None  # (H, W)
    channels: int | None
    shares: dict[str, float]
    limit: int | None
    max_unreadable: float
    horizontal_flip: bool
    seed: int
    workers: int


@dataclass
class Tally:
    """What is counted while a split is written."""

    published: str  # the publisher's split that its images come from
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    digests: list[NDArray[np.void]] = field(default_factory=list)  # 16 bytes each, of the prepared pixels
    total: int = 0  # sum of all pixel values: integers, so that no order of adding changes them
    squares: int = 0

    @property
    def count(self) -> int:
        """Images written."""
        return sum(len(rows) for rows in self.rows)


@dataclass(frozen=True)
class Report:
    """What preparation found."""

    tallies: dict[str, Tally]
    unreadable: dict[str, str]  # name -> reason
    shape: Shape


def prepare(source: Source, root: Path, options: Options) -> Report:
    """Write ``source`` to ``root``, whole or not at all.

    Raises:
        UserError: more unreadable images than allowed, or too few images for the splits.
    """
    surveys = {name: survey(split.images, options.workers) for name, split in source.splits.items()}
    unreadable = {name: reason for found in surveys.values() for name, reason in found.unreadable.items()}
    total = sum(len(split.images) for split in source.splits.values())
    _check_unreadable(unreadable, total, options.max_unreadable)
    shape = target_shape(list(surveys.values()), options.image_size, options.channels)
    members = cut_splits({name: _keyed(found, options.seed) for name, found in surveys.items()}, options.shares)
    tallies = {}
    described = {}
    with replaced_folder(root) as folder:
        for name, member in members.items():
            tallies[name] = Tally(member.published)
            batches = _batches(source, member, shape, options, tallies[name], unreadable)
            described[name] = write_labelled_rows(folder, name, "images", batches, {"kind": "images"})
            if not tallies[name].count:
                raise UserError(
                    f"data: split {name} is left without a readable image; expected at least one; mend or add images"
                )
        _check_unreadable(unreadable, total, options.max_unreadable)
        card = asdict(source.card)
        del card["classes"], card["attributes"]
        card["schema"] = schema_to_json(_measured(source, tallies["train"]))
        card |= {"shape": list(shape), "horizontal_flip": options.horizontal_flip, "splits": described}
        write_sealed_json(folder / "card.json", card)
    return Report(tallies, unreadable, shape)


@dataclass(frozen=True)
class _Prepared:
    """Those images of a chunk that could be read, and why others could not."""

    images: NDArray[np.uint8]  # (n, C, H, W)
    rows: NDArray[np.int64]  # (n,)
    digests: NDArray[np.void]  # (n,), 16 bytes each
    totals: NDArray[np.int64]  # (n,)
    squares: NDArray[np.int64]  # (n,)
    unreadable: dict[str, str]

    def first(self, count: int) -> "_Prepared":
        return _Prepared(
            self.images[:count],
            self.rows[:count],
            self.digests[:count],
            self.totals[:count],
            self.squares[:count],
            self.unreadable,
        )


def _prepare_rows(images: Images, shape: Shape, rows: NDArray[np.int64]) -> _Prepared:
    """Runs in a worker."""
    kept, pixels, unreadable = [], [], {}
    for row in rows.tolist():
        try:
            pixels.append(images.pixels(row, shape))
            kept.append(row)
        except UnreadableError as error:
            unreadable[images.name(row)] = str(error)
    block = np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8)
    digests = np.array([content_digest(image.tobytes()) for image in block], np.dtype("V16"))
    values = block.reshape(len(block), -1).astype(np.int64)
    return _Prepared(
        block, np.array(kept, np.int64), digests, values.sum(axis=1), np.square(values).sum(axis=1), unreadable
    )


def _batches(
    source: Source, member: Member, shape: Shape, options: Options, tally: Tally, unreadable: dict[str, str]
) -> Iterator[tuple[Tensor, LabelTable]]:
    """Yield the split's images and their labels in order, up to the limit; keep the tally."""
    left = min(options.limit or len(member.rows), len(member.rows))
    chunks = (member.rows[start : start + _CHUNK] for start in range(0, len(member.rows), _CHUNK))
    split, labels = source.splits[member.published], _labels(source, member.published)
    workers = options.workers if split.images.encoded else 0
    with tqdm(total=left, desc="prepare", unit=" images", disable=None, mininterval=1) as bar:
        for chunk in ordered_map(partial(_prepare_rows, split.images, shape), chunks, workers):
            done = chunk.first(left)
            unreadable |= done.unreadable
            tally.rows.append(done.rows)
            tally.digests.append(done.digests)
            tally.total += int(done.totals.sum())
            tally.squares += int(done.squares.sum())
            yield torch.from_numpy(done.images), labels[torch.from_numpy(done.rows)]
            bar.update(len(done.rows))
            left -= len(done.rows)
            if not left:
                return


def _measured(source: Source, train: Tally) -> Schema:
    """Return the schema; attributes that are numbers have their mean and standard deviation over the training images."""
    rows = torch.from_numpy(np.concatenate(train.rows))
    labels = _labels(source, train.published)[rows]
    return with_statistics(labels.schema, labels.values)


def _labels(source: Source, published: str) -> LabelTable:
    """Return the labels of one of the publisher's splits; the schema has no statistics yet."""
    split, card = source.splits[published], source.card
    arrays = {"labels": split.labels, "attributes": split.attributes}
    given = {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}
    schema = build_schema(card.classes, () if split.attributes is None else card.attributes)
    return LabelTable.from_arrays(schema, given, len(split.images))


def _keyed(found: Survey, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return found.rows, content_keys(found.digests, seed)


def _check_unreadable(unreadable: dict[str, str], total: int, allowed: float) -> None:
    """Raise UserError when more than the share ``allowed`` of ``total`` images cannot be used; the first few are logged before that."""
    if len(unreadable) <= allowed * total:
        return
    for name, reason in list(unreadable.items())[:_LOGGED]:
        log.warning("unreadable: %s: %s", name, reason)
    raise UserError(
        f"data.max_unreadable: {len(unreadable)} of {total} images are unreadable, expected at most a share of {allowed}; "
        f"mend or remove them (the first ones are listed above), or raise data.max_unreadable"
    )
