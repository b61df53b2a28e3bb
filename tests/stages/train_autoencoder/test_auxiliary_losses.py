"""When auxiliary losses are part of the loss, what their checkpoint holds, and what is reported of them."""

import json
from importlib import util

import pytest
import torch

from latentline.autoencoders.vae import VAE
from latentline.core.errors import UserError
from latentline.runtime.checkpoint import load_checkpoint
from latentline.tools.params_file import read_recipe
from stages.train_autoencoder.auxiliary_losses import build_auxiliary_losses, save_discriminator
from stages.train_autoencoder.auxiliary_report import draw_auxiliary_losses, perceptual_scores
from stages.train_autoencoder.discriminator import PatchDiscriminator
from stages.train_autoencoder.params import AutoencoderParams
from support.training_loss import training_loss

CPU = torch.device("cpu")
HISTORY = [
    {"epoch": 1},
    {
        "epoch": 2,
        "discriminator_loss": 1.0,
        "generator_loss": 0.1,
        "adaptive_weight": 0.2,
        "logits_real": 1.0,
        "logits_fake": 0.0,
    },
]


@pytest.fixture
def params(root):
    def build(**adversarial) -> AutoencoderParams:
        section = read_recipe("default", root)["autoencoder"]
        section["adversarial"] |= {"channels": 8, "layers": 1, "start_step": 2, "warmup_steps": 3, **adversarial}
        return AutoencoderParams.model_validate(section)

    return build


@pytest.fixture
def autoencoder() -> VAE:
    return VAE(
        (1, 8, 8),
        kl_weight=1e-3,
        latent_channels=2,
        encoder_channels=[8],
        encoder_blocks=[1],
        decoder_channels=[8],
        decoder_blocks=[1],
    )


def test_without_weights_nothing_is_added(autoencoder, params):
    losses = build_auxiliary_losses(autoencoder, 1, params(weight=0.0), CPU, 0, 100)
    x = torch.zeros(2, 1, 8, 8)
    loss, terms, reconstruction = training_loss(autoencoder, x, torch.Generator().manual_seed(0))
    total, all_terms = losses.add_to(50, loss, terms, reconstruction, x)
    assert total is loss
    assert all_terms == terms
    assert losses.discriminator is None
    assert perceptual_scores(losses.perceptual, x, x) == {}


def test_the_adversarial_term_is_part_of_the_loss_from_the_end_of_the_warm_up_on(autoencoder, params):
    losses = build_auxiliary_losses(autoencoder, 1, params(weight=0.5), CPU, 0, 100)
    x = torch.rand(2, 1, 8, 8)
    loss, terms, reconstruction = training_loss(autoencoder, x, torch.Generator().manual_seed(0))
    assert losses.discriminator.first_step == 2
    assert losses.add_to(4, loss, terms, reconstruction, x)[0] is loss
    total, all_terms = losses.add_to(5, loss, terms, reconstruction, x)
    assert total != loss
    assert all_terms["loss"] is loss
    assert {"generator_loss", "adaptive_weight"} <= all_terms.keys()


def test_an_adversarial_term_that_would_start_after_the_training_is_refused(autoencoder, params):
    with pytest.raises(
        UserError, match=r"autoencoder\.adversarial\.start_step \(2\) .* must be below the 5 steps .*; lower them"
    ):
        build_auxiliary_losses(autoencoder, 1, params(weight=0.5), CPU, 0, 5)
    build_auxiliary_losses(autoencoder, 1, params(weight=0.5), CPU, 0, 6)


def test_the_discriminators_first_weights_depend_on_the_seed_alone(autoencoder, params):
    first = [
        build_auxiliary_losses(autoencoder, 1, params(weight=0.5), CPU, seed, 100)
        .discriminator.network.layers[1]
        .weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_the_checkpoint_rebuilds_the_discriminator_and_a_note_takes_its_place_without_one(
    autoencoder, params, tmp_path
):
    path = tmp_path / "discriminator" / "discriminator.safetensors"
    on = params(weight=0.5)
    losses = build_auxiliary_losses(autoencoder, 1, on, CPU, 0, 100)
    save_discriminator(path, losses, 1, on.adversarial, {"data": "ab"})
    checkpoint = load_checkpoint(path, kind="discriminator", made_by="train_autoencoder")
    again = PatchDiscriminator(**checkpoint.constructor)
    checkpoint.load_into(again)
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(again(x), losses.discriminator.network(x))

    off = params(weight=0.0)
    save_discriminator(
        path, build_auxiliary_losses(autoencoder, 1, off, CPU, 0, 100), 1, off.adversarial, {"data": "ab"}
    )
    assert [file.name for file in path.parent.iterdir()] == ["off.json"]
    assert json.loads((path.parent / "off.json").read_text()) == {"autoencoder.adversarial.weight": 0}


@pytest.mark.skipif(not util.find_spec("stlpips_pytorch"), reason="the extra `perceptual` is not installed")
def test_the_perceptual_distance_is_part_of_the_loss_and_a_score_beside_its_reference(autoencoder, params, tmp_path):
    losses = build_auxiliary_losses(autoencoder, 1, params().model_copy(update={"perceptual_weight": 2.0}), CPU, 0, 100)
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    loss, terms, reconstruction = training_loss(autoencoder, x, torch.Generator().manual_seed(0))
    total, all_terms = losses.add_to(0, loss, terms, reconstruction, x)
    torch.testing.assert_close(total, loss + 2 * all_terms["perceptual"])
    torch.testing.assert_close(all_terms["perceptual"], losses.perceptual(x, reconstruction).mean())
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    scores = perceptual_scores(losses.perceptual, images, images)
    assert scores["lpips"] == 0
    assert scores["lpips_of_other_images"] > 0
    draw_auxiliary_losses(tmp_path, losses, images, images, [{"epoch": 1, "perceptual": 0.5}])
    assert [path.name for path in tmp_path.iterdir()] == ["perceptual.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_discriminators_figures_are_drawn(params, tmp_path, channels):
    autoencoder = VAE(
        (channels, 8, 12),
        kl_weight=1e-3,
        latent_channels=2,
        encoder_channels=[8],
        encoder_blocks=[1],
        decoder_channels=[8],
        decoder_blocks=[1],
    )
    losses = build_auxiliary_losses(autoencoder, channels, params(weight=0.5), CPU, 0, 100)
    images = torch.randint(0, 256, (20, channels, 8, 12), dtype=torch.uint8)
    draw_auxiliary_losses(tmp_path, losses, images, images.flip(-1), HISTORY)
    assert {path.name for path in tmp_path.iterdir()} == {"adversarial.png", "confidence.png", "patches.png"}
