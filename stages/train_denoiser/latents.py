"""The cached latents of a split, as training and validation read them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.core.labels import LabelTable
from latentline.core.shards import ShardedArray
from latentline.denoisers.conditioning import Conditioning
from latentline.latents.cache import LatentStats, read_latents
from latentline.latents.normalizer import Normalizer
from latentline.training.config import resident


@dataclass(frozen=True)
class Latents:
    """One split: raw latents, in memory where they fit and else on disk, and the conditions of their images."""

    raw: Tensor | ShardedArray  # (N, *latent_shape)
    labels: LabelTable  # of N images, on the CPU
    conditioning: Conditioning
    normalizer: Normalizer
    device: torch.device

    def __len__(self) -> int:
        return len(self.raw)

    def z0(self, rows: Tensor | slice) -> Tensor:
        """Return standardised latents (B, *latent_shape) on the device."""
        return self.normalizer.standardise(self.raw[rows].to(self.device))

    def condition(self, rows: Tensor | slice) -> Condition:
        """Return the condition of some images (B,), on the device. That of all would not fit for many classes."""
        return self.conditioning.encode(self.labels[rows]).to(self.device)

    def prefetch(self, rows: Tensor) -> None:
        """Read the next rows (B,) from disk in the background."""
        if isinstance(self.raw, ShardedArray):
            self.raw.prefetch(rows)


def read_split(name: str, stats: LatentStats, conditioning: Conditioning, device: torch.device) -> Latents:
    """Read split ``name`` of encoded_img; ``stats`` are the statistics of the cache."""
    split = read_latents(name)
    return Latents(resident(split.latents, device), split.labels, conditioning, stats.normalizer, device)
