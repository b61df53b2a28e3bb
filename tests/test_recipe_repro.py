"""Recipes too large for every test run, shortened, through the whole pipeline."""

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import AutoencoderKL

from latentline.latents.cache import read_stats
from latentline.tools.recipe import complete_text
from support.checkout import EVERY_STAGE, fresh_checkout

TINY_DIFFAE: dict[str, object] = {
    "autoencoder.epochs": 4,
    "autoencoder.optimizer.batch_size": 16,
    "autoencoder.optimizer.warmup_steps": 5,
    "autoencoder.figures.preview_every_epochs": 4,
    "autoencoder.diffae.embedding_dim": 16,
    "autoencoder.diffae.encoder_channels": [16, 16],
    "autoencoder.diffae.channels": [16, 16],
    "autoencoder.diffae.patch_size": 1,
    "autoencoder.diffae.sample_timesteps": 4,
    "denoiser.width": 32,
    "evaluate.max_images": 20,
    "evaluate.pair_count": 20,
}
FEW_DIGITS: dict[str, object] = {
    "data.name": "digits",
    "data.limit": 120,
    "compute.threads": 1,
    "denoiser.epochs": 20,
    "denoiser.channels": [16, 16],
    "denoiser.preview.every_epochs": 20,
    "denoiser.preview.width": 1,
    "denoiser.preview.steps": 2,
    "denoiser.optimizer.batch_size": 32,
    "denoiser.optimizer.warmup_steps": 5,
    "sample.count": 20,
    "sample.steps": 10,
    "feature_extractor.optimizer.batch_size": 16,
    "feature_extractor.optimizer.warmup_steps": 5,
    "manipulate.count": 1,
}
SHORTENED = {  # recipe -> changes; digits come with a library, so that no network is needed
    "sd_vae": {
        "data.name": "digits",
        "data.limit": 60,
        "autoencoder.epochs": 1,
        "autoencoder.optimizer.warmup_steps": 2,
        "denoiser.epochs": 4,
        "denoiser.preview.every_epochs": 4,
        "denoiser.preview.width": 1,
        "denoiser.preview.steps": 2,
        "sample.count": 20,
        "sample.steps": 2,
        "manipulate.strengths": [0.0, 4.0],
        "manipulate.strips": 2,
        "manipulate.count": 1,
    },
    "pixel_ddpm": {
        **FEW_DIGITS,
    },
    "latent_flow": {
        **FEW_DIGITS,
        "autoencoder.epochs": 4,
        "autoencoder.optimizer.batch_size": 16,
        "autoencoder.optimizer.warmup_steps": 5,
    },
    "diffae": {**FEW_DIGITS, **TINY_DIFFAE},
    "features_ddim": {**FEW_DIGITS, **TINY_DIFFAE, "autoencoder.diffae.pretrain_epochs": 2},
    "imagenet256_dit_b2": {
        **FEW_DIGITS,
        "data.image_size": 32,
        "data.channels": 3,
        **{f"autoencoder.{half}_channels": [8, 8, 8, 8] for half in ("encoder", "decoder")},
        "autoencoder.groups": 8,
        "denoiser.epochs": 4,
        "denoiser.width": 32,
        "denoiser.depth": 2,
        "denoiser.heads": 2,
        "denoiser.preview.every_epochs": 4,
        "feature_extractor.name": "classifier",
        "evaluate.max_images": None,
        "compute.workers": 0,
    },
}
LATENT_SHAPES = {
    "sd_vae": (4, 4, 4),
    "pixel_ddpm": (1, 8, 8),
    "latent_flow": (1, 2, 2),
    "diffae": (16,),
    "features_ddim": (16,),
    "imagenet256_dit_b2": (4, 4, 4),
}
NETWORK_EVALUATIONS = {
    "sd_vae": 2 * 2 * 2,
    "pixel_ddpm": 10,
    "latent_flow": 10 * 2,
    "diffae": 10 * 2 * 2,
    "features_ddim": 10 * 2 * 2,
    "imagenet256_dit_b2": 10 * 2,
}  # steps, Heun's two, guidance's two


def _write_tiny_stable_diffusion(folder: Path) -> None:
    """Write a diffusers model of Stable Diffusion's architecture with few channels and random weights."""
    AutoencoderKL(
        block_out_channels=[8] * 4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
    ).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SHORTENED)
def test_a_recipe_runs_through_every_stage(recipe: str, root: Path, tmp_path: Path) -> None:
    checkout = fresh_checkout(root, tmp_path / "checkout")
    (checkout.folder / "params.yaml").write_text(complete_text(recipe, root))
    checkout.change(**SHORTENED[recipe])
    if recipe.startswith("imagenet256"):
        _write_tiny_stable_diffusion(checkout.folder / "pretrained" / "sd-vae")
    checkout.commit()
    assert checkout.repro() == EVERY_STAGE
    assert read_stats(checkout.folder).shape == LATENT_SHAPES[recipe]

    def metrics(name: str) -> dict[str, Any]:
        return json.loads((checkout.folder / "metrics" / f"{name}.json").read_text())

    learnt = metrics("autoencoder")["psnr"] > metrics("autoencoder")["untrained"]["psnr"]
    assert learnt == (recipe not in {"pixel_ddpm", "imagenet256_dit_b2"})  # which have nothing to learn there
    assert metrics("sample") == {
        "count": SHORTENED[recipe]["sample.count"],
        "network_evaluations": NETWORK_EVALUATIONS[recipe],
    }
