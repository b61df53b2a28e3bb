"""Recipes too large for every test run, shortened, through the whole pipeline."""

import json
import shutil
from pathlib import Path

import pytest
from test_small_repro import EVERY_STAGE, fresh_checkout

from latentline.latents.cache import read_stats

SHORTENED = {  # recipe -> changes; digits come with a library, so that no network is needed
    "sd_vae": {
        "data.name": "digits",
        "data.limit": 60,
        "autoencoder.epochs": 1,
        "autoencoder.optimizer.warmup_steps": 2,
        "denoiser.epochs": 4,
        "denoiser.preview.every_epochs": 4,
        "denoiser.preview.per_class": 1,
        "denoiser.preview.steps": 2,
        "sample.count": 20,
        "sample.steps": 2,
        "manipulate.strengths": [0.0, 4.0],
        "manipulate.strips": 2,
        "manipulate.count": 1,
    }
}
LATENT_SHAPES = {"sd_vae": (4, 4, 4)}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SHORTENED)
def test_a_recipe_runs_through_every_stage(recipe: str, root: Path, tmp_path: Path) -> None:
    checkout = fresh_checkout(root, tmp_path / "checkout")
    shutil.copy(root / "recipes" / f"{recipe}.yaml", checkout.folder / "params.yaml")
    checkout.change(**SHORTENED[recipe])
    checkout.commit()
    assert checkout.repro() == EVERY_STAGE
    assert read_stats(checkout.folder / "encoded_img" / "stats.json").shape == LATENT_SHAPES[recipe]
    metrics = json.loads((checkout.folder / "metrics" / "autoencoder.json").read_text())
    assert metrics["psnr"] > metrics["untrained"]["psnr"]
