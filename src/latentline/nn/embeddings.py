"""Embeddings of times and conditions as vectors."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from latentline.core.condition import Condition


def sinusoidal(t: Tensor, frequencies: Tensor) -> Tensor:
    """Return sines, then cosines, of t at each frequency (arXiv 1706.03762, section 3.5).

    Args:
        t: (B,).
        frequencies: (F,) in radians per unit of t.

    Returns:
        (B, 2 F), in float32 or, for times in float64, in float64.
    """
    angles = t[:, None] * frequencies  # (B, F)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def geometric_frequencies(channels: int, highest: float = 1000.0) -> Tensor:
    """Return float32 (channels / 2,) frequencies that rise geometrically from 1 to ``highest``."""
    return torch.logspace(0, math.log10(highest), channels // 2, dtype=torch.float32)


def transformer_frequencies(channels: int, scale: float = 1.0) -> Tensor:
    """Return float32 (channels / 2,) frequencies ``scale`` * 10000^(-2 i / channels): arXiv 1706.03762, section 3.5."""
    half = channels // 2
    return scale * torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)


_INTERVAL_FREQUENCY = 30.0  # radians per unit of t: the fastest feature of an interval's length


class TimeFeatures(nn.Module):
    """Sines and cosines of the time in float32, also where the rest of a network is cast to fewer bits.

    Args:
        channels: width of the result, even.
        scale: the fastest frequency in radians per unit of t, of :func:`transformer_frequencies`; None = 1 to 1000, of
            :func:`geometric_frequencies`.
    """

    def __init__(self, channels: int, scale: float | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.scale = scale
        self.frequencies: Tensor
        # It follows from the constructor's arguments, so that no checkpoint needs it.
        self.register_buffer("frequencies", self._frequencies(), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Return (B, channels) of t (B,) in [0, 1]."""
        return sinusoidal(t, self.frequencies)

    def _frequencies(self) -> Tensor:
        if self.scale is None:
            return geometric_frequencies(self.channels)
        return transformer_frequencies(self.channels, self.scale)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "TimeFeatures":
        """Move the frequencies where the module goes, with all their bits. They are computed on the CPU.

        Rounded frequencies would be other ones, and MPS has no kernel of ``logspace``.
        """
        super()._apply(fn, recurse)
        self.frequencies = self._frequencies().to(self.frequencies.device)
        return self


class ConditionEmbedding(nn.Module):
    """Time and condition -> one vector (B, D) that modulates every block.

    The projection of the condition has no bias, so a condition of zeros adds nothing: it is the null condition of
    classifier-free guidance (Ho and Salimans, arXiv 2207.12598).

    Captions count by the mean of their states, so that words reach blocks without cross-attention, too (as in GLIDE,
    Nichol et al., arXiv 2112.10741, section 3).

    Args:
        cond_dim: F, length of the condition's vector; 0 = there is none.
        channels: D, even.
        features: of the time; None = D of them, at frequencies from 1 to 1000 radians per unit of t.
        average_velocity: whether the beginning r of an interval [r, t] is an input, too
            (:mod:`latentline.diffusion.flow_map`). Its last layer starts at zero.
        text_dim: length of the states of captions; 0 = no captions.
    """

    def __init__(
        self,
        cond_dim: int,
        channels: int,
        features: TimeFeatures | None = None,
        *,
        average_velocity: bool = False,
        text_dim: int = 0,
    ) -> None:
        super().__init__()
        self.features = TimeFeatures(channels) if features is None else features
        self.time = nn.Sequential(nn.Linear(self.features.channels, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.condition: nn.Linear | None = None
        if cond_dim + text_dim:
            self.condition = nn.Linear(cond_dim + text_dim, channels, bias=False)
            nn.init.normal_(self.condition.weight, std=0.02)
        self.interval: nn.Sequential | None = None
        if average_velocity:
            self.interval_features = TimeFeatures(channels, _INTERVAL_FREQUENCY)
            last = nn.Linear(channels, channels)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.interval = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), last)

    def forward(self, t: Tensor, condition: Condition, r: Tensor | None = None) -> Tensor:
        """Embed t (B,) in [0, 1] and the condition of B examples as (B, D), in the type of the weights.

        With ``average_velocity`` r (B,) in [0, t] is embedded too; None = r is t.
        """
        dtype = cast(nn.Linear, self.time[-1]).weight.dtype
        embedded = self.time(self.features(t).to(dtype))  # (B, D)
        if self.condition is not None:
            embedded = embedded + self.condition(_pooled(condition).to(dtype))
        if self.interval is not None:
            length = torch.zeros_like(t) if r is None else t - r
            embedded = embedded + self.interval(self.interval_features(length).to(dtype))
        return nn.functional.silu(embedded)


def _pooled(condition: Condition) -> Tensor:
    """Return the vector (B, F) of a condition or, with states, (B, F + D): their mean over the tokens follows it."""
    if condition.tokens is None or condition.mask is None:
        return condition.vector
    weight = condition.mask[..., None].to(condition.tokens.dtype)  # (B, L, 1)
    mean = (condition.tokens * weight).sum(dim=1) / weight.sum(dim=1)  # (B, D)
    return torch.cat([condition.vector.to(mean.dtype), mean], dim=1)
