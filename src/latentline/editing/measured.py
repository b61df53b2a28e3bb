"""The training latents on which directions, and the unit of their strengths, are measured."""

import math

import torch
from torch import Tensor

from latentline.core.seeds import generator
from latentline.latents.cache import LatentStats, read_latents

_MAX_NUMBERS = 1 << 28  # 1 GiB


def measured_latents(seed: int, stats: LatentStats) -> tuple[Tensor, Tensor]:
    """Read standardised flat training latents (N, F), at most 1 GiB of them, and the values (N, A) of their labels."""
    train = read_latents("train")
    most = _MAX_NUMBERS // math.prod(stats.shape)
    rows = torch.randperm(len(train.labels), generator=generator(seed, "manipulate", "measured"))[:most].sort()[0]
    return stats.normalizer.standardise(train.latents[rows]).flatten(1), train.labels.values[rows]
