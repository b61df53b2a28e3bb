"""Embeddings of times and conditions as vectors."""

import math

import torch
from torch import Tensor, nn


def sinusoidal(t: Tensor, channels: int, highest: float = 1000.0) -> Tensor:
    """Return sines and cosines of t at geometrically spaced frequencies (arXiv 1706.03762, section 3.5).

    Args:
        t: (B,) times in [0, 1].
        channels: width of the result, even.
        highest: the fastest frequency, in radians per unit of t; the slowest is 1.

    Returns:
        (B, channels).
    """
    frequencies = torch.logspace(0, math.log10(highest), channels // 2, device=t.device, dtype=t.dtype)
    angles = t[:, None] * frequencies  # (B, channels/2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class ConditionEmbedding(nn.Module):
    """Time and condition -> one vector (B, D) that modulates every block.

    The projection of the condition has no bias, so a condition of zeros adds nothing: it is the null condition of
    classifier-free guidance (Ho and Salimans, arXiv 2207.12598).

    Args:
        cond_dim: F, length of the condition's vector; 0 = unconditional.
        channels: D, even.
    """

    def __init__(self, cond_dim: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.time = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.condition: nn.Linear | None = None
        if cond_dim:
            self.condition = nn.Linear(cond_dim, channels, bias=False)
            nn.init.normal_(self.condition.weight, std=0.02)

    def forward(self, t: Tensor, condition: Tensor) -> Tensor:
        """Embed t (B,) in [0, 1] and condition (B, F) as (B, D)."""
        embedded = self.time(sinusoidal(t, self.channels))  # (B, D)
        if self.condition is not None:
            embedded = embedded + self.condition(condition)
        return nn.functional.silu(embedded)
