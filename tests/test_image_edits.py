"""Inpainting and SDEdit of a trained model: exact where nothing is to change, and the same for any batch size."""

import re

import pytest
import torch

from latentline.autoencoders.load import TrainedAutoencoder
from latentline.core.errors import UserError
from latentline.core.labels import build_schema
from latentline.core.seeds import start_noise
from latentline.data.store import to_uint8
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.conditioning import Conditioning
from latentline.denoisers.load import Denoiser
from latentline.diffusion.process import build_process
from latentline.diffusion.time_grid import time_grid
from latentline.image_edits import blend, latent_mask
from latentline.latents.cache import LatentStats
from latentline.latents.normalizer import Normalizer
from latentline.samplers.ddpm import ddpm
from latentline.trained_model import TrainedModel
from support.small_networks import IMAGE, awake, small_autoencoder

CPU = torch.device("cpu")
MAPS = ["identity", "vae", "vae of stable diffusion"]
QUICK = {"steps": 3, "resamplings": 2}


def _model(kind: str, path: str = "flow") -> TrainedModel:
    """Return an untrained model in which all inputs matter."""
    autoencoder, schema = small_autoencoder(kind).eval(), build_schema(("boot", "bag", "7"), ())
    shape = tuple(autoencoder.latent_shape)
    network = {"mlp": {"width": 8, "depth": 2}, "unet": {"channels": [8], "blocks": 1, "attention_levels": []}}
    name = "unet" if len(shape) == 3 else "mlp"
    denoiser = awake(build_denoiser(name, latent_shape=shape, cond_dim=3, **network[name])).eval()
    per_channel = (shape[0], 1, 1)[: len(shape)]
    return TrainedModel(
        TrainedAutoencoder(autoencoder, CPU, "", IMAGE),
        LatentStats(shape, schema, "", Normalizer(torch.full(per_channel, 0.3), torch.full(per_channel, 2.0))),
        Denoiser(denoiser, build_process(path, "v"), Conditioning(schema), shape, CPU),
        CPU,
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, *IMAGE) * 2 - 1


@pytest.fixture
def mask() -> torch.Tensor:
    """Return holes: none, one, and a larger one."""
    mask = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    mask[1, :, 2:5, 2:5] = mask[2, :, 3:] = True
    return mask


@pytest.mark.parametrize("path", ["flow", "vp_linear"])
@pytest.mark.parametrize("kind", MAPS)
def test_outside_the_mask_no_byte_changes_and_what_it_hides_has_no_effect(kind, path, images, mask):
    model = _model(kind, path)
    filled = model.inpaint(images, mask, **QUICK)
    assert torch.equal(to_uint8(filled)[~mask], to_uint8(images)[~mask])
    assert torch.equal(filled[0], images[0])
    assert not torch.isclose(filled, images)[mask].any()
    assert torch.equal(model.inpaint(images.masked_fill(mask, 0.7), mask, **QUICK), filled)
    assert not torch.isclose(model.inpaint(images, mask, seed=1, **QUICK), filled)[mask].all()


def test_an_empty_mask_returns_the_images_and_a_full_one_samples(images):
    model, nothing = _model("vae"), torch.zeros(8, 8, dtype=torch.bool)
    assert torch.equal(model.inpaint(images, nothing), images)
    assert model.inpaint(images[:0], nothing).shape == images[:0].shape
    indices = torch.arange(3)
    noise = [
        start_noise(0, name, indices, model.latent_shape)
        for name in ("inpaint", *(f"inpaint/step {i}" for i in range(3)))
    ]
    guided = model._model(model.condition(label="bag"), 3, 2.0)
    z0 = ddpm(guided, noise[0], time_grid(3), noise_fn=lambda index: noise[index + 1], variance="beta")
    options = {"steps": 3, "resamplings": 1, "guidance_scale": 2.0}
    filled = model.inpaint(images, ~nothing, model.condition(label="bag"), **options)
    assert torch.equal(filled, model.decode(z0))


@pytest.mark.parametrize("method", ["inpaint", "sdedit"])
def test_an_image_is_the_same_for_any_batch_size(method, images, mask):
    model = _model("vae")

    def edit(rows: slice, first: int) -> torch.Tensor:
        second = mask[rows] if method == "inpaint" else 0.8
        return getattr(model, method)(images[rows], second, model.condition(label="7"), first=first, steps=3)

    together = edit(slice(0, 3), 0)
    torch.testing.assert_close(torch.cat([edit(slice(0, 2), 0), edit(slice(2, 3), 2)]), together)
    assert not torch.allclose(edit(slice(2, 3), 0), together[2:])


