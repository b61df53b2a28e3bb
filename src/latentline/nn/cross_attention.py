"""Attention of a map's positions, or of a transformer's tokens, to the states of a caption."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from latentline.nn.blocks import group_norm


class CrossAttention(nn.Module):
    """Multi-head attention from N queries to L states (Vaswani et al., arXiv 1706.03762, section 3.2).

    The output projection starts at zero, so that a new layer adds nothing.

    Args:
        channels: C of the queries and of the result, a multiple of the number of heads.
        text_dim: D of the states.
        heads: number of heads.
    """

    def __init__(self, channels: int, text_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(text_dim, 2 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Return what x attends to, (B, N, C).

        Args:
            x: (B, N, C).
            states: (B, L, D).
            mask: bool (B, L), False for a state that nothing attends to; at least one of each row is True.
        """
        b, n, c = x.shape
        states = states.to(self.key_value.weight.dtype)
        q = self.query(x).reshape(b, n, self.heads, -1).transpose(1, 2)  # (B, heads, N, C/heads)
        key_value = self.key_value(states).reshape(b, states.shape[1], 2, self.heads, -1)
        k, v = key_value.permute(2, 0, 3, 1, 4)  # (B, heads, L, C/heads) each
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])  # (B, heads, N, C/heads)
        return self.out(mixed.transpose(1, 2).reshape(b, n, c))


class CrossAttention2d(nn.Module):
    """Residual cross-attention of a map's positions (Rombach et al., arXiv 2112.10752, section 3.3).

    Args:
        channels: C of the map.
        text_dim: D of the states.
        heads: number of heads.
        norm: channels -> normalisation of a map.
    """

    def __init__(
        self, channels: int, text_dim: int, heads: int, norm: Callable[[int], nn.GroupNorm] = group_norm
    ) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.attention = CrossAttention(channels, text_dim, heads)

    def forward(self, x: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape; ``states`` and ``mask`` as of :class:`CrossAttention`."""
        positions = self.norm(x).flatten(2).transpose(1, 2)  # (B, N, C)
        return x + self.attention(positions, states, mask).transpose(1, 2).reshape(x.shape)
