"""Folders in which stages run in this process, and the settings of a run on a few digits."""

import importlib
from pathlib import Path

import pytest

DIGITS = {
    "data.name": "digits",
    "data.limit": 60,
    "autoencoder.epochs": 3,
    "autoencoder.latent_channels": 2,
    "autoencoder.encoder_channels": [8],
    "autoencoder.encoder_blocks": [1],
    "autoencoder.decoder_channels": [8],
    "autoencoder.decoder_blocks": [1],
    "autoencoder.optimizer.batch_size": 20,
    "autoencoder.optimizer.warmup_steps": 2,
    "latents.posterior": "sample",
    "denoiser.epochs": 3,
    "denoiser.channels": [16],
    "denoiser.attention_levels": [],
    "denoiser.preview.every_epochs": 0,
    "denoiser.optimizer.batch_size": 20,
    "denoiser.optimizer.warmup_steps": 2,
    "sample.sampler": "flow_sde",
    "sample.steps": 2,
    "sample.count": 38,
    "sample.moment_samples": 0,
    "sample.batch_size": 10,
    "feature_extractor.epochs": 1,
    "feature_extractor.channels": 8,
    "feature_extractor.features": 8,
    "evaluate.neighbours": 3,
    "evaluate.pair_count": 30,
    "manipulate.strengths": [0.0, 2.0],
    "manipulate.target_names": ["3", "7"],
    "manipulate.count": 2,
    "manipulate.strips": 1,
    "compute.device": "cpu",
    "compute.threads": 1,
    "compute.workers": 0,
}
CHUNK = 25  # images
DIGITS_RUN = "LATENTLINE_DIGITS_RUN"  # environment variable: a folder in which every stage ran, for tests/simulated


def run_stage(name: str) -> None:
    """Run a stage in the current folder and this process."""
    importlib.import_module(f"stages.{name}.__main__").main()


def run_stages(folder: Path, *names: str) -> None:
    """Run stages in ``folder``, outside any DVC run, and return to the folder of before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        for name in names:
            run_stage(name)


def use_small_chunks(patch: pytest.MonkeyPatch) -> None:
    """Let stages that work in chunks take ``CHUNK`` images at a time."""
    patch.setattr("latentline.autoencoders.load._BATCH", CHUNK)
    patch.setattr("stages.evaluate.features._BATCH", CHUNK)
