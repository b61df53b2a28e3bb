"""The DiT of its paper (arXiv 2212.09748) in plain formulae, with the names that the published weights have.

SiT (arXiv 2401.08740) is the same network. Only the meaning of time and output differ, which callers give.
"""

import math

import torch
from torch import Tensor, nn

from latentline.denoisers.dit import sin_cos_positions

CLASSES = 5


class PublishedDiT(nn.Module):
    """A DiT for maps (C, S, S) with labels 0 .. classes - 1; the label ``classes`` is the null condition."""

    def __init__(
        self,
        channels: int = 3,
        side: int = 8,
        patch: int = 2,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        classes: int = CLASSES,
    ) -> None:
        super().__init__()
        self.channels, self.patch, self.heads = channels, patch, heads
        tokens = (side // patch) ** 2
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, stride=patch)})
        self.t_embedder = nn.ModuleDict({"mlp": _mlp(256, width)})
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, width)})
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width), requires_grad=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "attn": nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)}),
                    "mlp": nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}),
                    "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width)),
                }
            )
            for _ in range(depth)
        )
        self.final_layer = nn.ModuleDict(
            {
                "linear": nn.Linear(width, 2 * channels * patch**2),
                "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width)),
            }
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)
        rows = side // patch
        self.pos_embed.data.copy_(
            sin_cos_positions(rows, rows, width)[None]
        )  # its own test compares it with diffusers'

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Return (B, 2 C, S, S) of x (B, C, S, S), t (B,), label (B,): the prediction, then what learns sigma."""
        angles = t[:, None] * 10000.0 ** (-torch.arange(128) / 128)  # (B, 128)
        time = self.t_embedder["mlp"](torch.cat([angles.cos(), angles.sin()], dim=1))
        c = time + self.y_embedder["embedding_table"](label)  # (B, D)
        h = self.x_embedder["proj"](x).flatten(2).mT + self.pos_embed  # (B, N, D)
        for block in self.blocks:
            shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block["adaLN_modulation"](c)[:, None].chunk(6, dim=2)
            h = h + gate_1 * self._attention(block["attn"], _standardised(h) * (1 + scale_1) + shift_1)
            hidden = block["mlp"]["fc1"](_standardised(h) * (1 + scale_2) + shift_2)
            h = h + gate_2 * block["mlp"]["fc2"](_gelu(hidden))
        shift, scale = self.final_layer["adaLN_modulation"](c)[:, None].chunk(2, dim=2)
        out = self.final_layer["linear"](_standardised(h) * (1 + scale) + shift)  # (B, N, p p 2C)
        side, p = math.isqrt(h.shape[1]), self.patch
        tiles = out.reshape(
            len(x), side, side, p, p, 2 * self.channels
        )  # row, column, row within, column within, channel
        return tiles.permute(0, 5, 1, 3, 2, 4).reshape(len(x), 2 * self.channels, side * p, side * p)

    def _attention(self, layers: nn.Module, h: Tensor) -> Tensor:
        b, n, d = h.shape
        q, k, v = layers["qkv"](h).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / math.sqrt(d // self.heads)).softmax(dim=-1)
        return layers["proj"]((weights @ v).transpose(1, 2).reshape(b, n, d))


def _mlp(channels_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels_in, width), nn.SiLU(), nn.Linear(width, width))


def _standardised(h: Tensor) -> Tensor:
    return (h - h.mean(dim=-1, keepdim=True)) / (h.var(dim=-1, keepdim=True, correction=0) + 1e-6).sqrt()


def _gelu(x: Tensor) -> Tensor:
    """Return the approximation by tanh (arXiv 1606.08415, section 2)."""
    return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())
