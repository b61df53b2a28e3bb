"""The prepared images on disk: few, large, memory-mapped uint8 shards and a card.

data/prepared/card.json                      classes, shape, licence, source, and per split: count, shards, sha256
data/prepared/train-00000.safetensors        images uint8 (N, C, H, W), labels int64 (N,)
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.common.arrays import load_arrays, save_arrays
from latentline.common.files import read_json, replaced_folder, sha256_file, write_json
from latentline.data.source import Card, SourceSplit

MADE_BY = "download"
_SHARD_BYTES = 256 << 20


@dataclass(frozen=True)
class ImageSplit:
    """One split: images uint8 (N, C, H, W) and labels int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(images in [-1, 1], labels) in the stored order."""
        for images, labels in zip(self.images.split(size), self.labels.split(size), strict=True):
            yield to_unit_range(images), labels


@dataclass(frozen=True)
class StoreCard:
    """What data/prepared/card.json says."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # (C, H, W)
    counts: dict[str, int]
    sha256: dict[str, str]  # of each shard


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 (..., C, H, W) -> float32 in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] (clamped) -> uint8, rounded to the nearest level."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def write_store(root: Path, card: Card, splits: dict[str, SourceSplit]) -> None:
    """Write shards and card to ``root``, whole or not at all."""
    shape = splits["train"].images.shape[1:]
    with replaced_folder(root) as folder:
        described = {}
        for name, split in splits.items():
            per_shard = max(1, _SHARD_BYTES // int(split.images[0].size))
            shards = {}
            for number, start in enumerate(range(0, len(split.labels), per_shard)):
                path = folder / f"{name}-{number:05d}.safetensors"
                rows = slice(start, start + per_shard)
                arrays = {"images": torch.from_numpy(split.images[rows].copy()), "labels": torch.from_numpy(split.labels[rows].copy())}
                save_arrays(path, arrays, {"kind": "images"})
                shards[path.name] = sha256_file(path)
            described[name] = {"count": len(split.labels), "shards": shards}
        write_json(folder / "card.json", {**asdict(card), "shape": list(shape), "splits": described})


def read_card(root: Path) -> StoreCard:
    """Read ``root``/card.json. Raises UserError when it is missing or not JSON."""
    card = read_json(root / "card.json", MADE_BY)
    splits = card["splits"]
    return StoreCard(
        classes=tuple(card["classes"]),
        shape=tuple(card["shape"]),
        counts={name: split["count"] for name, split in splits.items()},
        sha256={shard: digest for split in splits.values() for shard, digest in split["shards"].items()},
    )


def read_split(root: Path, name: str) -> ImageSplit:
    """Read split ``name`` (train, val or test). Raises UserError when a shard is missing or damaged."""
    shards = sorted(shard for shard in read_card(root).sha256 if shard.rsplit("-", 1)[0] == name)
    parts = [load_arrays(root / shard, MADE_BY)[0] for shard in shards]
    if len(parts) == 1:  # stays memory-mapped
        return ImageSplit(parts[0]["images"], parts[0]["labels"])
    return ImageSplit(torch.cat([part["images"] for part in parts]), torch.cat([part["labels"] for part in parts]))
