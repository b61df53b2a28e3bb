"""Prepared images on disk: few, large uint8 shards that are read when they are used.

data/prepared/card.json                  schema of the labels, shape, licence, source; per split: count, shards, sha256
data/prepared/train-00000.safetensors    images uint8 (N, C, H, W) and their labels (:mod:`latentline.core.labels`)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from latentline.core.files import read_sealed_json, refusing_earlier_versions, require_sha256
from latentline.core.labels import LabelTable, Schema, class_names, read_labelled_rows, schema_from_json
from latentline.core.shards import ShardedArray
from latentline.data.decode import ValueRange

MADE_BY = "download"


@dataclass(frozen=True)
class ImageSplit:
    """One split of the prepared images, or the samples."""

    images: ShardedArray  # uint8 (N, C, H, W)
    labels: LabelTable

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield images (B, C, H, W) in [-1, 1], in the stored order."""
        return map(to_unit_range, self.images.split(size))


@dataclass(frozen=True)
class StoreCard:
    """Content of data/prepared/card.json."""

    schema: Schema
    shape: tuple[int, int, int]  # (C, H, W)
    horizontal_flip: bool  # True: the autoencoder trains on mirrored images too
    counts: dict[str, int]
    sha256: dict[str, str]  # of each shard
    value_range: ValueRange | None = None  # stored values of image files that became 0 and 255
    captions: dict[str, str] = field(default_factory=dict)  # split -> sha256; empty = the images have no captions

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where the images have no class label."""
        return class_names(self.schema)


def to_unit_range(images: Tensor) -> Tensor:
    """Scale uint8 (..., C, H, W) to float32 in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Scale floats in [-1, 1], clamped, to uint8, rounded to the nearest level."""
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def read_card(root: Path) -> StoreCard:
    """Read ``root``/card.json. Raises UserError when it is missing, damaged or of an earlier version."""
    path = root / "card.json"
    card = read_sealed_json(path, MADE_BY)
    with refusing_earlier_versions(path, MADE_BY):
        splits = card["splits"]
        return StoreCard(
            schema=schema_from_json(card["schema"]),
            shape=tuple(card["shape"]),
            horizontal_flip=card["horizontal_flip"],
            counts={name: split["count"] for name, split in splits.items()},
            sha256={shard: digest for split in splits.values() for shard, digest in split["shards"].items()},
            value_range=tuple(card["value_range"]) if "value_range" in card else None,
            captions={name: split["sha256"] for name, split in card.get("captions", {}).items()},
        )


def read_split(root: Path, name: str) -> ImageSplit:
    """Read split ``name`` (train, val or test).

    Every byte is read once, to compare the shards with the card's digests. Later, images are read when they are used.

    Raises:
        UserError: a shard is missing or damaged.
    """
    card = read_card(root)
    shards = sorted(shard for shard in card.sha256 if shard.rsplit("-", 1)[0] == name)
    for shard in shards:
        require_sha256(root / shard, card.sha256[shard], root / "card.json", MADE_BY)
    paths = [root / shard for shard in shards]
    images, labels, _ = read_labelled_rows(paths, "images", card.schema, MADE_BY, verify=False)
    return ImageSplit(images, labels)
