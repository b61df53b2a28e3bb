"""Numbers and labels as vectors."""

import math

import torch
from torch import Tensor, nn


def sinusoidal(t: Tensor, channels: int, highest: float = 1000.0) -> Tensor:
    """Sines and cosines of t at geometrically spaced frequencies (Vaswani et al., arXiv 1706.03762, section 3.5).

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
    """Time and class label -> one vector (B, D) that modulates every residual block.

    Label ``classes`` (one past the last) stands for "no label": the null token of classifier-free guidance
    (Ho and Salimans, arXiv 2207.12598).

    Args:
        classes: number of classes; 0 = unconditional.
        channels: D.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.time = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.label = nn.Embedding(classes + 1, channels)
        nn.init.normal_(self.label.weight, std=0.02)

    def forward(self, t: Tensor, label: Tensor) -> Tensor:
        """T (B,) in [0, 1], label (B,) int64 in 0..classes -> (B, D)."""
        embedded = self.time(sinusoidal(t, self.channels)) + self.label(label)
        return nn.functional.silu(embedded)
