"""Latents as heat maps."""

from pathlib import Path

from torch import Tensor

from latentline.figures.grids import heat, save_grid

_MAX_CHANNELS = 16


def save_latents(path: Path, latents: Tensor, scale: int) -> None:
    """Write latents as heat maps, each scaled to its own range.

    Args:
        path: ends in ``.png``.
        latents: (N, C, H, W), drawn as a row per channel (the first 16) and a column per image; or (N, D), drawn as a
            row of D cells per image.
        scale: each number becomes ``scale`` x ``scale`` pixels.
    """
    if latents.ndim == 2:
        save_grid(path, heat(latents[None]), columns=1, scale=scale)  # (1, 1, N, D)
        return
    rows = latents[:, :_MAX_CHANNELS].transpose(0, 1).flatten(0, 1)  # (C N, H, W)
    save_grid(path, heat(rows), columns=len(latents), scale=scale)
