"""encoded_img on disk. Each entry is an out of its own for DVC, so that a stage depends on no more than it reads.

encoded_img/latents/             train-00000.safetensors, ...: raw latents float16 or float32 (N, *latent_shape), with
                                 their labels (:mod:`latentline.core.labels`); at most 128 MiB of latents in a shard
encoded_img/stats.json           shape, mean and std of the latents, schema of the labels, sha256 of the autoencoder,
                                 counts and sha256 of the shards
encoded_img/labels.safetensors   labels of (at most 65,536) training images, which samples are conditioned on
encoded_img/export/              all latents for other tools (``latents.export``)
encoded_img/text/                tokens of the captions (:mod:`latentline.latents.tokens`)
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.errors import UserError
from latentline.core.files import (
    read_sealed_json,
    refusing_earlier_versions,
    replaced_folder,
    require_sha256,
    write_sealed_json,
)
from latentline.core.labels import (
    LabelTable,
    Schema,
    class_names,
    read_labelled_rows,
    schema_from_json,
    schema_to_json,
    write_labelled_rows,
)
from latentline.core.paths import LATENT_LABELS, LATENT_SHARDS, LATENT_STATS
from latentline.core.shards import SHARD_BYTES, ShardedArray
from latentline.latents.normalizer import Moments, Normalizer

MADE_BY = "encode_and_cache_latents"
_KIND = "latents"
_MAX_LABELS = 65_536
L = TypeVar("L", Tensor, ShardedArray)


@dataclass(frozen=True)
class LatentStats:
    """Content of stats.json. Sampling needs this and labels.safetensors, and no latents."""

    shape: tuple[int, ...]  # (C, H, W) or (D,)
    schema: Schema
    autoencoder: str  # sha256 of the checkpoint that encoded
    normalizer: Normalizer

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where the images have no class label."""
        return class_names(self.schema)

    def require_autoencoder(self, digest: str) -> None:
        """Raise UserError unless the autoencoder with sha256 ``digest`` made these latents."""
        if digest != self.autoencoder:
            raise UserError(
                f"encoded_img (autoencoder {self.autoencoder[:12]}) must be encoded by checkpoints/autoencoder "
                f"({digest[:12]}); run `dvc repro {MADE_BY}`"
            )


@dataclass(frozen=True)
class LatentSplit(Generic[L]):
    """Raw latents (N, C, H, W) or (N, D) of a split or a part of one, in memory or on disk, and their labels."""

    latents: L
    labels: LabelTable


def write_cache(
    root: Path,
    splits: dict[str, Iterable[LatentSplit[Tensor]]],
    *,
    schema: Schema,
    autoencoder: str,
    scaling: float | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> LatentStats:
    """Write every split, the statistics and the labels of ``train`` below ``root``; at most one shard is in memory.

    stats.json is written last and holds the sha256 of all shards, so it exists only beside latents that are complete.

    Args:
        root: the repository, or a folder like it.
        splits: consecutive parts of each split, of any size; their sizes change no byte.
        schema: of the labels.
        autoencoder: sha256 of the checkpoint that encoded.
        scaling: factor that replaces the measured statistics; None = measure.
        shard_bytes: of the latents in a shard, at most.
    """
    meta = {"kind": _KIND, "autoencoder": autoencoder}
    (root / LATENT_STATS).unlink(missing_ok=True)
    train = _TrainStatistics()
    with replaced_folder(root / LATENT_SHARDS) as folder:
        described = {}
        for name, parts in splits.items():
            measured = train.measure(parts) if name == "train" else parts
            rows = ((part.latents, part.labels) for part in measured)
            described[name] = write_labelled_rows(folder, name, "latents", rows, meta, shard_bytes)
    labels = LabelTable(schema, torch.cat(train.labels)[:_MAX_LABELS])
    save_arrays(root / LATENT_LABELS, labels.arrays(), {**meta, "count": len(labels)})
    normalizer = train.moments.normalizer() if scaling is None else Normalizer.constant(scaling, train.shape)
    write_sealed_json(
        root / LATENT_STATS,
        {
            "shape": list(train.shape),
            "schema": schema_to_json(schema),
            "autoencoder": autoencoder,
            "mean": normalizer.mean.flatten().tolist(),
            "std": normalizer.std.flatten().tolist(),
            "splits": described,
        },
    )
    return read_stats(root)


class _TrainStatistics:
    """Moments of the training latents, and labels of their images."""

    def __init__(self) -> None:
        self.moments = Moments()
        self.shape: tuple[int, ...] = ()
        self.labels: list[Tensor] = []
        self._count = 0

    def measure(self, parts: Iterable[LatentSplit[Tensor]]) -> Iterator[LatentSplit[Tensor]]:
        """Yield the same parts, and measure each."""
        for part in parts:
            self.moments.add(part.latents)
            self.shape = tuple(part.latents.shape[1:])
            if self._count < _MAX_LABELS:
                self.labels.append(part.labels.values)
            self._count += len(part.latents)
            yield part


def read_stats(root: Path = Path()) -> LatentStats:
    """Read ``root``/encoded_img/stats.json. Raises UserError when it is missing, damaged or of an earlier version."""
    path = root / LATENT_STATS
    stats = read_sealed_json(path, MADE_BY)
    with refusing_earlier_versions(path, MADE_BY):
        shape = tuple(stats["shape"])
        per_channel = (shape[0], *[1] * (len(shape) - 1))  # (C, 1, 1) or (D,)
        mean, std = (torch.tensor(stats[key], dtype=torch.float32).reshape(per_channel) for key in ("mean", "std"))
        return LatentStats(shape, schema_from_json(stats["schema"]), stats["autoencoder"], Normalizer(mean, std))


def read_latents(name: str, root: Path = Path()) -> LatentSplit[ShardedArray]:
    """Read split ``name`` (train, val or test).

    Every byte is read once, to compare the shards with the digests in stats.json. Later, latents are read when they are
    used.

    Raises:
        UserError: a shard is missing or damaged, or stats.json is of an earlier version.
    """
    stats = read_sealed_json(root / LATENT_STATS, MADE_BY)
    with refusing_earlier_versions(root / LATENT_STATS, MADE_BY):
        described, schema = stats["splits"][name]["shards"], schema_from_json(stats["schema"])
    paths = [root / LATENT_SHARDS / shard for shard in sorted(described)]
    for path in paths:
        require_sha256(path, described[path.name], root / LATENT_STATS, MADE_BY)
    latents, labels, _ = read_labelled_rows(paths, "latents", schema, MADE_BY, verify=False)
    return LatentSplit(latents, labels)


def read_labels(schema: Schema, root: Path = Path()) -> LabelTable:
    """Read the labels of training images. Raises UserError for a missing, damaged or old file."""
    path = root / LATENT_LABELS
    arrays, meta = load_arrays(path, MADE_BY, kind=_KIND)
    with refusing_earlier_versions(path, MADE_BY):
        return LabelTable.from_arrays(schema, arrays, meta["count"])
