"""A run's folder, used from Python from somewhere else."""

from pathlib import Path

import pytest
import torch

from latentline.autoencoders.build import build_autoencoder
from latentline.core.attributes import Attribute
from latentline.core.errors import UserError
from latentline.core.files import sha256_file
from latentline.core.paths import AUTOENCODER, DENOISER, LATENT_STATS, LATENTS
from latentline.data.store import to_unit_range
from latentline.denoisers.build import build_denoiser
from latentline.diffusion.process import PATHS
from latentline.latents.cache import LatentSplit, write_cache
from latentline.runtime.checkpoint import save_checkpoint
from latentline.trained_model import TrainedModel, load

CLASSES = ("boot", "bag", "7")
ATTRIBUTES = (Attribute("wide", "binary"), Attribute("level", "continuous", mean=10.0, std=4.0))
FEATURES = 3 + 1 + 2
CODER = {
    "latent_channels": 2,
    "encoder_channels": [8],
    "encoder_blocks": [1],
    "decoder_channels": [8],
    "decoder_blocks": [1],
}


@pytest.fixture
def run(tmp_path, awake) -> Path:
    """An untrained run, in which all inputs matter, and whose latents are far from standard."""
    constructor = {"image_shape": [1, 8, 8], "kl_weight": 0.1, **CODER}
    autoencoder = build_autoencoder("vae", **constructor)
    save_checkpoint(
        tmp_path / AUTOENCODER,
        kind="autoencoder",
        name="vae",
        constructor=constructor,
        trained_on={},
        tensors=autoencoder.state_dict(),
    )
    digest = sha256_file(tmp_path / AUTOENCODER)
    split = LatentSplit(torch.randn(50, *autoencoder.latent_shape) * 3 + 5, torch.arange(50) % 3, torch.rand(50, 2))
    write_cache(tmp_path / LATENTS, {"train": [split]}, classes=CLASSES, attributes=ATTRIBUTES, autoencoder=digest)
    constructor = {
        "latent_shape": list(autoencoder.latent_shape),
        "features": FEATURES,
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
    told = model.condition(label="bag", wide=1, level=12.0)
    functions = {
        "encode": (model.encode, images),
        "decode": (model.decode, model.encode(images)),
        "round trip": (lambda x: model.encode(model.decode(x)), model.encode(images)),
        "denoise": (lambda z: model.denoise(z, 0.5, told, steps=3, guidance_scale=2.0), model.encode(images)),
    }
    function, start = functions[through]
    place = start.detach().requires_grad_()
    function(place).square().sum().backward()
    step = 0.01 * place.grad / place.grad.norm()  # uphill, where the slope is the gradient's length
    slope = (function(start + step).square().sum() - function(start - step).square().sum()) / 0.02
    torch.testing.assert_close(slope, place.grad.norm(), rtol=0.02, atol=0)
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


def test_the_condition_matters_and_saying_nothing_is_a_condition_of_zeros(model, images):
    z_t = model.add_noise(images, 0.7)
    boot, bag = (model.condition(label=label, wide=0, level=10.0) for label in ("boot", "bag"))
    assert not torch.allclose(model.denoise(z_t, 0.7, boot), model.denoise(z_t, 0.7, bag))
    assert torch.equal(model.denoise(z_t, 0.7), model.denoise(z_t, 0.7, torch.zeros(1, FEATURES)))
    together = model.denoise(z_t, 0.7, torch.cat([boot, bag, bag, boot]))
    torch.testing.assert_close(together[1:3], model.denoise(z_t, 0.7, bag)[1:3])


def test_guidance_moves_away_from_what_is_said_when_nothing_is_told(model, images):
    z_t, bag = model.add_noise(images, 0.7), model.condition(label="bag", wide=0, level=10.0)
    told, untold, guided = (model.estimate(z_t, 0.7, *rest) for rest in ((bag,), (None,), (bag, 3.0)))
    torch.testing.assert_close(guided, untold + 3 * (told - untold), atol=1e-4, rtol=1e-4)


def test_samples_are_denoised_noise_and_differ_by_their_seed(model):
    bag = model.condition(label="bag", wide=0, level=10.0)
    samples = model.sample(3, bag, steps=2, seed=5)
    assert samples.shape == (3, *model.latent_shape)
    noise = model.add_noise_to_latents(torch.zeros(3, *model.latent_shape), 1.0, seed=5)
    torch.testing.assert_close(samples, model.denoise(noise, 1.0, bag, steps=2))
    assert not torch.equal(samples, model.sample(3, bag, steps=2, seed=6))


def test_a_condition_is_one_hot_classes_signs_and_standardised_numbers(model):
    expected = torch.tensor([[0, 1, 0, 1, 1, 0.5], [0, 0, 1, -1, 1, 0.5]])
    torch.testing.assert_close(model.condition(label=["bag", "7"], wide=[1, 0], level=12.0), expected)
    torch.testing.assert_close(
        model.condition(label=torch.tensor([1, 2]), wide=torch.tensor([1, 0]), level=12), expected
    )
    assert torch.equal(model.condition(), torch.zeros(1, FEATURES))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda model: model.encode(torch.zeros(2, 1, 9, 9)), r"images: .*\(2, 1, 9, 9\); expected .*\(B, 1, 8, 8\)"),
        (lambda model: model.encode(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)), "images: torch.uint8"),
        (lambda model: model.decode(torch.zeros(2, 1, 8, 8)), "z0: .* model.encode"),
        (lambda model: model.add_noise(torch.zeros(2, 1, 8, 8), 1.5), "t: 1.5"),
        (lambda model: model.denoise(torch.zeros(2, *model.latent_shape), 0.0), r"t 0.0.* \(0, 1\]"),
        (
            lambda model: model.denoise(torch.zeros(2, *model.latent_shape), 0.5, torch.zeros(3, FEATURES)),
            r"condition: \(3, 6\); expected \(2, 6\)",
        ),
        (lambda model: model.condition(label="boot"), "name each of them"),
        (lambda model: model.condition(label="shoe", wide=0, level=1), r"label: \['shoe'\]; expected boot, bag, 7"),
        (lambda model: model.condition(label=3, wide=0, level=1), r"label: \[3\]"),
        (lambda model: model.condition(label=0, wide="yes", level=1), r"wide: \['yes'\]; expected numbers"),
    ],
)
def test_bad_input_is_refused_in_one_line(model, bad, said):
    with pytest.raises(UserError, match=said) as caught:
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
    write_cache(
        run / LATENTS,
        {"train": [LatentSplit(torch.randn(5, 2, 4, 4), None, None)]},
        classes=(),
        attributes=(),
        autoencoder="ab" * 32,
    )
    with pytest.raises(UserError, match=r"encoded_img \(autoencoder abab"):
        load(run)


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
    split = LatentSplit(torch.randn(50, 6) * 3 + 5, torch.arange(50) % 3, torch.rand(50, 2))
    write_cache(
        tmp_path / LATENTS,
        {"train": [split]},
        classes=CLASSES,
        attributes=ATTRIBUTES,
        autoencoder=sha256_file(tmp_path / AUTOENCODER),
    )
    return load(tmp_path)


