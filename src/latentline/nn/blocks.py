"""Residual block, self-attention and resampling for maps of any size, odd ones included."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GROUPS = 8  # normalisation groups; every width is a multiple of it


def group_norm(channels: int, groups: int = _GROUPS, eps: float = 1e-5) -> nn.GroupNorm:
    """Return GroupNorm (Wu and He, arXiv 1803.08494): statistics per image, so that the batch does not matter."""
    return nn.GroupNorm(groups, channels, eps=eps)


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution, which keeps the map size at stride 1 and gives ceil(size / 2) at stride 2."""
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1)


class ResBlock(nn.Module):
    """norm -> SiLU -> conv, twice, plus the input (He et al., arXiv 1603.05027).

    With ``condition_channels`` the second norm is scaled and shifted by a projection of the condition: adaptive group
    normalisation (Dhariwal and Nichol, arXiv 2105.05233, eq. 7). The last convolution starts at zero, so a new block is
    the identity.

    Args:
        channels_in: C of the input.
        channels_out: C of the output. Where it differs from ``channels_in``, the skip is a 1x1 convolution.
        condition_channels: D of the condition; None = no condition.
        norm: channels -> normalisation of a map.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        condition_channels: int | None = None,
        norm: Callable[[int], nn.GroupNorm] = group_norm,
    ) -> None:
        super().__init__()
        self.norm_in = norm(channels_in)
        self.conv_in = conv3x3(channels_in, channels_out)
        self.norm_out = norm(channels_out)
        self.conv_out = conv3x3(channels_out, channels_out)
        self.skip = (
            nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, kernel_size=1)
        )
        self.modulation = None if condition_channels is None else nn.Linear(condition_channels, 2 * channels_out)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(cast(Tensor, self.conv_out.bias))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map x (B, channels_in, H, W) and condition (B, D) to (B, channels_out, H, W)."""
        h = self.conv_in(F.silu(self.norm_in(x)))  # (B, channels_out, H, W)
        h = self.norm_out(h)
        if self.modulation is not None:
            if condition is None:
                raise ValueError("condition (None) must be a tensor for a block with condition_channels; pass one")
            scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)  # (B, channels_out, 1, 1) each
            h = torch.addcmul(shift, h, 1 + scale)
        return self.skip(x) + self.conv_out(F.silu(h))


class SelfAttention2d(nn.Module):
    """Residual self-attention over the positions of a map (Vaswani et al., arXiv 1706.03762), starting as the identity.

    Args:
        channels: C, a multiple of the number of heads.
        heads: number of heads.
        causal: whether a position attends only to itself and to earlier ones, row by row from the top left.
        norm: channels -> normalisation of a map.
    """

    def __init__(
        self, channels: int, heads: int, *, causal: bool = False, norm: Callable[[int], nn.GroupNorm] = group_norm
    ) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1)
        self.out = nn.Conv2d(channels, channels, kernel_size=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(cast(Tensor, self.out.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)  # (B, 3, heads, C/heads, N)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)  # (B, heads, N, C/heads) each
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # (B, heads, N, C/heads)
        return x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))


class Downsample(nn.Module):
    """Strided convolution: H, W -> ceil(H / 2), ceil(W / 2)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels_in, channels_out, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, channels_in, H, W) to (B, channels_out, ceil(H/2), ceil(W/2))."""
        return self.conv(x)


class Upsample(nn.Module):
    """1x1 convolution on the small map, then nearest neighbour to an exact size, which may be odd."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map x (B, channels_in, h, w) to (B, channels_out, H, W), with ``size`` (H, W)."""
        return F.interpolate(self.conv(x), size=size, mode="nearest")
