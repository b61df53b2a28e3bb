"""encoded_img on disk.

encoded_img/stats.json                latent shape, mean and std per channel, classes, attributes, autoencoder's sha256, counts, sha256 of shards
encoded_img/train-00000.safetensors   latents float16 or float32 (N, *latent shape), raw; labels int64 (N,), attributes float32 (N, A), where known;
                                      at most 128 MiB of latents, the next ones in train-00001.safetensors
encoded_img/known.safetensors         labels and attributes of (at most 65,536) training images: what samples are drawn for
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from latentline.core.arrays import load_arrays, save_arrays
from latentline.core.attributes import Column, all_columns, all_values, columns_from_json
from latentline.core.errors import UserError
from latentline.core.files import read_sealed_json, replaced_folder, require_sha256, write_sealed_json
from latentline.core.shards import SHARD_BYTES, StoredRows, read_rows, write_rows
from latentline.latents.normalizer import Moments, Normalizer

MADE_BY = "encode_and_cache_latents"
_STATS = "stats.json"
_KIND = "latents"
_MOST_KNOWN = 65_536
L = TypeVar("L", Tensor, StoredRows)


@dataclass(frozen=True)
class LatentStats:
    """What stats.json says: all that sampling needs of the cache, but for known.safetensors."""

    shape: tuple[int, ...]  # (C, H, W) or (D,)
    classes: tuple[str, ...]  # empty = no class label
    attributes: tuple[Column, ...]
    autoencoder: str  # sha256 of the checkpoint that encoded
    normalizer: Normalizer

    @property
    def columns(self) -> tuple[Column, ...]:
        """The class, where there is one, then the attributes."""
        return all_columns(self.classes, self.attributes)

    def require_autoencoder(self, digest: str) -> None:
        """Raise UserError unless these latents were made by the autoencoder with sha256 ``digest``."""
        if digest != self.autoencoder:
            raise UserError(
                f"encoded_img was made by autoencoder {self.autoencoder[:12]}, but checkpoints/autoencoder holds {digest[:12]}; "
                f"run `dvc repro {MADE_BY}`"
            )


@dataclass(frozen=True)
class LatentSplit(Generic[L]):
    """Raw latents (N, C, H, W) or (N, D), in memory or on disk, and what is known of their images: a split, or a portion of one."""

    latents: L
    labels: Tensor | None  # int64 (N,)
    attributes: Tensor | None  # float32 (N, A)

    @property
    def values(self) -> Tensor:
        """All that is known: float32 (N, A), columns as in ``LatentStats.columns``."""
        return all_values(len(self.latents), self.labels, self.attributes)

    @property
    def known(self) -> dict[str, Tensor]:
        """Labels and attributes by name, those that there are."""
        return {name: tensor for name, tensor in (("labels", self.labels), ("attributes", self.attributes)) if tensor is not None}


def write_cache(
    root: Path,
    splits: dict[str, Iterable[LatentSplit[Tensor]]],
    *,
    classes: tuple[str, ...],
    attributes: tuple[Column, ...],
    autoencoder: str,
    scaling: float | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> LatentStats:
    """Write every split and the statistics of ``train`` to ``root``, whole or not at all, holding one shard in memory and no more.

    Args:
        root: the folder.
        splits: consecutive portions of each, asked for one after the other; where they are cut changes no byte.
        classes: names, of the labels.
        attributes: columns of the attributes.
        autoencoder: sha256 of the checkpoint that encoded.
        scaling: takes the place of the statistics measured.
        shard_bytes: of the latents in a shard, at most.
    """
    meta = {"kind": _KIND, "autoencoder": autoencoder}
    with replaced_folder(root) as folder:
        described, train = {}, _Measured()
        for name, portions in splits.items():
            watched = train.watch(portions) if name == "train" else portions
            described[name] = write_rows(folder, name, ({"latents": part.latents, **part.known} for part in watched), meta, shard_bytes)
        normalizer = train.moments.normalizer() if scaling is None else Normalizer.constant(scaling, train.shape)
        save_arrays(folder / "known.safetensors", {name: torch.cat(parts)[:_MOST_KNOWN] for name, parts in train.known.items()}, meta)
        write_sealed_json(
            folder / _STATS,
            {
                "shape": list(train.shape),
                "classes": list(classes),
                "attributes": [asdict(column) for column in attributes],
                "autoencoder": autoencoder,
                "mean": normalizer.mean.flatten().tolist(),
                "std": normalizer.std.flatten().tolist(),
                "splits": described,
            },
        )
    return read_stats(root / _STATS)


class _Measured:
    """What the cache tells of the training latents, gathered while they pass."""

    def __init__(self) -> None:
        self.moments = Moments()
        self.shape: tuple[int, ...] = ()
        self.known: dict[str, list[Tensor]] = {}
        self._count = 0

    def watch(self, portions: Iterable[LatentSplit[Tensor]]) -> Iterator[LatentSplit[Tensor]]:
        """The same portions."""
        for part in portions:
            self.moments.add(part.latents)
            self.shape = tuple(part.latents.shape[1:])
            if self._count < _MOST_KNOWN:
                for name, tensor in part.known.items():
                    self.known.setdefault(name, []).append(tensor)
            self._count += len(part.latents)
            yield part


def read_stats(path: Path) -> LatentStats:
    """Read stats.json. Raises UserError when it is missing or damaged."""
    stats = read_sealed_json(path, MADE_BY)
    shape = tuple(stats["shape"])
    per_channel = (shape[0], *[1] * (len(shape) - 1))  # (C, 1, 1) or (D,)
    mean, std = (torch.tensor(stats[key], dtype=torch.float32).reshape(per_channel) for key in ("mean", "std"))
    return LatentStats(shape, tuple(stats["classes"]), columns_from_json(stats["attributes"]), stats["autoencoder"], Normalizer(mean, std))


def read_latents(root: Path, name: str) -> LatentSplit[StoredRows]:
    """Read split ``name`` (train, val or test). Raises UserError when a shard is missing or damaged.

    Every byte is read once, to compare the shards with the digests in stats.json; from then on latents are read as they are used.
    """
    described = read_sealed_json(root / _STATS, MADE_BY)["splits"][name]["shards"]
    paths = [root / shard for shard in sorted(described)]
    for path in paths:
        require_sha256(path, described[path.name], root / _STATS, MADE_BY)
    latents, beside, _ = read_rows(paths, "latents", MADE_BY, verify=False)
    return LatentSplit(latents, beside.get("labels"), beside.get("attributes"))


def read_known(path: Path) -> Tensor:
    """Values (N, A) of training images, columns as in ``LatentStats.columns``; (0, 0) where nothing is known.

    Raises UserError when missing or damaged.
    """
    arrays, _ = load_arrays(path, MADE_BY, kind=_KIND)
    return all_values(len(next(iter(arrays.values()), ())), arrays.get("labels"), arrays.get("attributes"))
