"""Latents as pictures."""

from pathlib import Path

from torch import Tensor

from latentline.figures.grids import heat, save_grid

_CHANNELS = 16  # shown at most


def save_latents(path: Path, latents: Tensor, scale: int) -> None:
    """Write latents as heat, each panel spread over its own range.

    Args:
        path: ends in ``.png``.
        latents: (N, C, H, W): one row per channel (the first 16), one column per image; (N, D): one row of D cells per image.
        scale: each number becomes ``scale`` x ``scale`` pixels.
    """
    if latents.ndim == 2:
        save_grid(path, heat(latents[None]), columns=1, scale=scale)  # (1, 1, N, D)
        return
    rows = latents[:, :_CHANNELS].transpose(0, 1).flatten(0, 1)  # (C N, H, W)
    save_grid(path, heat(rows), columns=len(latents), scale=scale)
