"""encoded_img on disk.

encoded_img/stats.json                latent shape, mean and std per channel, classes, attributes, autoencoder's sha256, counts, sha256 of shards
encoded_img/train-00000.safetensors   latents float16 or float32 (N, *latent shape), raw; labels int64 (N,), attributes float32 (N, A), where known
encoded_img/known.safetensors         labels and attributes of (at most 65,536) training images: what samples are drawn for
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.common.arrays import load_arrays, save_arrays
from latentline.common.column import Column, all_columns, all_values, columns_from_json
from latentline.common.errors import UserError
from latentline.common.files import read_sealed_json, replaced_folder, require_sha256, sha256_file, write_sealed_json
from latentline.latents.normalizer import Normalizer

MADE_BY = "encode_and_cache_latents"
_STATS = "stats.json"
_KIND = "latents"
_MOST_KNOWN = 65_536


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
class LatentSplit:
    """Raw latents (N, C, H, W) or (N, D), and what is known of their images."""

    latents: Tensor
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
    splits: dict[str, LatentSplit],
    *,
    classes: tuple[str, ...],
    attributes: tuple[Column, ...],
    autoencoder: str,
    scaling: float | None = None,
) -> LatentStats:
    """Write every split and the statistics of ``train`` to ``root``, whole or not at all; ``scaling`` takes the place of those measured."""
    train = splits["train"]
    normalizer = Normalizer.fit(train.latents) if scaling is None else Normalizer.constant(scaling, train.latents.shape[1:])
    meta = {"kind": _KIND, "autoencoder": autoencoder}
    with replaced_folder(root) as folder:
        described = {}
        for name, split in splits.items():
            path = folder / f"{name}-00000.safetensors"
            save_arrays(path, {"latents": split.latents, **split.known}, meta)
            described[name] = {"count": len(split.latents), "shards": {path.name: sha256_file(path)}}
        save_arrays(folder / "known.safetensors", {name: tensor[:_MOST_KNOWN] for name, tensor in train.known.items()}, meta)
        write_sealed_json(
            folder / _STATS,
            {
                "shape": list(train.latents.shape[1:]),
                "classes": list(classes),
                "attributes": [asdict(column) for column in attributes],
                "autoencoder": autoencoder,
                "mean": normalizer.mean.flatten().tolist(),
                "std": normalizer.std.flatten().tolist(),
                "splits": described,
            },
        )
    return read_stats(root / _STATS)


def read_stats(path: Path) -> LatentStats:
    """Read stats.json. Raises UserError when it is missing or damaged."""
    stats = read_sealed_json(path, MADE_BY)
    shape = tuple(stats["shape"])
    per_channel = (shape[0], *[1] * (len(shape) - 1))  # (C, 1, 1) or (D,)
    mean, std = (torch.tensor(stats[key], dtype=torch.float32).reshape(per_channel) for key in ("mean", "std"))
    return LatentStats(shape, tuple(stats["classes"]), columns_from_json(stats["attributes"]), stats["autoencoder"], Normalizer(mean, std))


def read_latents(root: Path, name: str) -> LatentSplit:
    """Read split ``name`` (train, val or test). Raises UserError when it is missing or damaged."""
    path = root / f"{name}-00000.safetensors"
    described = read_sealed_json(root / _STATS, MADE_BY)["splits"][name]["shards"]
    require_sha256(path, described[path.name], root / _STATS, MADE_BY)
    arrays, _ = load_arrays(path, MADE_BY, verify=False)
    return LatentSplit(arrays["latents"], arrays.get("labels"), arrays.get("attributes"))


def read_known(path: Path) -> Tensor:
    """Values (N, A) of training images, columns as in ``LatentStats.columns``; (0, 0) where nothing is known.

    Raises UserError when missing or damaged.
    """
    arrays, _ = load_arrays(path, MADE_BY, kind=_KIND)
    return all_values(len(next(iter(arrays.values()), ())), arrays.get("labels"), arrays.get("attributes"))