def test_a_diffusion_autoencoder_gives_an_image_back_from_its_own_noise_alone(diffae, images):
    z0 = diffae.encode(images)
    noise = diffae.invert(images, z0)
    own = (diffae.decode(z0, noise) - images).square().mean()
    assert own < 0.05 * (diffae.decode(z0) - images).square().mean()


def test_redrawn_images_follow_the_latent_the_more_the_more_noise_was_added(diffae, images):
    z0, other = diffae.encode(images), torch.randn(4, 6)
    change = [
        (diffae.sdedit(images, other, t) - diffae.sdedit(images, z0, t)).square().mean() for t in (0.25, 0.5, 1.0)
    ]
    assert change == sorted(change)
    assert torch.equal(diffae.sdedit(images, z0, 0.5), diffae.sdedit(images, z0, 0.5))
    assert not torch.equal(diffae.sdedit(images, z0, 0.5), diffae.sdedit(images, z0, 0.5, seed=1))


@pytest.mark.parametrize("method", ["invert", "sdedit"])
def test_what_needs_noise_is_refused_where_decoding_has_none(model, images, method):
    with pytest.raises(UserError, match=f"{method}: .*expected autoencoder.name diffae"):
        getattr(model, method)(images, model.encode(images), *([0.5] if method == "sdedit" else []))
