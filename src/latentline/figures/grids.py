"""Grids of images, exact to the pixel, without a plotting library."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from latentline.core.files import replaced_file

_GAP = 2  # pixels between images
_WHITE = 255


def save_grid(path: Path, images: Tensor, columns: int, scale: int = 1) -> None:
    """Write images (N, C, H, W) uint8, C = 1 or 3, row by row as a PNG.

    Args:
        path: ends in ``.png``.
        images: in the order of the grid.
        columns: images per row.
        scale: each pixel becomes ``scale`` x ``scale``.
    """
    tiled = tile(images, columns).repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)
    array = tiled.permute(1, 2, 0).cpu().numpy()
    with replaced_file(path) as temporary:
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(temporary, format="PNG", optimize=True)


def tile(images: Tensor, columns: int) -> Tensor:
    """Join images (N, C, H, W) uint8 into one of (C, rows * (H + gap) + gap, columns * (W + gap) + gap)."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cells = torch.full((rows * columns, channels, height + _GAP, width + _GAP), _WHITE, dtype=torch.uint8)
    cells[:count, :, :height, :width] = images
    grid = cells.reshape(rows, columns, channels, height + _GAP, width + _GAP).permute(
        2, 0, 3, 1, 4
    )  # (C, rows, h, columns, w)
    return F.pad(
        grid.reshape(channels, rows * (height + _GAP), columns * (width + _GAP)), (_GAP, 0, _GAP, 0), value=_WHITE
    )


def alternating_rows(sets: Sequence[Tensor], columns: int) -> Tensor:
    """Interleave rows of ``columns`` images of several sets (N, C, H, W): a row of the first, of the second, and so on.

    An incomplete last row is left out, so that rows stay paired.
    """
    whole = len(sets[0]) // columns * columns
    return torch.cat(
        [row for rows in zip(*(images[:whole].split(columns) for images in sets), strict=True) for row in rows]
    )


def turns_as_rows(num_classes: int, height: int, width: int) -> Tensor:
    """Return the indices (rows * width,) that lay out items with classes 0, 1, 2, 0, 1, 2, ... as one row per class.

    There are rows for the first ``height`` classes only.
    """
    return torch.arange(num_classes * width).reshape(width, num_classes).T[:height].flatten()


def heat(maps: Tensor) -> Tensor:
    """Scale each of N float maps (N, H, W) to its own range: grey uint8 (N, 1, H, W)."""
    low = maps.amin(dim=(1, 2), keepdim=True)
    span = (maps.amax(dim=(1, 2), keepdim=True) - low).clamp(min=1e-12)
    return ((maps - low) / span * 255).round().to(torch.uint8)[:, None]
