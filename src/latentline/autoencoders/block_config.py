"""Settings that all blocks of an autoencoder's networks share, whatever their layout."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from latentline.nn.blocks import ResBlock, SelfAttention2d, group_norm


@dataclass(frozen=True)
class BlockConfig:
    """Normalisation and attention of an encoder and its decoder."""

    groups: int = 8
    """Normalisation groups, a divisor of every width."""
    eps: float = 1e-5
    """Added to the variance before its square root."""
    attention_levels: Sequence[int] = ()
    """Levels with self-attention after each residual block."""
    middle_attention: bool = False
    """Whether the smallest map has self-attention."""
    attention_heads: int = 1
    """Heads of every attention, a divisor of its width."""
    causal_attention: bool = False
    """Whether a position attends only to itself and to positions before it, row by row from the top left."""

    def norm(self, channels: int) -> nn.GroupNorm:
        """Return the normalisation of a map (B, channels, H, W)."""
        return group_norm(channels, self.groups, self.eps)

    def residual(self, channels_in: int, channels_out: int) -> ResBlock:
        """Return a residual block: (B, channels_in, H, W) -> (B, channels_out, H, W)."""
        return ResBlock(channels_in, channels_out, norm=self.norm)

    def attention(self, channels: int) -> SelfAttention2d:
        """Return self-attention: (B, channels, H, W) -> same shape."""
        return SelfAttention2d(channels, self.attention_heads, causal=self.causal_attention, norm=self.norm)

    def level(self, level: int, channels_in: int, channels_out: int, count: int) -> list[nn.Module]:
        """Return ``count`` residual blocks, each followed by attention on the levels of ``attention_levels``.

        The first block changes the width.
        """
        blocks: list[nn.Module] = []
        for index in range(count):
            # (B, channels_in, H, W) -> (B, channels_out, H, W)
            blocks.append(self.residual(channels_in if index == 0 else channels_out, channels_out))
            if level in self.attention_levels:
                blocks.append(self.attention(channels_out))
        return blocks


def pad_to_multiple(x: Tensor, factor: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of ``factor``.

    (B, C, H, W) -> (B, C, ceil(H / factor) * factor, ceil(W / factor) * factor).
    """
    right, below = -x.shape[-1] % factor, -x.shape[-2] % factor
    if right == below == 0:
        return x  # torch would copy it, on a GPU by seven kernels
    return F.pad(x, (0, right, 0, below), mode="replicate")
