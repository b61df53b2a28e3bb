"""encoded_img on disk.

encoded_img/stats.json                       latent shape, mean and std per channel, autoencoder's sha256, per split: count, shard sha256
encoded_img/train-00000.safetensors          latents float16 or float32 (N, *latent shape), raw; labels int64 (N,)
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.common.arrays import load_arrays, save_arrays
from latentline.common.errors import UserError
from latentline.common.files import read_json, replaced_folder, sha256_file, write_json
from latentline.latents.normalizer import Normalizer

MADE_BY = "encode_and_cache_latents"


@dataclass(frozen=True)
class LatentStats:
    """What stats.json says: all that sampling needs of the cache."""

    shape: tuple[int, ...]  # (C, H, W) or (D,)
    classes: tuple[str, ...]
    autoencoder: str  # sha256 of the checkpoint that encoded
    normalizer: Normalizer

    def require_autoencoder(self, digest: str) -> None:
        """Raise UserError unless these latents were made by the autoencoder with sha256 ``digest``."""
        if digest != self.autoencoder:
            raise UserError(
                f"encoded_img was made by autoencoder {self.autoencoder[:12]}, but checkpoints/autoencoder holds {digest[:12]}; "
                f"run `dvc repro {MADE_BY}`"
            )


@dataclass(frozen=True)
class LatentSplit:
    """Raw latents (N, C, H, W) or (N, D) and labels (N,)."""

    latents: Tensor
    labels: Tensor


def write_cache(
    root: Path, splits: dict[str, LatentSplit], *, classes: tuple[str, ...], autoencoder: str, scaling: float | None = None
) -> LatentStats:
    """Write every split and the statistics of ``train`` to ``root``, whole or not at all; ``scaling`` takes the place of those measured."""
    train = splits["train"].latents
    normalizer = Normalizer.fit(train) if scaling is None else Normalizer.constant(scaling, train.shape[1:])
    with replaced_folder(root) as folder:
        described = {}
        for name, split in splits.items():
            path = folder / f"{name}-00000.safetensors"
            save_arrays(path, {"latents": split.latents, "labels": split.labels}, {"kind": "latents", "autoencoder": autoencoder})
            described[name] = {"count": len(split.labels), "shards": {path.name: sha256_file(path)}}
        write_json(
            folder / "stats.json",
            {
                "shape": list(train.shape[1:]),
                "classes": list(classes),
                "autoencoder": autoencoder,
                "mean": normalizer.mean.flatten().tolist(),
                "std": normalizer.std.flatten().tolist(),
                "splits": described,
            },
        )
    return read_stats(root / "stats.json")


def read_stats(path: Path) -> LatentStats:
    """Read stats.json. Raises UserError when it is missing or not JSON."""
    stats = read_json(path, MADE_BY)
    shape = tuple(stats["shape"])
    per_channel = (shape[0], *[1] * (len(shape) - 1))  # (C, 1, 1) or (D,)
    mean, std = (torch.tensor(stats[key], dtype=torch.float32).reshape(per_channel) for key in ("mean", "std"))
    return LatentStats(shape, tuple(stats["classes"]), stats["autoencoder"], Normalizer(mean, std))


def read_latents(root: Path, name: str) -> LatentSplit:
    """Read split ``name`` (train, val or test). Raises UserError when it is missing or damaged."""
    arrays, _ = load_arrays(root / f"{name}-00000.safetensors", MADE_BY)
    return LatentSplit(arrays["latents"], arrays["labels"])
