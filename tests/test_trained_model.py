"""A finished run works from Python, from any folder, through the public door and the deprecated one."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
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
            "images (torch.float32 (2, 1, 9, 9)) must be float in [-1, 1] of shape (B, 1, 8, 8); give them the size ",
        ),
        (
            lambda model: model.encode(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)),
            "images (torch.uint8 (2, 1, 8, 8)) must be float in [-1, 1] of shape (B, 1, 8, 8); convert bytes with ",
        ),
        (
            lambda model: model.decode(torch.zeros(2, 1, 8, 8)),
            "z0 (torch.float32 (2, 1, 8, 8)) must be float and standardised, of shape (B, 2, 4, 4); "
            "take it from model.encode",
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
            "steps (0) must be an integer and at least 1; raise or round it",
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
            "condition wide (['yes']) must be 0 or 1; correct it",
        ),
        (
            lambda model: model.encode(np.zeros((2, 1, 8, 8), np.float32)),
            "images (ndarray) must be a tensor, float in [-1, 1] of shape (B, 1, 8, 8); convert it by torch.as_tensor",
        ),
        (
            lambda model: model.encode(torch.arange(128.0).reshape(2, 1, 8, 8)),
            "images (values from 0 to 127) must be in [-1, 1]; convert bytes with latentline.data.store.to_unit_range",
        ),
        (
            lambda model: model.encode(torch.full((2, 1, 8, 8), torch.nan)),
            "images (NaN or infinity) must be finite; correct what computes it",
        ),
        (
            lambda model: model.decode(torch.full((2, 2, 4, 4), torch.inf)),
            "z0 (NaN or infinity) must be finite; correct what computes it",
        ),
        (
            lambda model: model.decode(torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4)),
            "autoencoder.name of this run must be diffae for decode with noise; train a diffae",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, 2, 4, 4, dtype=torch.int64), 0.5),
            "z_t (torch.int64 (2, 2, 4, 4)) must be float and standardised, of shape (B, 2, 4, 4); ",
        ),
        (
            lambda model: model.denoise(torch.zeros(2, 2, 4, 4), torch.tensor([0.5, 0.7])),
            "t (Tensor) must be one number for all images; correct it",
        ),
        (
            lambda model: model.sample(2, guidance_scale=1e30),
            "guidance_scale (1e+30) must be from 0 to 100; correct it",
        ),
        (
            lambda model: model.sample(2, guidance_scale=float("nan")),
            "guidance_scale (nan) must be from 0 to 100; correct it",
        ),
        (
            lambda model: model.sample(2, guidance_scale="2"),
            "guidance_scale ('2') must be from 0 to 100; correct it",
        ),
        (
            lambda model: model.sample(2, "bag"),
            "condition ('bag') must be what model.condition returns; pass model.condition(...)",
        ),
        (
            lambda model: model.encode(torch.zeros(1, 8, 8)),
            "images (torch.float32 (1, 8, 8)) must be float in [-1, 1] of shape (B, 1, 8, 8); add the axis of the",
        ),
        (
            lambda model: model.encode(torch.zeros(2, 8, 8, 1)),
            "images (torch.float32 (2, 8, 8, 1)) must be float in [-1, 1] of shape (B, 1, 8, 8); move the channels, ",
        ),
        (
            lambda model: model.decode(torch.full((2, 2, 4, 4), 1e30)),
            "z0 (values up to 1e+30) must give finite images, not NaN or infinity in 2 of 2; take it from model.encode",
        ),
        (
            lambda model: model.sample(-1),
            "count (-1) must be an integer and at least 0; raise or round it",
        ),
        (
            lambda model: model.condition(label=np.eye(3), wide=0, level=1),
            "condition label (shape (3, 3)) must have one value per image; pass (B,) values",
        ),
        (
            lambda model: model.condition(label=[0, 1], wide=[0, 1, 1], level=1),
            "inputs (2 label, 3 wide) must be as many each; pass one row for each image",
        ),
        (
            lambda model: model.condition(label=0, wide=1, level=float("nan")),
            "condition level ([nan]) must be finite numbers; correct it",
        ),
        (
            lambda model: model.condition(label=None, wide=1, level=1),
            "condition label ([None]) must be from boot, bag, 7, or their indices; correct it",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(model, bad, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        bad(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_are_converted_on_the_way_in(model, images, dtype):
    given = images.to(dtype)
    z0 = model.encode(given)
    torch.testing.assert_close(z0, model.encode(given.float()))
    assert z0.dtype == torch.float32
    for method, *rest in (
        (model.decode,),
        (model.denoise, 0.5),
        (model.estimate, 0.5),
        (model.add_noise_to_latents, 1),
    ):
        result = method(z0.to(dtype), *rest)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, method(z0.to(dtype).float(), *rest))


def test_images_in_0_to_1_are_used_and_warned_of(model, images):
    with pytest.warns(
        UserWarning, match=r"images \(values from 0.* must be in \[-1, 1\]; if they are in \[0, 1\], pass"
    ):
        model.encode(images.abs())


def test_an_empty_batch_gives_an_empty_batch(model):
    images, latents = torch.empty(0, *model.image_shape), torch.empty(0, *model.latent_shape)
    assert model.encode(images).shape == model.add_noise(images, 0.5).shape == latents.shape
    assert model.decode(latents).shape == images.shape
    nobody = model.condition(label=[], wide=0, level=1.0)
    assert nobody.vector.shape == (0, COND_DIM)
    for drawn in (model.denoise(latents, 0.5, nobody), model.estimate(latents, 0.5), model.sample(0)):
        assert drawn.shape == latents.shape


@pytest.mark.parametrize("kind", [np.array, tuple, torch.tensor, pd.Series, lambda values: np.array(values)[:, None]])
def test_a_condition_takes_arrays_and_columns_of_any_kind(model, kind):
    expected = model.condition(label=[1, 2], wide=[1, 0], level=[12.0, 8.0]).vector
    given = model.condition(label=kind([1, 2]), wide=kind([1, 0]), level=kind([12.0, 8.0])).vector
    assert torch.equal(given, expected)
    names = model.condition(label=np.array(["bag", "7"]), wide=np.array([True, False]), level=np.float32(12)).vector
    assert torch.equal(names[0], expected[0])


def test_a_device_that_is_not_there_is_refused(run):
    assert load(run, torch.device("cpu")).device == torch.device("cpu")
    with pytest.raises(UserError, match=r"^device \(gpu: .*\) must be one that this machine has; take cpu$"):
        load(run, "gpu")


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
        (diffae.sdedit(images, t, z0=other) - diffae.sdedit(images, t, z0=z0)).square().mean() for t in (0.25, 0.5, 1.0)
    ]
    assert change == sorted(change)
    assert torch.equal(diffae.sdedit(images, 0.5, z0=z0), diffae.sdedit(images, 0.5, z0=z0))
    assert not torch.equal(diffae.sdedit(images, 0.5, z0=z0), diffae.sdedit(images, 0.5, z0=z0, seed=1))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda model, x, z0: model.invert((x * 127).byte(), z0), r"images \(torch.uint8 "),
        (lambda model, x, z0: model.invert(x, z0[:, :3]), r"z0 \(torch.float32 \(4, 3\)\) must be "),
        (lambda model, x, z0: model.invert(x, z0[:3]), r"inputs \(4 images, 3 z0\) must be as many each"),
        (
            lambda model, x, z0: model.sdedit(x[:, :, 1:], 0.5, z0=z0),
            r"images \(torch.float32 \(4, 1, 7, 8\)\) must be ",
        ),
        (lambda model, x, z0: model.sdedit(x, 0.5, z0=z0[:1]), r"inputs \(4 images, 1 z0\) must be as many each"),
        (lambda model, x, z0: model.decode(z0, x.byte()), r"noise \(torch.uint8 "),
        (lambda model, x, z0: model.decode(z0, x[:, :, :4]), r"noise \(torch.float32 \(4, 1, 4, 8\)\) must be "),
        (lambda model, x, z0: model.decode(z0, x[:2]), r"inputs \(4 z0, 2 noise\) must be as many each"),
    ],
)
def test_bad_input_of_a_diffusion_autoencoder_is_refused(diffae, images, bad, message):
    with pytest.raises(UserError, match=message):
        bad(diffae, images, torch.zeros(4, 6))


def test_a_diffusion_autoencoder_takes_doubles_and_empty_batches(diffae, images):
    z0, doubles = diffae.encode(images), images.double()
    torch.testing.assert_close(diffae.invert(doubles, z0.double()), diffae.invert(images, z0))
    torch.testing.assert_close(diffae.sdedit(doubles, 0.5, z0=z0.double()), diffae.sdedit(images, 0.5, z0=z0))
    nothing = diffae.sdedit(images[:0], 0.5, z0=z0[:0])
    assert nothing.shape == diffae.invert(images[:0], z0[:0]).shape == diffae.decode(z0[:0]).shape == (0, 1, 8, 8)


def test_a_method_that_needs_noise_is_refused_where_decoding_has_none(model, images):
    z0 = model.encode(images)
    with pytest.raises(UserError, match=r"autoencoder\.name of this run must be diffae for invert; "):
        model.invert(images, z0)
    with pytest.raises(UserError, match=r"autoencoder\.name of this run must be diffae for sdedit with z0; "):
        model.sdedit(images, 0.5, z0=z0)
