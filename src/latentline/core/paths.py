"""Paths of what the stages write, relative to the repository's root, the folder in which DVC runs stages."""

import os
from pathlib import Path

PARAMS_CHECKED = Path("data/params_checked.json")
PREPARED = Path("data/prepared")
GENERATED = Path("data/generated")
LATENT_SHARDS = Path("encoded_img/latents")
LATENT_STATS = Path("encoded_img/stats.json")
LATENT_LABELS = Path("encoded_img/labels.safetensors")
LATENT_EXPORT = Path("encoded_img/export")
LATENT_TEXT = Path("encoded_img/text")
AUTOENCODER = Path("checkpoints/autoencoder/autoencoder.safetensors")
DISCRIMINATOR = Path("checkpoints/discriminator/discriminator.safetensors")
DENOISER = Path("checkpoints/denoiser/denoiser.safetensors")
MOMENT_MAPS = Path("checkpoints/moment_maps/moment_maps.safetensors")
FEATURE_EXTRACTOR = Path("checkpoints/feature_extractor/feature_extractor.safetensors")
LATENT_CLASSIFIERS = Path("checkpoints/latent_classifiers/latent_classifiers.safetensors")
FIGURES = Path("fig")
METRICS = Path("metrics")


def state_folder() -> Path:
    """Return where stages keep what outlives a kill: in the main checkout, even while DVC runs a copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".state"
