"""Stage ``encode_and_cache_latents``: encode every image once, so that nothing after it pays for the encoder."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from latentline.autoencoders.load import TrainedAutoencoder, inference_batch, load_autoencoder
from latentline.core.files import replaced_folder
from latentline.core.load_params import load
from latentline.core.paths import FIGURES, LATENT_EXPORT, PREPARED
from latentline.core.seeds import generator
from latentline.core.shards import ShardedArray
from latentline.core.stage import run_stage
from latentline.data.store import ImageSplit, StoreCard, read_card, read_split, to_unit_range
from latentline.figures.latents import save_latents
from latentline.figures.plots import histograms_against_normal
from latentline.latents.cache import LatentSplit, LatentStats, read_latents, write_cache
from latentline.runtime.compute import set_up
from latentline.runtime.memory import require_memory
from latentline.runtime.parallel import init_distributed
from latentline.runtime.resumable_map import Chunk, ResumableMap, resumable_map
from latentline.runtime.resume import ResumeFile
from stages.encode_and_cache_latents.export import export_latents, require_format
from stages.encode_and_cache_latents.params import LatentsParams

STAGE = "encode_and_cache_latents"
_SHOWN = 12
_HISTOGRAMS = 16
_COUNTED = 10_000  # test images in the histograms, at most


def main() -> None:
    """Read section ``latents``, data/prepared and checkpoints/autoencoder; write encoded_img and fig/latents."""
    params, seed, compute = load("latents", LatentsParams)
    device, ranks = init_distributed(set_up(compute.device, compute.threads), compute.devices, compute.nodes)
    trained, card = load_autoencoder(device), read_card(PREPARED)
    if params.export:
        _require_exportable(params.export, card, trained.network.latent_shape)
    inputs = {"seed": seed, "autoencoder": trained.sha256, "images": card.sha256}
    state = ResumeFile(
        STAGE, {"settings": params.model_dump(exclude={"export"}), "inputs": inputs}, [f"stages.{STAGE}.__main__"]
    )
    with resumable_map(state, compute.save_every_seconds, ranks) as chunks:
        stats = _encode(params, seed, trained, card, chunks)
    splits = {name: read_latents(name) for name in card.counts}
    export_latents(LATENT_EXPORT, splits, stats, params.export)
    _figures(read_latents("test").latents, stats)
    state.finish()


def _require_exportable(name: str, card: StoreCard, shape: tuple[int, ...]) -> None:
    """Raise UserError when format ``name`` needs a package that is not there, or a split more memory: it is exported in one piece."""
    require_format(name)
    count = max(card.counts.values())
    what = f"latents.export: {name} of {count} latents of shape {shape}, in float32, needs"
    require_memory(4 * count * math.prod(shape), torch.device("cpu"), what, "set it to null, or lower data.limit")


def _encode(
    params: LatentsParams, seed: int, trained: TrainedAutoencoder, card: StoreCard, chunks: ResumableMap
) -> LatentStats:
    """Write encoded_img, a batch of images being a chunk."""
    splits = {name: read_split(PREPARED, name) for name in card.counts}
    size, dtype = inference_batch(trained.image_shape), getattr(torch, params.dtype)
    places = [(name, start) for name, split in splits.items() for start in range(0, len(split), size)]  # of each chunk

    @torch.no_grad()
    def encode(number: int) -> Chunk:
        name, start = places[number]
        images = to_unit_range(splits[name].images[start : start + size])  # (B, C, H, W)
        draw = generator(seed, STAGE, name, start) if params.posterior == "sample" else None
        return {"latents": trained.network.encode(images.to(trained.device), draw).cpu().to(dtype)}

    made = chunks.map(len(places), encode)
    return write_cache(
        Path(),
        {name: _portions(split, size, made) for name, split in splits.items()},
        schema=card.schema,
        autoencoder=trained.sha256,
        scaling=None if params.scaling == "per_channel" else params.scaling,
    )


def _portions(split: ImageSplit, size: int, made: Iterator[Chunk]) -> Iterator[LatentSplit[Tensor]]:
    """The next of the chunks that are ``made``, those of ``split``, with what is known of their images."""
    for start in range(0, len(split), size):
        yield LatentSplit(next(made)["latents"], split.labels[start : start + size])


def _figures(raw: ShardedArray, stats: LatentStats) -> None:
    latents = stats.normalizer.standardise(raw[:_COUNTED])  # (N, C, H, W) or (N, D)
    with replaced_folder(FIGURES / "latents") as folder:
        by_channel = latents[:, :_HISTOGRAMS].transpose(0, 1).flatten(1)  # (C, N H W) or (D, N)
        titles = [f"channel {channel}" for channel in range(len(by_channel))]
        histograms_against_normal(folder / "histograms.png", by_channel.numpy(), titles)
        save_latents(folder / "channels.png", latents[:_SHOWN], scale=4)


if __name__ == "__main__":
    run_stage("encode_and_cache_latents", main)
