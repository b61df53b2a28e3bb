"""Grids of images with a title, and labels of rows, columns and images. The images stay exact to the pixel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from latentline.core.files import replaced_file
from latentline.figures.page import LINE, Page, PageText
from latentline.figures.style import MUTED, style
from latentline.figures.text import drawable, short_name

GAP = 2  # pixels between images
_WHITE = 255
_SMALLEST_FONT = 13  # pixels; larger in a wide grid, which a page shrinks to its width
_LARGEST_FONT = 96
_PER_FONT = 55  # a grid is at most as many times as wide as its letters are high
_FEWEST_LETTERS = 28  # width of a figure in heights of its letters, where its texts need that
_MOMENT = 12  # width of the line that changes from frame to frame, in heights of its letters
_SMALLEST_LABEL = 8  # pixels
_LONGEST_TEXT = 400  # characters of a title or a note
_LONGEST_CAPTION = 72  # characters below an image
_ROW_LABEL = 12  # width in heights of its letters, beyond which a label of a row is broken into lines
_CAPTION_FONT = 0.85  # of the other letters
_TURNED = 0.75  # of the other letters; labels of columns that would have to be smaller are turned


@dataclass(frozen=True)
class GridText:
    """The texts of a grid; names may be in any script. Those of more rows, columns or images than it has stay out."""

    title: str
    """What the grid shows."""
    note: str = ""
    """How to read it, below the title."""
    rows: Sequence[str] = ()
    """Left of each row."""
    columns: Sequence[str] = ()
    """Above each column."""
    across: str = ""
    """What the labels of the columns are, with their unit."""
    cells: Sequence[str] = ()
    """Below each image."""


class Picture(NamedTuple):
    """A drawn grid."""

    pixels: NDArray[np.uint8]
    """(H, W, C)."""
    box: tuple[int, int, int, int]
    """Left, top, width and height in pixels of the part that holds the images, with the gaps around them."""


def save_grid(path: Path, images: Tensor, columns: int, scale: int = 1, text: GridText | None = None) -> None:
    """Write images (N, C, H, W) uint8, C = 1 or 3, row by row as a PNG.

    The file's metadata have the texts ``Title`` and ``Description``, and ``Grid``: left, top, width and height in
    pixels of the part that holds the images.

    Args:
        path: ends in ``.png``.
        images: in the order of the grid.
        columns: images per row.
        scale: each pixel becomes ``scale`` x ``scale``.
        text: labels; None = the images alone.
    """
    info = PngInfo()
    if text is None:
        array = enlarged(tile(images, columns), scale)
    else:
        array, box = labelled(images, columns, scale, text)
        for key, value in (("Title", text.title), ("Description", text.note), ("Grid", " ".join(map(str, box)))):
            info.add_text(key, drawable(value, _LONGEST_TEXT))
    with replaced_file(path) as temporary:
        picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        picture.save(temporary, format="PNG", optimize=True, pnginfo=info)


def enlarged(grid: Tensor, scale: int) -> NDArray[np.uint8]:
    """Return a grid (C, H, W) as an array (H * scale, W * scale, C)."""
    return grid.permute(1, 2, 0).cpu().numpy().repeat(scale, axis=0).repeat(scale, axis=1)


def labelled(images: Tensor, columns: int, scale: int, text: GridText, moment: str | None = None) -> Picture:
    """Draw images (N, C, H, W) uint8, C = 1 or 3, row by row with their texts.

    Args:
        images: in the order of the grid.
        columns: images per row.
        scale: each pixel becomes ``scale`` x ``scale``.
        text: of the grid.
        moment: line below the grid of an animation, which changes from frame to frame; None leaves no room for it.
    """
    texts = {"title": text.title, "note": text.note, "across": text.across, "moment": moment or ""}
    texts = {key: drawable(value, _LONGEST_TEXT) for key, value in texts.items()}
    names = [short_name(name) for name in text.columns[:columns]]
    cells = [drawable(name, _LONGEST_CAPTION) for name in text.cells[: len(images)]]
    gap, (pitch_y, pitch_x) = GAP * scale, ((side + GAP) * scale for side in images.shape[-2:])
    grid_width = columns * pitch_x + gap
    font = min(max(_SMALLEST_FONT, round(grid_width / _PER_FONT)), _LARGEST_FONT)
    pad = font // 2
    with style([*texts.values(), *map(drawable, text.rows), *names, *cells]):
        page = Page()
        row_font = _label_font(font, pitch_y)
        column_font = page.fitting(names, _label_font(font, pitch_x), _TURNED * font, pitch_x - gap)
        rows = [_row_label(page, name, row_font, pitch_y) for name in text.rows]  # lines of each
        left = pad + (round(page.widest([line for row in rows for line in row], row_font)) + pad if rows else 0)
        widest = page.widest(names, column_font)
        overhang = 0.75 * widest if widest > pitch_x - gap else 0.0  # of labels that are turned: upwards, to the right
        right = max(pad, round(overhang - pitch_x / 2) + pad)
        needed = [
            page.width(texts["title"], 1.2 * font, "bold") + 2 * pad,
            page.width(texts["note"], font) + 2 * pad,
            page.width(texts["across"], font) + left + pad,
            left + _MOMENT * font if moment is not None else 0,  # equal in all frames
        ]
        width = max(left + grid_width + right, min(round(max(needed)), _FEWEST_LETTERS * font))

        y = page.block(page.wrapped(texts["title"], 1.2 * font, width - 2 * pad, "bold"), pad, pad, 1.2 * font, "bold")
        y = page.block(page.wrapped(texts["note"], font, width - 2 * pad), pad, y, font, color=MUTED) + pad / 2
        y = page.block(page.wrapped(texts["across"], font, width - left - pad), left, y, font)
        y += overhang + (0.8 if overhang else 1.1) * column_font if names else 0
        for number, name in enumerate(names):
            middle = left + gap + number * pitch_x + (pitch_x - gap) / 2
            align, angle = ("left", 45) if overhang else ("center", 0)
            page.texts.append(PageText(middle, y, name, column_font, (align, "baseline"), rotation=angle))
        top = round(y + (0.35 * column_font if names else 0))

        caption_font = page.fitting(
            [word for cell in cells for word in cell.split(" ")], _CAPTION_FONT * font, _SMALLEST_LABEL, pitch_x - gap
        )
        captions = [page.wrapped(cell, caption_font, pitch_x - gap) for cell in cells]
        strip = gap + round(max(map(len, captions)) * LINE * caption_font) if captions else 0
        bands = [enlarged(tile(row, columns), scale) for row in images.split(columns)]  # (h, w, C) each
        tops = [top + number * (pitch_y + strip) for number in range(len(bands))]
        every = math.ceil(_SMALLEST_LABEL / pitch_y)  # of rows that are lower than letters, not each has a label
        for lines, band_top in list(zip(rows, tops, strict=False))[::every]:
            middle = band_top + gap + (pitch_y - gap) / 2
            for number, line in enumerate(lines):
                y = middle + (number - (len(lines) - 1) / 2) * LINE * row_font
                page.texts.append(PageText(left - pad, y, line, row_font, ("right", "center_baseline")))
        for number, lines in enumerate(captions):
            row, column = divmod(number, columns)
            page.block(lines, left + gap + column * pitch_x, tops[row] + pitch_y + gap, caption_font)
        bottom = tops[-1] + pitch_y + gap + strip
        height = bottom + pad
        if moment is not None:
            height = round(page.block([texts["moment"]], left + gap, bottom, font)) + pad

        pixels = page.drawn(width, height)[..., : images.shape[1]].copy()
    for band, band_top in zip(bands, tops, strict=True):
        pixels[band_top : band_top + len(band), left : left + grid_width] = band
    return Picture(pixels, (left, top, grid_width, bottom - top))


def _row_label(page: Page, name: str, font: float, pitch: int) -> list[str]:
    """Return the lines of a row's label: the whole name where its lines fit into the row, else a shorter one."""
    lines = page.wrapped(drawable(name, _LONGEST_CAPTION), font, _ROW_LABEL * font)
    return lines if len(lines) * LINE * font <= pitch else [short_name(name)]


def _label_font(font: int, pitch: int) -> float:
    """Return the size of the letters of labels every ``pitch`` pixels."""
    return max(_SMALLEST_LABEL, min(font, 0.8 * pitch))


def tile(images: Tensor, columns: int) -> Tensor:
    """Join images (N, C, H, W) uint8 into one of (C, rows * (H + gap) + gap, columns * (W + gap) + gap)."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cells = torch.full((rows * columns, channels, height + GAP, width + GAP), _WHITE, dtype=torch.uint8)
    cells[:count, :, :height, :width] = images
    grid = cells.reshape(rows, columns, channels, height + GAP, width + GAP).permute(
        2, 0, 3, 1, 4
    )  # (C, rows, h, columns, w)
    return F.pad(grid.reshape(channels, rows * (height + GAP), columns * (width + GAP)), (GAP, 0, GAP, 0), value=_WHITE)


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
