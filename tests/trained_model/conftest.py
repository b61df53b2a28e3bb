"""Untrained runs, as the public door loads them."""

from pathlib import Path

import pytest
import torch

from latentline import load
from latentline.autoencoders.build import build_autoencoder
from latentline.core.files import sha256_file
from latentline.core.paths import AUTOENCODER, DENOISER, LATENT_STATS
from latentline.denoisers.build import build_denoiser
from latentline.runtime.checkpoint import save_checkpoint
from latentline.trained_model import TrainedModel
from support.untrained_run import COND_DIM, ENCODER_DECODER, write_latents


@pytest.fixture
def run(tmp_path, awake) -> Path:
    """An untrained run, in which all inputs matter, and whose latents are far from standard."""
    constructor = {"image_shape": [1, 8, 8], "kl_weight": 0.1, **ENCODER_DECODER}
    autoencoder = build_autoencoder("vae", **constructor)
    save_checkpoint(
        tmp_path / AUTOENCODER,
        kind="autoencoder",
        name="vae",
        constructor=constructor,
        trained_on={},
        tensors=autoencoder.state_dict(),
    )
    write_latents(tmp_path, torch.randn(50, *autoencoder.latent_shape) * 3 + 5)
    constructor = {
        "latent_shape": list(autoencoder.latent_shape),
        "cond_dim": COND_DIM,
        "channels": [8],
        "blocks": 1,
        "attention_levels": [],
    }
    save_checkpoint(
        tmp_path / DENOISER,
        kind="denoiser",
        name="unet",
        constructor=constructor,
        trained_on={"latents": sha256_file(tmp_path / LATENT_STATS)},
        tensors=awake(build_denoiser("unet", **constructor)).state_dict(),
        settings={"condition": ["label", "wide", "level"], "process": {"path": "flow", "prediction": "velocity"}},
    )
    return tmp_path


@pytest.fixture
def model(run) -> TrainedModel:
    return load(run)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 1, 8, 8) * 2 - 1


@pytest.fixture
def diffae(tmp_path, awake) -> TrainedModel:
    """An untrained diffusion autoencoder, in which all inputs matter."""
    decoder = {"channels": [8], "blocks": 1, "attention_levels": [], "patch_size": 2, "condition_width": 16}
    process = {"path": "flow", "prediction": "velocity", "sample_timesteps": 40}
    constructor = {
        "image_shape": [1, 8, 8],
        "inner": {"name": "identity"},
        "embedding_dim": 6,
        "encoder_channels": [8],
        "encoder_blocks": [1],
        **decoder,
        **process,
    }
    autoencoder = awake(build_autoencoder("diffae", **constructor))
    save_checkpoint(
        tmp_path / AUTOENCODER,
        kind="autoencoder",
        name="diffae",
        constructor=constructor,
        trained_on={},
        tensors=autoencoder.state_dict(),
    )
    write_latents(tmp_path, torch.randn(50, 6) * 3 + 5)
    return load(tmp_path)
