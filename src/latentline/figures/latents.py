"""Latents as heat maps."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from latentline.figures.grids import GridText, heat, save_grid
from latentline.figures.names import first_of

_MAX_CHANNELS = 16
_BLACK = "Black: lowest value; white: highest."


def save_latents(path: Path, latents: Tensor, scale: int, title: str, columns: Sequence[str]) -> None:
    """Write latents as heat maps, each scaled to its own range.

    Args:
        path: ends in ``.png``.
        latents: (N, C, H, W), drawn as a row per channel (the first 16) and a column per image; or (N, D), drawn as a
            row of D cells per image.
        scale: each number becomes ``scale`` x ``scale`` pixels.
        title: of the figure.
        columns: names of the images.
    """
    count = len(latents)
    if latents.ndim == 2:
        note = f"{count} rows, one per image; {latents.shape[1]} columns, one per latent. {_BLACK}"
        save_grid(path, heat(latents[None]), 1, scale, GridText(title, note))  # (1, 1, N, D)
        return
    channels = min(latents.shape[1], _MAX_CHANNELS)
    rows = latents[:, :channels].transpose(0, 1).flatten(0, 1)  # (C N, H, W)
    names = [f"channel {channel + 1}" for channel in range(channels)]
    note = f"Each map has its own range. {_BLACK}{first_of(channels, latents.shape[1], 'channels')}"
    save_grid(path, heat(rows), count, scale, GridText(title, note, names, columns, "image"))
