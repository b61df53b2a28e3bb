"""Pictures for the page: grids with names of rows and columns, strips and animations."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latentline.figures.animation import save_animation
from latentline.figures.grids import GridText, labelled

_WIDTH = 620  # pixels of a picture, about: as wide as its place on the page, which then scales nothing
_SIDE = 160  # pixels of an image, at most about
_lock = Lock()  # matplotlib's settings belong to the whole process


def scale_of(images: Tensor, columns: int, side: int = _SIDE) -> int:
    """Return by how much to enlarge images (..., H, W), ``columns`` of them in a row."""
    width = images.shape[-1]
    return max(1, min(side // width, _WIDTH // (columns * (width + 2))))


def columns_for(images: Tensor) -> int:
    """Return how many of the images (N, C, H, W) fit into a row, each enlarged at least twice: 4 to 10."""
    return min(len(images), max(4, min(10, _WIDTH // (2 * (images.shape[-1] + 2)))))


def grid(
    images: Tensor,
    columns: int,
    rows: Sequence[str] = (),
    heads: Sequence[str] = (),
    cells: Sequence[str] = (),
    side: int = _SIDE,
) -> NDArray[np.uint8]:
    """Return uint8 images (N, C, H, W) as a picture (h, w, 3).

    Args:
        images: row by row.
        columns: images per row.
        rows: names of the rows.
        heads: names of the columns.
        cells: below each image.
        side: pixels of an image, at most about.
    """
    text = GridText("", "", rows, heads, "", cells)
    with _lock:
        pixels = labelled(images, columns, scale_of(images, columns, side), text).pixels
    return pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels


def animation(path: Path, frames: Tensor) -> Path:
    """Write uint8 images (T, C, H, W) as a GIF that goes forth and back."""
    there_and_back = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    with _lock:
        save_animation(path, frames[there_and_back][:, None], columns=1, scale=max(1, 224 // frames.shape[-1]))
    return path
