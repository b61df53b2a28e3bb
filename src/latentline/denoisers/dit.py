"""The diffusion transformer (DiT; Peebles and Xie, arXiv 2212.09748) for latent maps. Here N counts patches."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.nn.embeddings import ConditionEmbedding


class DiT(nn.Module):
    """Network that predicts a map of the latent's shape from a noisy one, its time and its condition.

    DiT-S/2 of the paper is ``patch_size=2, width=384, depth=12, heads=6``.

    Args:
        latent_shape: (C, H, W) of the latents; any H and W.
        cond_dim: F, length of the condition's vector; 0 = unconditional.
        patch_size: side of the square patches that become tokens; maps are padded with zeros to a multiple of it.
        width: D, channels of a token, a multiple of 4 and of ``heads``.
        depth: number of blocks.
        heads: attention heads of each block.

    Raises:
        UserError: the width is no such multiple, or a patch is larger than the map.
    """

    def __init__(
        self, latent_shape: Sequence[int], cond_dim: int, patch_size: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        if width % 4 or width % heads:
            raise UserError(
                f"denoiser.width ({width}) must be divisible by 4 and by denoiser.heads ({heads}); change one of them"
            )
        channels, height, image_width = latent_shape
        if patch_size > max(height, image_width):
            largest = max(height, image_width)
            raise UserError(
                f"denoiser.patch_size ({patch_size}) must be at most {largest} for latents of {height}x{image_width}; "
                "lower it"
            )
        self.patch_size = patch_size
        self.embedding = ConditionEmbedding(cond_dim, width)
        self.stem = _linear(channels * patch_size**2, width)
        positions = sin_cos_positions(-(-height // patch_size), -(-image_width // patch_size), width)
        self.positions: Tensor
        # It follows from the constructor's arguments, so that no checkpoint needs it.
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.ModuleList(_AdaLNZeroBlock(width, heads) for _ in range(depth))
        self.norm = _layer_norm(width)
        self.modulation = _zero_linear(width, 2 * width)
        self.out = _zero_linear(width, channels * patch_size**2)

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Predict (B, C, H, W) from z_t (B, C, H, W), t (B,) in [0, 1] and the condition of B examples.

        It computes in the type of the weights; the prediction has the type of z_t.
        """
        embedded = self.embedding(t, condition.vector)  # (B, D)
        height, width = z_t.shape[-2:]
        p = self.patch_size
        z = z_t.to(self.stem.weight.dtype)
        padded = F.pad(z, (0, -width % p, 0, -height % p))  # (B, C, H', W'), multiples of p
        patches = F.pixel_unshuffle(padded, p)  # (B, C p^2, H'/p, W'/p)
        h = self.stem(patches.flatten(2).transpose(1, 2)) + self.positions  # (B, N, D)
        for block in self.blocks:
            h = block(h, embedded)
        shift, scale = self.modulation(embedded)[:, None].chunk(2, dim=-1)  # (B, 1, D) each
        predicted = self.out(_modulate(self.norm(h), shift, scale))  # (B, N, C p^2)
        predicted = predicted.transpose(1, 2).reshape(patches.shape)  # (B, C p^2, H'/p, W'/p)
        return F.pixel_shuffle(predicted, p)[..., :height, :width].to(z_t.dtype)  # (B, C, H, W)


class _AdaLNZeroBlock(nn.Module):
    """Self-attention, then an MLP, each normalised, modulated and gated by the condition.

    This is the paper's adaLN-Zero block (section 3.2). The gates start at zero, so that a new block is the identity.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = _zero_linear(width, 6 * width)
        self.norm = _layer_norm(width)
        self.qkv = _linear(width, 3 * width)
        self.mix = _linear(width, width)
        self.mlp = nn.Sequential(_linear(width, 4 * width), nn.GELU(approximate="tanh"), _linear(4 * width, width))

    def forward(self, h: Tensor, embedded: Tensor) -> Tensor:
        """Return (B, N, D) from h (B, N, D) and embedded (B, D)."""
        modulation = self.modulation(embedded)[:, None].chunk(6, dim=-1)  # (B, 1, D) each
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        h = h + gate_1 * self._attend(_modulate(self.norm(h), shift_1, scale_1))
        return h + gate_2 * self.mlp(_modulate(self.norm(h), shift_2, scale_2))

    def _attend(self, h: Tensor) -> Tensor:
        b, n, d = h.shape
        qkv = self.qkv(h).reshape(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, D/heads) each
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, N, D/heads)
        return self.mix(mixed.transpose(1, 2).reshape(b, n, d))


def sin_cos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return position embeddings: sines and cosines of the column, then of the row, half of the channels each.

    Frequencies fall geometrically from 1 radian per patch towards 1/10000 (Vaswani et al., arXiv 1706.03762, section
    3.5).

    Args:
        rows: patches from top to bottom.
        columns: patches from left to right.
        width: D, a multiple of 4.

    Returns:
        (rows * columns, D), row by row.
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4) / (width // 4))  # (D/4,)
    down, right = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")  # (rows, columns) each
    angles = [index.reshape(-1, 1) * frequencies for index in (right, down)]  # (N, D/4) each
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


def _modulate(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, h, 1 + scale)


def _layer_norm(width: int) -> nn.LayerNorm:
    """Return a layer without weights, since scale and shift come from the condition."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


def _linear(channels_in: int, channels_out: int) -> nn.Linear:
    """Return a layer initialised as in the authors' code: Glorot weights, zero bias."""
    layer = nn.Linear(channels_in, channels_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _zero_linear(channels_in: int, channels_out: int) -> nn.Linear:
    layer = nn.Linear(channels_in, channels_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
