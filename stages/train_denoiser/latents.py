"""The cached latents of a split, as training and validation read them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.core.labels import LabelTable
from latentline.denoisers.conditioning import Conditioning
from latentline.latents.cache import LatentStats, read_latents
from latentline.latents.normalizer import Normalizer
from latentline.latents.tokens import read_tokens
from latentline.training.config import resident
from latentline.training.step_inputs import Inputs, RowSource

_MOST_ROWS, _MOST_NUMBERS = 500, 2**23  # of a batch without gradients
_PREFIX = "condition."  # of the parts of a condition among a step's inputs


@dataclass(frozen=True)
class Latents:
    """One split: raw latents, in memory where they fit and else on disk, and the conditions of their images."""

    source: RowSource  # (N, *latent_shape)
    labels: LabelTable  # of N images, on the CPU
    conditioning: Conditioning
    normalizer: Normalizer
    device: torch.device
    tokens: Tensor | None = None  # of the captions, int32 (N, L), on the CPU; None = not conditioned on captions

    def __len__(self) -> int:
        return len(self.labels)

    def z0(self, rows: Tensor | slice) -> Tensor:
        """Return standardised latents (B, *latent_shape) on the device."""
        return self.normalizer.standardise(self.source.array[rows].to(self.device))

    def condition(self, rows: Tensor | slice) -> Condition:
        """Return the condition of some images (B,), on the device. That of all would not fit for many classes."""
        return self._condition(rows).to(self.device)

    def inputs(self, rows: Tensor) -> Inputs:
        """Return what :meth:`batch` needs of ``rows`` int64 (B,), on the CPU."""
        condition = self._condition(rows)
        return {**self.source.inputs(rows), **{_PREFIX + name: part for name, part in condition.tensors().items()}}

    def batch(self, inputs: Inputs) -> tuple[Tensor, Condition]:
        """Return standardised latents (B, *latent_shape) and their condition, from inputs on the device."""
        parts = {
            name.removeprefix("condition."): part for name, part in inputs.items() if name.startswith("condition.")
        }
        return self.normalizer.standardise(self.source.batch(inputs)), Condition(**parts)

    def _condition(self, rows: Tensor | slice) -> Condition:
        return self.conditioning.encode(self.labels[rows], None if self.tokens is None else self.tokens[rows])


def rows_without_gradients(latent_shape: Sequence[int]) -> int:
    """Return how many latents the network takes at once where nothing is learnt."""
    return max(1, min(_MOST_ROWS, _MOST_NUMBERS // math.prod(latent_shape)))


def read_split(name: str, stats: LatentStats, conditioning: Conditioning, device: torch.device) -> Latents:
    """Read split ``name`` of encoded_img; ``stats`` are the statistics of the cache."""
    split = read_latents(name)
    tokens = None if conditioning.tokenizer is None else read_tokens(name, conditioning.tokenizer)
    source, normalizer = resident(split.latents, device), stats.normalizer.to(device)
    return Latents(source, split.labels, conditioning, normalizer, device, tokens)
