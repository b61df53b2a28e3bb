"""Denoiser of vector latents: an MLP with its input in every layer (Preechakul et al., arXiv 2111.15640, appendix)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.nn.embeddings import ConditionEmbedding

_CONDITION = 256  # channels of embedded time and condition; the paper has as many as the latent


class LatentMLP(nn.Module):
    """Network that predicts a vector of the latent's length from a noisy one, its time and its condition.

    The paper's network is ``width=2048, depth=9``: nine hidden layers and the output make its ten.

    Args:
        latent_shape: (D,) of the latents.
        cond_dim: F, length of the condition's vector; 0 = unconditional.
        width: channels of each hidden layer.
        depth: number of hidden layers.
        text_dim: length of the states of captions, whose mean is part of the condition; 0 = no captions.
        average_velocity: whether it predicts average velocities, too: see :mod:`latentline.diffusion.flow_map`.
    """

    def __init__(
        self,
        latent_shape: Sequence[int],
        cond_dim: int,
        width: int,
        depth: int,
        text_dim: int = 0,
        average_velocity: bool = False,
    ) -> None:
        super().__init__()
        (channels,) = latent_shape
        self.embedding = ConditionEmbedding(cond_dim, _CONDITION, average_velocity=average_velocity, text_dim=text_dim)
        inputs = [channels] + [width + channels] * (depth - 1)
        self.layers = nn.ModuleList(_ModulatedLayer(channels_in, width) for channels_in in inputs)
        self.out = nn.Linear(width + channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Condition,
        r: Tensor | None = None,
    ) -> Tensor:
        """Predict (B, D) from z_t (B, D), t (B,) in [0, 1] and the condition of B examples.

        It computes in the type of the weights; the prediction has the type of z_t.

        With ``average_velocity``, r (B,) is the beginning of the interval [r, t]; None = r is t.
        """
        embedded = self.embedding(t, condition, r)  # (B, 256)
        first, *others = self.layers
        z = z_t.to(self.out.weight.dtype)
        h = first(z, embedded)  # (B, width)
        for layer in others:
            h = layer(torch.cat([h, z], dim=1), embedded)  # (B, width)
        return self.out(torch.cat([h, z], dim=1)).to(z_t.dtype)  # (B, D)


class _ModulatedLayer(nn.Module):
    """Linear, scaled by 1 + a projection of the condition, normalised, SiLU, in the order of the authors' code."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels_in, channels_out)
        self.scale = nn.Linear(_CONDITION, channels_out)
        self.norm = nn.LayerNorm(channels_out)
        nn.init.kaiming_normal_(self.linear.weight)

    def forward(self, h: Tensor, embedded: Tensor) -> Tensor:
        """Return (B, channels_out) from h (B, channels_in) and embedded (B, 256)."""
        return F.silu(self.norm(self.linear(h) * (1 + self.scale(embedded))))