def test_a_position_is_kept_only_where_all_of_its_pixels_are():
    mask = torch.zeros(1, 1, 7, 6, dtype=torch.bool)
    mask[..., 3, 1] = mask[..., 6, 5] = True
    expected = torch.tensor([[True, False], [False, True]])  # the last row covers 3 pixels, the last column 2
    assert torch.equal(latent_mask(mask, (4, 4))[0, 0], expected)


def test_the_seam_takes_back_what_decoding_changed_beside_it_and_nothing_further_inside():
    images, mask = torch.zeros(1, 1, 4, 16), torch.zeros(1, 1, 4, 16, dtype=torch.bool)
    mask[..., 6:] = True
    row = blend(images, torch.full_like(images, 0.5), mask, (2, 2))[0, 0, 1]
    assert row[:6].tolist() == [0] * 6
    torch.testing.assert_close(row[6:9], torch.tensor([0.1, 0.3, 0.5]))  # 2/5 and 1/5 of the pixels near are kept
    assert row[8:].tolist() == [0.5] * 8
    everything = torch.ones_like(mask)
    assert torch.equal(blend(images, images + 0.5, everything, (2, 2)), images + 0.5)


@pytest.mark.parametrize("kind", MAPS)
def test_sdedit_keeps_less_the_higher_the_strength_and_nothing_at_1(kind, images):
    model, bag = _model(kind), _model(kind).condition(label="bag")
    others = images.flip(0).neg()
    apart = [
        (model.sdedit(images, strength, bag, steps=4) - model.sdedit(others, strength, bag, steps=4)).norm()
        for strength in (1e-3, 0.5, 1.0)
    ]
    assert apart[0] > apart[1] > 0
    assert apart[2] == 0
    torch.testing.assert_close(
        model.sdedit(images, 1e-4, bag, steps=1), model.decode(model.encode(images)), atol=5e-3, rtol=0
    )
    assert model.sdedit(images[:0], 0.5).shape == images[:0].shape


def test_sdedit_of_a_diffusion_autoencoder_is_conditioned_on_the_images_own_latents_or_on_others(images):
    model = _model("diffae")
    z0 = model.encode(images)
    own = model.sdedit(images, 0.7)
    assert torch.equal(model.sdedit(images, 0.7, z0=z0), own)
    assert not torch.allclose(model.sdedit(images, 0.7, z0=z0 + 1), own)
    torch.testing.assert_close(model.sdedit(images[1:], 0.7, first=1), own[1:])


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        ("diffae", lambda m, x, h: m.inpaint(x, h), "latents of shape (3,) must be maps (C, H, W) for inpaint, since "),
        ("ae of vectors", lambda m, x, h: m.inpaint(x, h), "latents of shape (3,) must be maps (C, H, W) for inpaint"),
        ("vae", lambda m, x, h: m.inpaint(x[:, :, 1:], h), "images (torch.float32 (3, 1, 7, 8)) must be float in "),
        ("vae", lambda m, x, h: m.inpaint(x, h.float()), "mask (torch.float32) must be a bool tensor, True where to "),
        ("vae", lambda m, x, h: m.inpaint(x, h.numpy()), "mask (ndarray) must be a bool tensor, True where to fill; "),
        (
            "vae",
            lambda m, x, h: m.inpaint(x, h[:2]),
            "mask (2, 1, 8, 8) must have the shape (3, 1, 8, 8), or (8, 8) for all images; correct it",
        ),
        ("vae", lambda m, x, h: m.inpaint(x, h, steps=0), "steps (0) must be an integer and at least 1; "),
        ("vae", lambda m, x, h: m.inpaint(x, h, resamplings=0), "resamplings (0) must be an integer and at least 1; "),
        ("vae", lambda m, x, h: m.inpaint(x, h, jump=0.5), "jump (0.5) must be an integer and at least 1; "),
        (
            "vae",
            lambda m, x, h: m.inpaint(x, h, steps=4, jump=4),
            "jump (4) must be below steps (4); lower it, or set resamplings to 1",
        ),
        ("vae", lambda m, x, h: m.inpaint(x, h, first=-1), "first (-1) must be an integer and at least 0; "),
        ("vae", lambda m, x, h: m.inpaint(x, h, guidance_scale=-1), "guidance_scale (-1) must be from 0 to 100; "),
        ("vae", lambda m, x, h: m.sdedit(x, 0), "strength (0) must be above 0 and at most 1; correct it"),
        ("vae", lambda m, x, h: m.sdedit(x, x), "strength (Tensor) must be one number for all images; correct it"),
        ("vae", lambda m, x, h: m.sdedit(x, 0.5, steps=0), "steps (0) must be an integer and at least 1; "),
        (
            "diffae",
            lambda m, x, h: m.sdedit(x, 0.5, m.condition(label=0)),
            "condition must be None for sdedit with a diffae, which is conditioned on z0; pass z0",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(kind, bad, message, images, mask):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        bad(_model(kind), images, mask)
    assert "\n" not in str(caught.value)
