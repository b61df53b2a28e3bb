"""A finished run works from Python, from any folder, through the public door and the deprecated one."""

import importlib
import sys

import pytest
import torch

import latentline
from latentline import load
from latentline.core.condition import Condition, concatenate
from latentline.core.errors import UserError
from latentline.core.paths import DENOISER
from latentline.data.store import to_unit_range
from latentline.diffusion.process import PATHS
from support.untrained_run import COND_DIM, write_latents


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
    write_latents(run, torch.randn(5, 2, 4, 4), (), autoencoder="ab" * 32)
    with pytest.raises(UserError, match=r"encoded_img \(autoencoder abab"):
        load(run)


def test_the_deprecated_door_warns_and_gives_the_same():
    sys.modules.pop("latentline.pipeline.library", None)
    with pytest.warns(DeprecationWarning, match="use `from latentline import load`"):
        library = importlib.import_module("latentline.pipeline.library")
    assert library.load is latentline.load
    assert library.TrainedModel is latentline.TrainedModel
