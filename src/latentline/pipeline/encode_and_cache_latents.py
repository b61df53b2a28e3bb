"""Stage ``encode_and_cache_latents``: encode every image once, so that nothing after it pays for the encoder."""

import torch
from torch import Tensor

from latentline.common.files import replaced_folder
from latentline.data.store import read_card, read_split
from latentline.figures.grids import heat, save_grid
from latentline.figures.plots import histograms_against_normal
from latentline.latents.cache import LatentSplit, LatentStats, write_cache
from latentline.params.latents import LatentsParams
from latentline.params.load import load
from latentline.pipeline.codec import load_codec
from latentline.pipeline.paths import FIGURES, LATENTS, PREPARED
from latentline.runtime.compute import set_up

_SHOWN = 12


def main() -> None:
    """Read section ``latents``, data/prepared and checkpoints/autoencoder; write encoded_img and fig/latents."""
    knobs, _, compute = load("latents", LatentsParams)
    trained = load_codec(set_up(compute.device, compute.threads))
    card = read_card(PREPARED)
    dtype = getattr(torch, knobs.dtype)
    splits = {}
    for name in card.counts:
        images = read_split(PREPARED, name)
        splits[name] = LatentSplit(trained.encode(images).to(dtype), images.labels, images.attributes)
    stats = write_cache(LATENTS, splits, classes=card.classes, attributes=card.attributes, autoencoder=trained.sha256)
    _figures(splits["test"].latents, stats)


def _figures(raw: Tensor, stats: LatentStats) -> None:
    latents = stats.normalizer.standardise(raw)  # (N, C, H, W)
    channels = latents.shape[1]
    with replaced_folder(FIGURES / "latents") as folder:
        titles = [f"channel {channel}" for channel in range(channels)]
        histograms_against_normal(folder / "histograms.png", latents.transpose(0, 1).flatten(1).numpy(), titles)
        shown = latents[:_SHOWN].transpose(0, 1).flatten(0, 1)  # (C * shown, H, W): one row per channel
        save_grid(folder / "channels.png", heat(shown), columns=len(latents[:_SHOWN]), scale=4)
