"""Figures of the latents."""

from pathlib import Path

from latentline.core.files import replaced_folder
from latentline.core.shards import ShardedArray
from latentline.figures.latents import save_latents
from latentline.figures.names import first_of
from latentline.figures.plots import histograms_against_normal
from latentline.latents.cache import LatentStats

_IN_GRID = 12
_HISTOGRAMS = 16
_MAX_COUNTED = 10_000  # latents in the histograms


def draw_figures(folder: Path, raw: ShardedArray, stats: LatentStats) -> None:
    """Draw histograms of the standardised latents per channel, and the channels of some latents as images.

    Args:
        folder: replaced as a whole.
        raw: latents (N, C, H, W) or (N, D).
        stats: standardises them.
    """
    latents = stats.normalizer.standardise(raw[:_MAX_COUNTED])  # (N, C, H, W) or (N, D)
    with replaced_folder(folder) as temporary:
        by_channel = latents[:, :_HISTOGRAMS].transpose(0, 1).flatten(1)  # (C, N H W) or (D, N)
        titles = [f"channel {channel + 1}" for channel in range(len(by_channel))]
        title = f"Standardised latents of {len(latents)} test images"
        left_out = first_of(len(by_channel), latents.shape[1], "channels")
        histograms_against_normal(
            temporary / "histograms.png", by_channel.numpy(), titles, title=title + (left_out and f".{left_out}")
        )
        grid = latents[:_IN_GRID]
        names = [str(number + 1) for number in range(len(grid))]
        save_latents(temporary / "channels.png", grid, 8, "Standardised latents of test images", names)
