"""Animated grids of images, as GIF."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from latentline.core.files import replaced_file
from latentline.figures.grids import tile

_FRAME_MS = 120
_END_MS = 900  # of the first and the last frame
_MAX_PIXELS = 1 << 16  # of the images in a frame, so that the file stays small


def save_animation(path: Path, frames: Tensor, columns: int, scale: int = 1) -> None:
    """Write images (T, N, C, H, W) uint8, C = 1 or 3, as a loop of T grids.

    Args:
        path: ends in ``.gif``.
        frames: the images; only the first ones where all would make a large file.
        columns: images per row.
        scale: each pixel becomes ``scale`` x ``scale``, unless that makes a large file.
    """
    count = max(1, _MAX_PIXELS // (frames.shape[-2] * frames.shape[-1]))
    shown = frames[:, :count]
    scale = scale if shown[0, :, 0].numel() * scale**2 <= _MAX_PIXELS else 1
    pictures = [_picture(tile(grid, min(columns, shown.shape[1])), scale) for grid in shown]
    durations = [_END_MS, *[_FRAME_MS] * (len(pictures) - 2), _END_MS][: len(pictures)]
    with replaced_file(path) as temporary:
        pictures[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
            optimize=True,
        )


def _picture(grid: Tensor, scale: int) -> Image.Image:
    """Return a grid (C, H, W) as a picture of at most 256 colours."""
    array = np.ascontiguousarray(grid.permute(1, 2, 0).numpy().repeat(scale, axis=0).repeat(scale, axis=1))  # (H, W, C)
    return Image.fromarray(array[..., 0]) if array.shape[-1] == 1 else Image.fromarray(array).quantize()
