"""The U-Net denoiser for small latent maps (arXiv 1505.04597; Dhariwal and Nichol, arXiv 2105.05233)."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.nn.blocks import Downsample, ResBlock, SelfAttention2d, Upsample, conv3x3, group_norm
from latentline.nn.cross_attention import CrossAttention2d
from latentline.nn.embeddings import ConditionEmbedding

_HEAD_CHANNELS = 32  # of an attention head, where 32 divides the width; else there is one head


class _Block(nn.Module):
    """A residual block, and attention after it if ``attention``: to the map, then to captions if ``text_dim``."""

    def __init__(
        self, channels_in: int, channels_out: int, condition_channels: int, attention: bool, text_dim: int
    ) -> None:
        super().__init__()
        self.block = ResBlock(channels_in, channels_out, condition_channels)
        heads = channels_out // _HEAD_CHANNELS if channels_out % _HEAD_CHANNELS == 0 else 1
        self.attention = SelfAttention2d(channels_out, heads) if attention else nn.Identity()
        self.cross: CrossAttention2d | None = None
        if attention and text_dim:
            self.cross = CrossAttention2d(channels_out, text_dim, heads)

    def forward(self, h: Tensor, condition: Tensor, states: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Map h (B, channels_in, H, W) and condition (B, D) to (B, channels_out, H, W).

        ``states`` (B, L, text_dim) and ``mask`` (B, L) are those of the captions, where there are any.
        """
        h = self.attention(self.block(h, condition))
        return h if self.cross is None or states is None or mask is None else self.cross(h, states, mask)


class UNet(nn.Module):
    """Predict a map of the latent's shape from a noisy latent map, its time and its condition.

    Args:
        latent_shape: (C, H, W) of the latents; any H and W.
        cond_dim: F, length of the condition's vector; 0 = unconditional.
        channels: width of each level; every further level halves the map (rounding up).
        blocks: residual blocks per level on the way down; one more on the way up.
        attention_levels: indices of the levels with self-attention.
        patch_size: side of the squares of positions that are folded into channels first, so that no convolution runs at
            full size. Maps are padded with zeros to a multiple of it.
        embedding_width: D, length of the vector that embeds time and condition; None = twice ``channels[0]``.
        text_dim: length of the states of captions, to which the levels with self-attention attend, too, and whose mean
            is embedded with the time; 0 = no captions.
        average_velocity: whether it predicts average velocities, too: see :mod:`latentline.diffusion.flow_map`.

    Raises:
        UserError: there are captions and no level that attends to them.
    """

    def __init__(
        self,
        latent_shape: Sequence[int],
        cond_dim: int,
        channels: Sequence[int],
        blocks: int,
        attention_levels: Sequence[int],
        patch_size: int = 1,
        embedding_width: int | None = None,
        text_dim: int = 0,
        average_velocity: bool = False,
    ) -> None:
        super().__init__()
        if text_dim and not attention_levels:
            raise UserError(
                "denoiser.attention_levels ([]) must name a level for a unet that is conditioned on captions; "
                f"set it to [{len(channels) - 1}], or denoiser.condition to class or none"
            )
        embedding_width = embedding_width or 2 * channels[0]
        self.patch_size = patch_size
        folded = latent_shape[0] * patch_size**2
        self.embedding = ConditionEmbedding(
            cond_dim, embedding_width, average_velocity=average_velocity, text_dim=text_dim
        )
        self.stem = conv3x3(folded, channels[0])
        skips = [channels[0]]  # widths of the maps that the way up will receive
        self.down = nn.ModuleList()
        for level, width in enumerate(channels):
            if level > 0:
                self.down.append(Downsample(channels[level - 1], width))
            self.down.extend(
                _Block(width, width, embedding_width, level in attention_levels, text_dim) for _ in range(blocks)
            )
            skips += [width] * (blocks + (level > 0))
        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(channels))):
            self.up.extend(
                _Block(width + skips.pop(), width, embedding_width, level in attention_levels, text_dim)
                for _ in range(blocks + 1)
            )
            if level > 0:
                self.up.append(Upsample(width, channels[level - 1]))
        self.norm = group_norm(channels[0])
        self.out = conv3x3(channels[0], folded)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(cast(Tensor, self.out.bias))

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Condition,
        r: Tensor | None = None,
    ) -> Tensor:
        """Map z_t (B, C, H, W), t (B,) in [0, 1] and the condition of B examples to a prediction (B, C, H, W).

        It computes in the type of the weights; the prediction has the type of z_t.

        With ``average_velocity``, r (B,) is the beginning of the interval [r, t]; None = r is t.
        """
        embedded = self.embedding(t, condition, r)  # (B, D)
        context = (embedded, condition.tokens, condition.mask)
        height, width = z_t.shape[-2:]
        p = self.patch_size
        z = z_t.to(self.stem.weight.dtype)
        padding = (0, -width % p, 0, -height % p)
        padded = F.pad(z, padding) if any(padding) else z  # (B, C, H', W'), multiples of p
        h = self.stem(F.pixel_unshuffle(padded, p))  # (B, C p^2, H'/p, W'/p) -> (B, channels[0], H'/p, W'/p)
        skips = [h]
        for layer in self.down:
            # (B, channels[level], H' / (p 2^level), W' / (p 2^level))
            h = layer(h) if isinstance(layer, Downsample) else layer(h, *context)
            skips.append(h)
        for layer in self.up:
            h = (
                layer(h, skips[-1].shape[-2:])
                if isinstance(layer, Upsample)
                else layer(torch.cat([h, skips.pop()], dim=1), *context)
            )
        folded = self.out(F.silu(self.norm(h)))  # (B, C p^2, H'/p, W'/p)
        return F.pixel_shuffle(folded, p)[..., :height, :width].to(z_t.dtype)  # (B, C, H', W') -> (B, C, H, W)
