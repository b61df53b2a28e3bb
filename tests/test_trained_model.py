"""A finished run works from Python, from any folder, through the public door and the deprecated one."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

import latentline
from latentline import load
from latentline.autoencoders.build import build_autoencoder
from latentline.core.attributes import Attribute
from latentline.core.condition import Condition, concatenate
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.labels import LabelTable, Schema, build_schema
from latentline.core.paths import AUTOENCODER, DENOISER, LATENT_STATS
from latentline.data.store import to_unit_range
from latentline.denoisers.build import build_denoiser
from latentline.diffusion.process import PATHS
from latentline.latents.cache import LatentSplit, write_cache
from latentline.runtime.checkpoint import save_checkpoint
from latentline.trained_model import TrainedModel

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


def _write_latents(root: Path, latents: torch.Tensor, schema: Schema = SCHEMA, autoencoder: str | None = None) -> None:
    """Write a cache of these latents, with labels in turn and at random."""
    columns = [torch.arange(len(latents))[:, None] % 3, torch.rand(len(latents), 2)]
    labels = LabelTable(schema, torch.cat(columns, dim=1)[:, : len(schema)])
    digest = autoencoder or sha256_file(root / AUTOENCODER)
    write_cache(root, {"train": [LatentSplit(latents, labels)]}, schema=schema, autoencoder=digest)


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
    _write_latents(tmp_path, torch.randn(50, *autoencoder.latent_shape) * 3 + 5)
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


def test_latents_are_standardised_on_the_way_in_and_restored_on_the_way_out(model, images):
    z0, autoencoder = model.encode(images), model.autoencoder.network
    torch.testing.assert_close(
        z0 * model.stats.normalizer.std + model.stats.normalizer.mean, autoencoder.encode(images)
    )
    torch.testing.assert_close(model.decode(z0), autoencoder.decode(autoencoder.encode(images)))
    assert z0.shape[1:] == model.latent_shape
    assert not torch.allclose(z0, autoencoder.encode(images))


@pytest.mark.parametrize("through", ["encode", "decode", "round trip", "denoise"])
def test_gradients_reach_the_inputs_and_are_the_slopes_but_no_weight_is_trained(model, images, through):
    bag = model.condition(label="bag", wide=1, level=12.0)
    functions = {
        "encode": (model.encode, images),
        "decode": (model.decode, model.encode(images)),
        "round trip": (lambda x: model.encode(model.decode(x)), model.encode(images)),
        "denoise": (lambda z: model.denoise(z, 0.5, bag, steps=3, guidance_scale=2.0), model.encode(images)),
    }
    function, start = functions[through]
    point = start.detach().requires_grad_()
    function(point).square().sum().backward()
    step = 0.01 * point.grad / point.grad.norm()  # uphill, where the slope is the gradient's length
    slope = (function(start + step).square().sum() - function(start - step).square().sum()) / 0.02
    torch.testing.assert_close(slope, point.grad.norm(), rtol=0.02, atol=0)
    networks = (model.autoencoder.network, model.denoiser.network)
    assert all(parameter.grad is None for network in networks for parameter in network.parameters())


def test_noise_is_added_along_the_path_and_is_the_same_for_the_same_seed(model, images):
    z0, point = model.encode(images), PATHS["flow"].at_time(0.7)
    z_t = model.add_noise(images, 0.7)
    torch.testing.assert_close(z_t, model.add_noise_to_latents(z0, 0.7))
    noise = (z_t - point.alpha * z0) / point.sigma
    torch.testing.assert_close(model.add_noise(images, 1.0), noise.float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.add_noise(images, 0.0), z0)
    assert not torch.equal(model.add_noise(images, 0.7, seed=1), z_t)


def test_the_condition_matters_and_its_default_is_the_null_condition(model, images):
    z_t = model.add_noise(images, 0.7)
    boot, bag = (model.condition(label=label, wide=0, level=10.0) for label in ("boot", "bag"))
    assert not torch.allclose(model.denoise(z_t, 0.7, boot), model.denoise(z_t, 0.7, bag))
    assert torch.equal(model.denoise(z_t, 0.7), model.denoise(z_t, 0.7, Condition(torch.zeros(1, COND_DIM))))
    together = model.denoise(z_t, 0.7, concatenate([boot, bag, bag, boot]))
    torch.testing.assert_close(together[1:3], model.denoise(z_t, 0.7, bag)[1:3])


def test_guidance_moves_away_from_the_null_condition(model, images):
    z_t, bag = model.add_noise(images, 0.7), model.condition(label="bag", wide=0, level=10.0)
    cond, uncond, guided = (model.estimate(z_t, 0.7, *rest) for rest in ((bag,), (None,), (bag, 3.0)))
    torch.testing.assert_close(guided, uncond + 3 * (cond - uncond), atol=1e-4, rtol=1e-4)


def test_samples_are_denoised_noise_and_differ_by_their_seed(model):
    bag = model.condition(label="bag", wide=0, level=10.0)
    samples = model.sample(3, bag, steps=2, seed=5)
    assert samples.shape == (3, *model.latent_shape)
    noise = model.add_noise_to_latents(torch.zeros(3, *model.latent_shape), 1.0, seed=5)
    torch.testing.assert_close(samples, model.denoise(noise, 1.0, bag, steps=2))
    assert not torch.equal(samples, model.sample(3, bag, steps=2, seed=6))


def test_a_condition_is_one_hot_classes_signs_and_standardised_numbers(model):
    expected = torch.tensor([[0, 1, 0, 1, 1, 0.5], [0, 0, 1, -1, 1, 0.5]])
    torch.testing.assert_close(model.condition(label=["bag", "7"], wide=[1, 0], level=12.0).vector, expected)
    torch.testing.assert_close(
        model.condition(label=torch.tensor([1, 2]), wide=torch.tensor([1, 0]), level=12).vector, expected
    )
    assert torch.equal(model.condition().vector, torch.zeros(1, COND_DIM))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            lambda model: model.encode(torch.zeros(2, 1, 9, 9)),
            "images (torch.float32 (2, 1, 9, 9)) must be float in [-1, 1] of shape (B, 1, 8, 8); convert bytes with ",
        ),
        (
            lambda model: model.encode(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)),
            "images (torch.uint8 (2, 1, 8, 8)) must be float in [-1, 1] of shape (B, 1, 8, 8); convert bytes with ",
        ),
        (
            lambda model: model.decode(torch.zeros(2, 1, 8, 8)),
            "z0 (2, 1, 8, 8) must have the shape (B, 2, 4, 4), standardised; take it from model.encode",
        ),
        (
            lambda model: model.add_noise(torch.zeros(2, 1, 8, 8), 1.5),
            "t (1.5) must be from 0 (data) to 1 (noise); correct it",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, *model.latent_shape), 0.0),
            "t (0.0) must be above 0 and at most 1; correct it",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, *model.latent_shape), 0.5, steps=0),
            "steps (0) must be at least 1; raise it",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, *model.latent_shape), 0.5, Condition(torch.zeros(3, COND_DIM))),
            "condition (3, 6) must have the shape (2, 6) or (1, 6); take it from model.condition(...)",
        ),
        (
            lambda model: model.condition(label="boot"),
            "condition (label) must name label, wide, level; give each of them, or none at all",
        ),
        (
            lambda model: model.condition(label="shoe", wide=0, level=1),
            "condition label (['shoe']) must be from boot, bag, 7, or their indices; correct it",
        ),
        (
            lambda model: model.condition(label=3, wide=0, level=1),
            "condition label ([3]) must be from boot, bag, 7, or their indices; correct it",
        ),
        (
            lambda model: model.condition(label=0, wide="yes", level=1),
            "condition wide (['yes']) must be numbers; correct it",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(model, bad, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        bad(model)
    assert "\n" not in str(caught.value)


def test_without_a_denoiser_it_encodes_and_decodes_and_names_the_missing_stage(run, images):
    complete = load(run)
    (run / DENOISER).unlink()
    model = load(run)
    assert torch.equal(model.decode(model.encode(images)), complete.decode(complete.encode(images)))
    with pytest.raises(UserError, match="dvc repro train_denoiser"):
        model.sample(1)


def test_a_run_is_found_from_any_folder_by_a_path_of_either_kind(run, images, monkeypatch):
    elsewhere = load(run).encode(images)
    monkeypatch.chdir(run)
    assert torch.equal(load().encode(images), elsewhere)
    monkeypatch.chdir(run.parent)
    assert torch.equal(load(run.name).encode(images), elsewhere)


def test_images_of_bytes_come_in_by_the_stores_own_conversion(model):
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    assert model.encode(to_unit_range(images)).shape == (2, *model.latent_shape)


def test_latents_of_another_autoencoder_are_refused(run):
    _write_latents(run, torch.randn(5, 2, 4, 4), (), autoencoder="ab" * 32)
    with pytest.raises(UserError, match=r"encoded_img \(autoencoder abab"):
        load(run)


def test_the_deprecated_door_warns_and_gives_the_same():
    sys.modules.pop("latentline.pipeline.library", None)
    with pytest.warns(DeprecationWarning, match="use `from latentline import load`"):
        library = importlib.import_module("latentline.pipeline.library")
    assert library.load is latentline.load
    assert library.TrainedModel is latentline.TrainedModel


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
    _write_latents(tmp_path, torch.randn(50, 6) * 3 + 5)
    return load(tmp_path)


def test_a_diffusion_autoencoder_gives_an_image_back_from_its_own_noise_alone(diffae, images):
    z0 = diffae.encode(images)
    noise = diffae.invert(images, z0)
    own = (diffae.decode(z0, noise) - images).square().mean()
    assert own < 0.05 * (diffae.decode(z0) - images).square().mean()


def test_sdedit_follows_the_latent_the_more_the_more_noise_was_added(diffae, images):
    z0, other = diffae.encode(images), torch.randn(4, 6)
    change = [
        (diffae.sdedit(images, other, t) - diffae.sdedit(images, z0, t)).square().mean() for t in (0.25, 0.5, 1.0)
    ]
    assert change == sorted(change)
    assert torch.equal(diffae.sdedit(images, z0, 0.5), diffae.sdedit(images, z0, 0.5))
    assert not torch.equal(diffae.sdedit(images, z0, 0.5), diffae.sdedit(images, z0, 0.5, seed=1))


@pytest.mark.parametrize("method", ["invert", "sdedit"])
def test_a_method_that_needs_noise_is_refused_where_decoding_has_none(model, images, method):
    with pytest.raises(UserError, match=f"autoencoder.name of this run must be diffae for {method}; "):
        getattr(model, method)(images, model.encode(images), *([0.5] if method == "sdedit" else []))
