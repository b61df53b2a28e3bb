"""Images on disk: few, large uint8 shards that are read as they are needed; the prepared ones have a card.

data/prepared/card.json                      classes, attributes, shape, licence, source, and per split: count, shards, sha256
data/prepared/train-00000.safetensors        images uint8 (N, C, H, W); labels int64 (N,) and attributes float32 (N, A), where there are any
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentline.common.arrays import load_arrays
from latentline.common.column import Column, all_columns, all_values, columns_from_json
from latentline.common.files import read_sealed_json, require_sha256

MADE_BY = "download"
_MAPPED_IMAGES = 128  # read before the shards are let go; each may have mapped 2 MiB, the largest group of pages
_LOADED_AT_ONCE = 1024  # images, by load()


class MappedImages:
    """Images uint8 (N, C, H, W) in shards, like one tensor that can be indexed, but read from disk when it is.

    Shards are memory-mapped, and let go again after every 128 images or so, so that memory does not grow with the split. Not for
    several threads at once.

    Args:
        paths: the shards.
        counts: images in each.
        shape: (C, H, W).
        made_by: the stage that writes them.
    """

    def __init__(self, paths: list[Path], counts: list[int], shape: tuple[int, ...], made_by: str) -> None:
        self.shape = torch.Size((sum(counts), *shape))
        self._paths, self._made_by = paths, made_by
        self._starts = torch.tensor([0, *counts]).cumsum(0)  # (shards + 1,)
        self._mapped: dict[int, Tensor] = {}
        self._images_read = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Rows (B,) of any order, or a slice -> a copy (B, C, H, W)."""
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(len(self)))
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < len(self)):
            raise IndexError(f"rows {int(rows.min())} to {int(rows.max())} of {len(self)} images")
        images = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8)
        shards = torch.bucketize(rows.contiguous(), self._starts[1:], right=True)
        for shard in shards.unique().tolist():
            here = shards == shard
            images[here] = self._shard(shard)[rows[here] - self._starts[shard]]
        self._account(len(rows))
        return images

    def first(self, count: int) -> "MappedImages":
        """These images, but at most ``count`` of them; nothing is read."""
        counts = self._starts.clamp(max=count).diff()  # (shards,)
        return MappedImages(self._paths, counts.tolist(), self.shape[1:], self._made_by)

    def split(self, size: int) -> Iterator[Tensor]:
        """Consecutive batches of ``size`` images; the last may be smaller."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def load(self) -> Tensor:
        """All images in memory, for a training that has the room."""
        images = torch.empty(self.shape, dtype=torch.uint8)
        for start in range(0, len(self), _LOADED_AT_ONCE):
            images[start : start + _LOADED_AT_ONCE] = self[start : start + _LOADED_AT_ONCE]
        return images

    def _shard(self, shard: int) -> Tensor:
        if shard not in self._mapped:
            self._mapped[shard] = load_arrays(self._paths[shard], self._made_by, verify=False)[0]["images"]
        return self._mapped[shard]

    def _account(self, count: int) -> None:
        """Mapped pages count as memory of this process until the mapping ends; the system's cache keeps them all the same."""
        self._images_read += count
        if self._images_read >= _MAPPED_IMAGES:
            self._mapped.clear()
            self._images_read = 0


@dataclass(frozen=True)
class ImageSplit:
    """One split of the prepared images, or the samples."""

    images: MappedImages
    labels: Tensor | None  # int64 (N,), indices into the card's classes; None = no class label
    attributes: Tensor | None  # float32 (N, A), columns as in the card; None = no attributes

    def __len__(self) -> int:
        return len(self.images)

    @property
    def values(self) -> Tensor:
        """All that is known of the images: float32 (N, A), the class, where there is one, then the attributes."""
        return all_values(len(self), self.labels, self.attributes)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """(images in [-1, 1], labels) in the stored order."""
        for start, images in zip(range(0, len(self), size), self.images.split(size), strict=True):
            yield to_unit_range(images), None if self.labels is None else self.labels[start : start + size]


@dataclass(frozen=True)
class StoreCard:
    """What data/prepared/card.json says."""

    classes: tuple[str, ...]  # empty = no class label
    attributes: tuple[Column, ...]
    shape: tuple[int, int, int]  # (C, H, W)
    horizontal_flip: bool  # a mirrored image is as good as the image
    counts: dict[str, int]
    sha256: dict[str, str]  # of each shard

    @property
    def columns(self) -> tuple[Column, ...]:
        """The class, where there is one, then the attributes."""
        return all_columns(self.classes, self.attributes)


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 (..., C, H, W) -> float32 in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] (clamped) -> uint8, rounded to the nearest level."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def read_card(root: Path) -> StoreCard:
    """Read ``root``/card.json. Raises UserError when it is missing or damaged."""
    card = read_sealed_json(root / "card.json", MADE_BY)
    splits = card["splits"]
    return StoreCard(
        classes=tuple(card["classes"]),
        attributes=columns_from_json(card["attributes"]),
        shape=tuple(card["shape"]),
        horizontal_flip=card["horizontal_flip"],
        counts={name: split["count"] for name, split in splits.items()},
        sha256={shard: digest for split in splits.values() for shard, digest in split["shards"].items()},
    )


def read_split(root: Path, name: str) -> ImageSplit:
    """Read split ``name`` (train, val or test). Raises UserError when a shard is missing or damaged.

    Every byte is read once, to compare the shards with the card's digests; from then on images are read as they are used.
    """
    card = read_card(root)
    shards = sorted(shard for shard in card.sha256 if shard.rsplit("-", 1)[0] == name)
    for shard in shards:
        require_sha256(root / shard, card.sha256[shard], root / "card.json", MADE_BY)
    return read_shards([root / shard for shard in shards], MADE_BY, verify=False)[0]


def read_shards(paths: list[Path], made_by: str, *, verify: bool = True) -> tuple[ImageSplit, dict[str, Any]]:
    """Read what :func:`shards.write_shards` wrote: the images, and the ``meta`` of their shards.

    Args:
        paths: all shards, in order; at least one.
        made_by: the stage that writes them.
        verify: whether to compare each shard with its own sha256, which reads every byte once.

    Raises:
        UserError: a shard is missing or damaged.
    """
    read = [load_arrays(path, made_by, verify=verify) for path in paths]
    parts, meta = [arrays for arrays, _ in read], read[0][1]
    beside = {key: torch.cat([part[key] for part in parts]) for key in ("labels", "attributes") if key in parts[0]}
    images = MappedImages(paths, [len(part["images"]) for part in parts], parts[0]["images"].shape[1:], made_by)
    return ImageSplit(images, beside.get("labels"), beside.get("attributes")), meta
