"""The recipe with a discriminator, shortened, on images that need no network."""

import json
from pathlib import Path

import pytest

from latentline.core.load_params import validate
from latentline.tools.params_file import read_recipe
from latentline.tools.recipe import complete_text
from support.checkout import EVERY_STAGE, fresh_checkout

SHORT = {
    "data.name": "digits",
    "data.limit": 300,
    "data.image_size": [16, 16],
    "data.channels": 3,
    "data.horizontal_flip": False,
    "autoencoder.epochs": 2,
    "autoencoder.optimizer.batch_size": 32,
    "autoencoder.encoder_channels": [8, 16],
    "autoencoder.decoder_channels": [8, 16],
    "autoencoder.adversarial.start_step": 3,
    "autoencoder.adversarial.warmup_steps": 3,
    "autoencoder.adversarial.channels": 8,
    "denoiser.epochs": 2,
    "denoiser.channels": [16, 16],
    "denoiser.optimizer.batch_size": 32,
    "sample.count": 40,
    "sample.moment_samples": 0,
    "sample.steps": 2,
    "feature_extractor.epochs": 2,
    "feature_extractor.channels": 8,
    "feature_extractor.features": 16,
    "latent_classifiers.max_iterations": 20,
    "manipulate.count": 3,
    "evaluate.neighbours": 3,
    "evaluate.pair_count": 30,
    "compute.threads": 1,
}


def test_it_is_seed_002(root):
    params = validate(read_recipe("ldm_celeba", root))
    assert params.data.name == "celeba"
    assert params.autoencoder.name == "vae"
    assert params.autoencoder.kl_weight > 0
    assert params.autoencoder.adversarial.weight > 0
    assert params.denoiser.attention_levels == []
    assert params.sample.guidance_scale == params.denoiser.preview.guidance_scale == 1


@pytest.mark.slow
def test_it_runs_through_the_whole_pipeline_and_leaves_a_discriminator_and_its_figures(root: Path, tmp_path: Path):
    checkout = fresh_checkout(root, tmp_path / "checkout")
    (checkout.folder / "params.yaml").write_text(complete_text("ldm_celeba", root))
    checkout.change(**SHORT)
    checkout.commit()
    assert checkout.repro() == EVERY_STAGE
    assert [path.name for path in (checkout.folder / "checkpoints" / "discriminator").iterdir()] == [
        "discriminator.safetensors"
    ]
    drawn = {path.name for path in (checkout.folder / "fig" / "autoencoder").iterdir()}
    assert drawn >= {"adversarial.png", "confidence.png", "patches.png", "reconstructions.png"}
    header, *rows = (checkout.folder / "fig" / "autoencoder" / "loss.csv").read_text().splitlines()
    assert {"discriminator_loss", "generator_loss", "adaptive_weight", "logits_real", "logits_fake"} <= set(
        header.split(",")
    )
    assert len(rows) == 2
    assert json.loads(checkout.dvc("status", "--json")) == {}
