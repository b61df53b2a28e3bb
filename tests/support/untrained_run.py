"""An untrained run: its labels, latent cache and checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latentline.autoencoders.build import build_autoencoder
from latentline.core.attributes import Attribute
from latentline.core.files import sha256_file
from latentline.core.labels import LabelTable, Schema, build_schema
from latentline.core.paths import AUTOENCODER, DENOISER, LATENT_STATS
from latentline.denoisers.build import build_denoiser
from latentline.latents.cache import LatentSplit, write_cache
from latentline.runtime.checkpoint import save_checkpoint
from support.small_networks import AUTOENCODERS, DENOISERS, IMAGE, awake

CLASSES = ("boot", "bag", "7")
ATTRIBUTES = (Attribute("wide", "binary"), Attribute("level", "continuous", mean=10.0, std=4.0))
SCHEMA = build_schema(CLASSES, ATTRIBUTES)
COND_DIM = 3 + 1 + 2
ENCODER_DECODER = {
    "latent_channels": 2,
    "encoder_channels": [8],
    "encoder_blocks": [1],
    "decoder_channels": [8],
    "decoder_blocks": [1],
}


def write_latents(root: Path, latents: torch.Tensor, schema: Schema = SCHEMA, autoencoder: str | None = None) -> None:
    """Write a cache of these latents, with labels in turn and at random."""
    columns = [torch.arange(len(latents))[:, None] % 3, torch.rand(len(latents), 2)]
    labels = LabelTable(schema, torch.cat(columns, dim=1)[:, : len(schema)])
    digest = autoencoder or sha256_file(root / AUTOENCODER)
    write_cache(root, {"train": [LatentSplit(latents, labels)]}, schema=schema, autoencoder=digest)


def write_run(
    denoiser: str,
    autoencoder: str,
    process: Mapping[str, Any],
    *,
    conditional: bool = True,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    text: Mapping[str, Any] | None = None,
) -> None:
    """Write an untrained run to the current folder, in which all inputs matter.

    Args:
        denoiser: kind of the network.
        autoencoder: one of ``AUTOENCODERS``.
        process: of the denoiser.
        conditional: whether it is conditioned on the labels.
        changes: other arguments of the two networks, by ``autoencoder`` and ``denoiser``.
        text: the denoiser's settings of captions.
    """
    changed = {"autoencoder": {}, "denoiser": {}, **(changes or {})}
    name, constructor = autoencoder.partition(" ")[0], {**AUTOENCODERS[autoencoder], **changed["autoencoder"]}
    network = awake(build_autoencoder(name, image_shape=IMAGE, **constructor))
    save_checkpoint(
        AUTOENCODER,
        kind="autoencoder",
        name=name,
        constructor={"image_shape": list(IMAGE), **constructor},
        trained_on={},
        tensors=network.state_dict(),
    )
    write_latents(Path(), torch.randn(50, *network.latent_shape) * 3 + 5)
    cond_dim, names = (COND_DIM, ["label", "wide", "level"]) if conditional else (0, [])
    constructor = {**DENOISERS[denoiser], "latent_shape": list(network.latent_shape), "cond_dim": cond_dim}
    constructor |= changed["denoiser"]
    save_checkpoint(
        DENOISER,
        kind="denoiser",
        name=denoiser,
        constructor=constructor,
        trained_on={"latents": sha256_file(LATENT_STATS)},
        tensors=awake(build_denoiser(denoiser, **constructor)).state_dict(),
        settings={"condition": names, "process": process, **({} if text is None else {"text": text})},
    )
