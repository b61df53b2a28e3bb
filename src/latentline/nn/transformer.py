"""Parts of newer transformers, as LightningDiT has them (Yao et al., arXiv 2501.01423)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotary_positions(rows: int, columns: int, channels: int) -> Tensor:
    """Return the rotation of each position of a map, for :func:`rotate` (Su et al., arXiv 2104.09864, section 3.4.2).

    The first half of the channels turns by the row, the second half by the column. The frequencies of each half fall
    geometrically from 1 radian per position towards 1/10000.

    Args:
        rows: positions from top to bottom.
        columns: positions from left to right.
        channels: C of an attention head, a multiple of 4.

    Returns:
        (2, rows * columns, C): cosines and sines, row by row. Both entries of a pair of channels have the same angle.
    """
    frequencies = 10000.0 ** -(torch.arange(channels // 4) / (channels // 4))  # (C/4,)
    down, right = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")  # (rows, columns) each
    angles = torch.cat([index.reshape(-1, 1) * frequencies for index in (down, right)], dim=1)  # (N, C/2)
    angles = angles.repeat_interleave(2, dim=1)  # (N, C)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of channels (0 and 1, 2 and 3, ...) of x (..., N, C) by its angle (arXiv 2104.09864, eq. 34).

    Args:
        x: queries or keys.
        rotation: (2, N, C), of :func:`rotary_positions`.
    """
    cosines, sines = rotation.to(x.dtype)  # (N, C) each
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)  # (..., N, C): by 90 degrees
    return x * cosines + turned * sines


class RootMeanSquareNorm(nn.RMSNorm):
    """x / RMS(x), scaled per channel (Zhang and Sennrich, arXiv 1910.07467, eq. 4), in the type of the weights.

    Under autocast x has fewer bits than the weights, a mix for which torch has no fused kernel.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., channels) to the same shape and type."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class SwiGLU(nn.Module):
    """Feed-forward layer (SiLU(x W) * (x V)) U (Shazeer, arXiv 2002.05202, eq. 6), with biases.

    Args:
        width: D of the tokens.
        hidden: channels of each of the two products.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_and_value = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., D) to the same shape."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)  # (..., hidden) each
        return self.out(F.silu(gate) * value)
