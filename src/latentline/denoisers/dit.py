"""The diffusion transformer (DiT; Peebles and Xie, arXiv 2212.09748) for latent maps. Here N counts patches."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.nn.cross_attention import CrossAttention
from latentline.nn.embeddings import ConditionEmbedding, TimeFeatures
from latentline.nn.transformer import RootMeanSquareNorm, SwiGLU, rotary_positions, rotate


class DiT(nn.Module):
    """Network that predicts a map of the latent's shape from a noisy one, its time and its condition.

    DiT-B/2 of the paper is ``patch_size=2, width=768, depth=12, heads=12, time_features=256, learn_sigma=True``. SiT
    (arXiv 2401.08740) is the same with ``time_scale=1``. LightningDiT (arXiv 2501.01423) adds ``norm="rms"``,
    ``mlp="swiglu"`` and ``rope=True``, and in some variants ``qk_norm=True``.

    Args:
        latent_shape: (C, H, W) of the latents; any H and W.
        cond_dim: F, length of the condition's vector; 0 = unconditional.
        patch_size: side of the square patches that become tokens; maps are padded with zeros to a multiple of it.
        width: D, channels of a token, a multiple of 4 and of ``heads``; with ``rope`` of 4 times ``heads``.
        depth: number of blocks.
        heads: attention heads of each block.
        time_features: sines and cosines of the time, even; None = D of them, at frequencies from 1 to 1000.
        time_scale: the fastest of those frequencies, in radians per unit of t; without ``time_features`` unused.
        learn_sigma: whether there are C more output channels. They hold the variance of the authors' own sampler, and
            are neither used nor trained here.
        qk_norm: whether queries and keys are normalised (Dehghani et al., arXiv 2302.05442, section 2).
        norm: ``layer`` (LayerNorm without weights) or ``rms`` (RMSNorm, Zhang and Sennrich, arXiv 1910.07467).
        mlp: ``gelu`` or ``swiglu``; the latter has 2/3 of the hidden channels, hence as many weights.
        rope: whether queries and keys turn by their position, besides the positions that are added to the tokens.
        text_dim: length of the states of captions, to which every block attends after self-attention, as in
            PixArt-alpha (arXiv 2310.00426, section 2.3), and whose mean is embedded with the time; 0 = no captions.
        average_velocity: whether it predicts average velocities, too: see :mod:`latentline.diffusion.flow_map`.

    Raises:
        UserError: the width is no such multiple, or a patch is larger than the map.
    """

    def __init__(
        self,
        latent_shape: Sequence[int],
        cond_dim: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        time_features: int | None = None,
        time_scale: float = 1000.0,
        learn_sigma: bool = False,
        qk_norm: bool = False,
        norm: str = "layer",
        mlp: str = "gelu",
        rope: bool = False,
        text_dim: int = 0,
        average_velocity: bool = False,
    ) -> None:
        super().__init__()
        if width % 4 or width % heads:
            raise UserError(
                f"denoiser.width ({width}) must be divisible by 4 and by denoiser.heads ({heads}); change one of them"
            )
        if rope and width % (4 * heads):
            raise UserError(
                f"denoiser.width ({width}) must be divisible by 4 times denoiser.heads ({heads}) with denoiser.rope; "
                "change one of them"
            )
        channels, height, image_width = latent_shape
        if patch_size > max(height, image_width):
            largest = max(height, image_width)
            raise UserError(
                f"denoiser.patch_size ({patch_size}) must be at most {largest} for latents of {height}x{image_width}; "
                "lower it"
            )
        self.patch_size = patch_size
        features = None if time_features is None else TimeFeatures(time_features, time_scale)
        self.embedding = ConditionEmbedding(
            cond_dim, width, features, average_velocity=average_velocity, text_dim=text_dim
        )
        if features is not None:
            _initialise_as_published(self.embedding.time)
        self.stem = _linear(channels * patch_size**2, width)
        grid = -(-height // patch_size), -(-image_width // patch_size)  # rows and columns of patches
        self.positions: Tensor
        self.rotation: Tensor | None
        # They follow from the constructor's arguments, so that no checkpoint needs them.
        self.register_buffer("positions", sin_cos_positions(*grid, width), persistent=False)
        self.register_buffer("rotation", rotary_positions(*grid, width // heads) if rope else None, persistent=False)
        self.blocks = nn.ModuleList(
            _AdaLNZeroBlock(width, heads, qk_norm=qk_norm, norm=norm, mlp=mlp, text_dim=text_dim) for _ in range(depth)
        )
        self.norm = _NORMS[norm](width)
        self.modulation = _zero_linear(width, 2 * width)
        self.outputs = channels * patch_size**2  # that are used
        self.out = _zero_linear(width, self.outputs * (1 + learn_sigma))

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Condition,
        r: Tensor | None = None,
    ) -> Tensor:
        """Predict (B, C, H, W) from z_t (B, C, H, W), t (B,) in [0, 1] and the condition of B examples.

        It computes in the type of the weights; the prediction has the type of z_t.

        With ``average_velocity``, r (B,) is the beginning of the interval [r, t]; None = r is t.
        """
        embedded = self.embedding(t, condition, r)  # (B, D)
        height, width = z_t.shape[-2:]
        p = self.patch_size
        z = z_t.to(self.stem.weight.dtype)
        padding = (0, -width % p, 0, -height % p)
        padded = F.pad(z, padding) if any(padding) else z  # (B, C, H', W'), multiples of p
        patches = F.pixel_unshuffle(padded, p)  # (B, C p^2, H'/p, W'/p)
        h = self.stem(patches.flatten(2).transpose(1, 2)) + self.positions  # (B, N, D)
        for block in self.blocks:
            h = block(h, embedded, self.rotation, condition.tokens, condition.mask)
        shift, scale = self.modulation(embedded)[:, None].chunk(2, dim=-1)  # (B, 1, D) each
        predicted = self.out(_modulate(self.norm(h), shift, scale))[..., : self.outputs]  # (B, N, C p^2)
        predicted = predicted.transpose(1, 2).reshape(patches.shape)  # (B, C p^2, H'/p, W'/p)
        return F.pixel_shuffle(predicted, p)[..., :height, :width].to(z_t.dtype)  # (B, C, H, W)


class _AdaLNZeroBlock(nn.Module):
    """Self-attention, then an MLP, each normalised, modulated and gated by the condition.

    This is the paper's adaLN-Zero block (section 3.2). The gates start at zero, so that a new block is the identity.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        qk_norm: bool = False,
        norm: str = "layer",
        mlp: str = "gelu",
        text_dim: int = 0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.modulation = _zero_linear(width, 6 * width)
        self.norm_1 = _NORMS[norm](width)
        self.qkv = _linear(width, 3 * width)
        self.norm_q = _HEAD_NORMS[norm](width // heads) if qk_norm else nn.Identity()
        self.norm_k = _HEAD_NORMS[norm](width // heads) if qk_norm else nn.Identity()
        self.mix = _linear(width, width)
        self.norm_2 = _NORMS[norm](width)
        self.mlp = _MLPS[mlp](width)
        self.cross = CrossAttention(width, text_dim, heads) if text_dim else None

    def forward(
        self,
        h: Tensor,
        embedded: Tensor,
        rotation: Tensor | None = None,
        states: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return (B, N, D) from h (B, N, D) and embedded (B, D).

        Args:
            h: tokens.
            embedded: time and condition.
            rotation: (2, N, D/heads), with rotary positions.
            states: of captions, (B, L, text_dim).
            mask: of those states, bool (B, L).
        """
        modulation = self.modulation(embedded)[:, None].chunk(6, dim=-1)  # (B, 1, D) each
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        h = h + gate_1 * self._attend(_modulate(self.norm_1(h), shift_1, scale_1), rotation)
        if self.cross is not None and states is not None and mask is not None:
            h = h + self.cross(h, states, mask)
        return h + gate_2 * self.mlp(_modulate(self.norm_2(h), shift_2, scale_2))

    def _attend(self, h: Tensor, rotation: Tensor | None) -> Tensor:
        b, n, d = h.shape
        qkv = self.qkv(h).reshape(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, D/heads) each
        q, k = self.norm_q(q).to(v.dtype), self.norm_k(k).to(v.dtype)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
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


def _gelu_mlp(width: int) -> nn.Sequential:
    return nn.Sequential(_linear(width, 4 * width), nn.GELU(approximate="tanh"), _linear(4 * width, width))


def _swiglu_mlp(width: int) -> SwiGLU:
    mlp = SwiGLU(width, 8 * width // 3)
    for layer in (mlp.gate_and_value, mlp.out):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return mlp


def _initialise_as_published(time: nn.Sequential) -> None:
    """Draw the weights of the time's layers from N(0, 0.02^2), as the authors' code does; biases become zero."""
    for layer in time:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)


# Of tokens. A LayerNorm has no weights of its own, since scale and shift come from the condition.
_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": partial(nn.LayerNorm, eps=1e-6, elementwise_affine=False),
    "rms": partial(RootMeanSquareNorm, eps=1e-6),
}
# Of the queries and the keys of a head; with weights.
_HEAD_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "rms": partial(RootMeanSquareNorm, eps=1e-6),
}
_MLPS: dict[str, Callable[[int], nn.Module]] = {"gelu": _gelu_mlp, "swiglu": _swiglu_mlp}
