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

from latentline.core.attributes import Column, all_columns, all_values, columns_from_json
from latentline.core.files import read_sealed_json, require_sha256
from latentline.core.shards import StoredRows, read_rows

MADE_BY = "download"


@dataclass(frozen=True)
class ImageSplit:
    """One split of the prepared images, or the samples."""

    images: StoredRows  # uint8 (N, C, H, W)
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
    images, beside, meta = read_rows(paths, "images", made_by, verify=verify)
    return ImageSplit(images, beside.get("labels"), beside.get("attributes")), meta
