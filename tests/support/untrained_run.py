"""Labels of an untrained run, and its latent cache."""

from pathlib import Path

import torch

from latentline.core.attributes import Attribute
from latentline.core.files import sha256_file
from latentline.core.labels import LabelTable, Schema, build_schema
from latentline.core.paths import AUTOENCODER
from latentline.latents.cache import LatentSplit, write_cache

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
