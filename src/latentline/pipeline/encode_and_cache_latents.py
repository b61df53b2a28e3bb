"""Stage ``encode_and_cache_latents``: encode every image once, so that nothing after it pays for the encoder."""

import math

import torch
from torch import Tensor

from latentline.common.files import replaced_folder
from latentline.common.seeds import generator
from latentline.data.store import read_card, read_split
from latentline.figures.latents import save_latents
from latentline.figures.plots import histograms_against_normal
from latentline.latents.cache import LatentSplit, LatentStats, write_cache
from latentline.latents.export import export_latents, require_format
from latentline.params.latents import LatentsParams
from latentline.params.load import load
from latentline.pipeline.codec import load_codec
from latentline.pipeline.paths import FIGURES, LATENTS, PREPARED
from latentline.runtime.compute import set_up
from latentline.runtime.memory import require_memory

STAGE = "encode_and_cache_latents"
_SHOWN = 12
_HISTOGRAMS = 16


def main() -> None:
    """Read section ``latents``, data/prepared and checkpoints/autoencoder; write encoded_img and fig/latents."""
    knobs, seed, compute = load("latents", LatentsParams)
    if knobs.export:
        require_format(knobs.export)
    device = set_up(compute.device, compute.threads)
    trained = load_codec(device)
    card = read_card(PREPARED)
    count, shape = sum(card.counts.values()), trained.codec.latent_shape
    what = f"latents: {count} of shape {shape}, in float32, need"
    require_memory(4 * count * math.prod(shape), torch.device("cpu"), what, "lower autoencoder.latent_channels or data.limit")
    dtype = getattr(torch, knobs.dtype)
    splits = {}
    for name in card.counts:
        images = read_split(PREPARED, name)
        draw = generator(seed, STAGE, name) if knobs.posterior == "sample" else None
        splits[name] = LatentSplit(trained.encode(images, draw).to(dtype), images.labels, images.attributes)
    scaling = None if knobs.scaling == "per_channel" else knobs.scaling
    stats = write_cache(LATENTS, splits, classes=card.classes, attributes=card.attributes, autoencoder=trained.sha256, scaling=scaling)
    if knobs.export:
        export_latents(LATENTS / "export", splits, stats, knobs.export)
    _figures(splits["test"].latents, stats)


def _figures(raw: Tensor, stats: LatentStats) -> None:
    latents = stats.normalizer.standardise(raw)  # (N, C, H, W) or (N, D)
    with replaced_folder(FIGURES / "latents") as folder:
        by_channel = latents[:, :_HISTOGRAMS].transpose(0, 1).flatten(1)  # (C, N H W) or (D, N)
        titles = [f"channel {channel}" for channel in range(len(by_channel))]
        histograms_against_normal(folder / "histograms.png", by_channel.numpy(), titles)
        save_latents(folder / "channels.png", latents[:_SHOWN], scale=4)
