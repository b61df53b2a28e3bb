"""Networks between captions and the denoiser that they condition, trained together with it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STD = 0.02  # of new embeddings


class TextEncoder(nn.Module):
    """Map token ids to states; the first state is that of a learned null token, which every caption has.

    An empty caption has this one token alone. Its state is the null condition.

    Args:
        num_ids: number of different ids.
        length: L, tokens of a caption.
        width: D of the states.
        depth: number of blocks.
        heads: attention heads of each block, a divisor of the width.
    """

    def __init__(self, num_ids: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_ids, width)
        nn.init.normal_(self.embedding.weight, std=_STD)
        self.null = nn.Parameter(_STD * torch.randn(width))
        self.positions = nn.Parameter(_STD * torch.randn(length + 1, width))
        self.blocks = nn.ModuleList(_TextBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def is_encoded(self, tokens: Tensor) -> bool:
        """Return whether ``tokens`` are states (B, 1 + L, D) already, not ids (B, L)."""
        return tokens.is_floating_point()

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (B, 1 + L, D) and their mask (B, 1 + L).

        Args:
            tokens: ids, integers (B, L).
            mask: bool (B, L), False for padding.
        """
        words = self.embedding(tokens)  # (B, L, D)
        h = torch.cat([self.null.to(words.dtype).expand(len(words), 1, -1), words], dim=1) + self.positions
        mask = F.pad(mask, (1, 0), value=True)  # (B, 1 + L)
        for block in self.blocks:
            h = block(h, mask)
        return self.norm(h), mask


class StateProjection(nn.Module):
    """Map the states of a frozen pretrained encoder to the width that the denoiser attends to.

    A learned null state comes first, as in :class:`TextEncoder`. An empty caption has it alone.

    Args:
        state_width: D of the encoder's states.
        length: L, tokens of a caption.
        width: W of the result.
    """

    def __init__(self, state_width: int, length: int, width: int) -> None:
        super().__init__()
        self.length = length
        self.norm = nn.LayerNorm(state_width)
        self.projection = nn.Linear(state_width, width)
        self.null = nn.Parameter(_STD * torch.randn(width))

    def is_encoded(self, tokens: Tensor) -> bool:
        """Return whether ``tokens`` are results (B, 1 + L, W) already, not states (B, L, D)."""
        return tokens.shape[1] == 1 + self.length

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projected states (B, 1 + L, W) and their mask (B, 1 + L).

        Args:
            states: of any float type, (B, L, D).
            mask: bool (B, L), False for padding.
        """
        words = self.projection(self.norm(states.to(self.norm.weight.dtype)))  # (B, L, W)
        null = self.null.to(words.dtype).expand(len(words), 1, -1)
        return torch.cat([null, words], dim=1), F.pad(mask, (1, 0), value=True)


class _TextBlock(nn.Module):
    """Self-attention, then an MLP, each after a LayerNorm (Xiong et al., arXiv 2002.04745, figure 1b)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Map h (B, L, D) to the same shape; nothing attends to tokens where mask, bool (B, L), is False."""
        b, length, d = h.shape
        qkv = self.qkv(self.norm_1(h)).reshape(b, length, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, L, D/heads) each
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])  # (B, heads, L, D/heads)
        h = h + self.mix(mixed.transpose(1, 2).reshape(b, length, d))
        return h + self.mlp(self.norm_2(h))
