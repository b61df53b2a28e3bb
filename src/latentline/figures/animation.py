"""Animated grids of images, as GIF."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from latentline.core.files import replaced_file
from latentline.figures.grids import GridText, enlarged, labelled, tile

_FRAME_MS = 120
_END_MS = 900  # of the first and the last frame
_MAX_PIXELS = 1 << 16  # of the images in a frame, so that the file stays small


def save_animation(
    path: Path,
    frames: Tensor,
    columns: int,
    scale: int = 1,
    text: GridText | None = None,
    moments: Sequence[str] = (),
) -> None:
    """Write images (T, N, C, H, W) uint8, C = 1 or 3, as a loop of T grids.

    Args:
        path: ends in ``.gif``.
        frames: the images; only the first ones where all would make a large file.
        columns: images per row.
        scale: each pixel becomes ``scale`` x ``scale``, unless that makes a large file.
        text: labels; None = the images alone.
        moments: a line below each of the T grids, such as its time; only with ``text``.
    """
    count = max(1, _MAX_PIXELS // (frames.shape[-2] * frames.shape[-1]))
    shown = frames[:, :count]
    columns = min(columns, shown.shape[1])
    scale = scale if shown[0, :, 0].numel() * scale**2 <= _MAX_PIXELS else 1
    if text is None:
        arrays = [enlarged(tile(grid, columns), scale) for grid in shown]
    else:
        lines: Sequence[str | None] = moments or [None] * len(shown)
        arrays = [labelled(grid, columns, scale, text, line).pixels for grid, line in zip(shown, lines, strict=True)]
    pictures = [_picture(array) for array in arrays]
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


def _picture(array: NDArray[np.uint8]) -> Image.Image:
    """Return an array (H, W, C) as a picture of at most 256 colours."""
    return Image.fromarray(array[..., 0]) if array.shape[-1] == 1 else Image.fromarray(array).quantize()
