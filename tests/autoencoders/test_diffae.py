"""The diffusion autoencoder: latent and noise together give the image, and only the right networks learn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentline.autoencoders.build import build_autoencoder
from latentline.autoencoders.diffae import DiffAE, plain_autoencoder
from latentline.core.condition import Condition
from latentline.core.seeds import generator
from latentline.diffusion.objective import denoising_loss, sample_times
from support.training_loss import training_loss

VAE = {
    "name": "vae",
    "kl_weight": 0.1,
    "latent_channels": 3,
    "encoder_channels": [8],
    "encoder_blocks": [1],
    "decoder_channels": [8],
    "decoder_blocks": [1],
}
SMALL = {
    "inner": {"name": "identity"},
    "embedding_dim": 6,
    "encoder_channels": [8, 16],
    "encoder_blocks": [1, 0],
    "channels": [8, 16],
    "blocks": 1,
    "attention_levels": [1],
    "patch_size": 1,
    "condition_width": 16,
    "path": "flow",
    "prediction": "velocity",
    "sample_timesteps": 3,
}


def _diffae(image_shape: tuple[int, ...] = (1, 8, 8), **changes: object) -> DiffAE:
    autoencoder = build_autoencoder("diffae", image_shape=list(image_shape), **{**SMALL, **changes})
    assert isinstance(autoencoder, DiffAE)
    return autoencoder


@settings(max_examples=8)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([1, 3]),
    inner=st.sampled_from([{"name": "identity"}, VAE]),
    patch_size=st.integers(1, 3),
)
def test_images_of_any_size_come_back_in_their_size_by_a_vector_and_noise_of_the_shapes_promised(
    size, channels, inner, patch_size
):
    autoencoder = _diffae((channels, *size), inner=inner, patch_size=patch_size)
    x = torch.rand(2, channels, *size) * 2 - 1
    z = autoencoder.encode(x)
    assert z.shape == (2, *autoencoder.latent_shape) == (2, 6)
    noise = autoencoder.invert(x, z)
    assert noise.shape == (2, *autoencoder.noise_shape) == (2, *autoencoder.inner.latent_shape)
    assert autoencoder.decode(z, noise).shape == autoencoder.decode(z).shape == x.shape


def test_decoding_without_noise_is_the_same_every_time_and_from_the_same_noise_for_each_image(awake):
    autoencoder = awake(_diffae())
    z = torch.randn(1, 6).expand(2, 6)
    decoded = autoencoder.decode(z)
    torch.manual_seed(1)
    assert torch.equal(decoded, autoencoder.decode(z))
    torch.testing.assert_close(decoded[0], decoded[1])
    assert not torch.allclose(decoded, autoencoder.decode(z, torch.randn(2, 1, 8, 8)))
    assert not torch.allclose(decoded, autoencoder.decode(z + 1))


@pytest.mark.parametrize(("path", "prediction"), [("flow", "velocity"), ("vp_linear", "epsilon"), ("vp_cosine", "v")])
def test_an_image_comes_back_from_its_own_noise_the_better_the_more_steps(awake, path, prediction):
    autoencoder, x = awake(_diffae(path=path, prediction=prediction)), torch.rand(2, 1, 8, 8) * 2 - 1

    def error(steps: int) -> float:
        with torch.no_grad():
            z = autoencoder.encode(x)
            return (autoencoder.decode(z, autoencoder.invert(x, z, steps=steps), steps=steps) - x).abs().mean().item()

    assert error(40) < error(10) / 2


def test_the_steps_of_the_constructor_are_those_of_decoding_and_inverting(awake):
    autoencoder, x = awake(_diffae(sample_timesteps=2)), torch.rand(2, 1, 8, 8)
    z, noise = autoencoder.encode(x), torch.randn(2, 1, 8, 8)
    assert torch.equal(autoencoder.decode(z, noise), autoencoder.decode(z, noise, steps=2))
    assert torch.equal(autoencoder.invert(x, z), autoencoder.invert(x, z, steps=2))
    assert not torch.allclose(autoencoder.invert(x, z), autoencoder.invert(x, z, steps=3))


def test_after_a_few_steps_latents_separate_dark_images_from_bright_ones():
    images = torch.tensor([-0.8, 0.8]).repeat(16).reshape(32, 1, 1, 1).expand(32, 1, 4, 4)
    autoencoder = _diffae((1, 4, 4), channels=[16], attention_levels=[], sample_timesteps=4)
    adam = torch.optim.Adam([parameter for parameter in autoencoder.parameters() if parameter.requires_grad], lr=1e-2)
    for step in range(40):
        training_loss(autoencoder, images, generator(0, step), step)[0].backward()
        adam.step()
        adam.zero_grad()
    with torch.no_grad():
        z, noise = autoencoder.encode(images), torch.randn(images.shape, generator=generator(0, "noise"))
        own, others = (
            (autoencoder.decode(latent, noise) - images).square().mean().item() for latent in (z, z.roll(1, dims=0))
        )
    assert own < others / 4


def test_the_loss_is_the_denoising_loss_of_the_image_conditioned_on_its_vector(awake):
    autoencoder, x = awake(_diffae()), torch.rand(4, 1, 8, 8) * 2 - 1
    loss, terms, reconstruction = training_loss(autoencoder, x, generator(0, "noise"))
    draw = generator(0, "noise")
    t, noise = zip(
        *((sample_times(1, "uniform", draw), torch.randn(1, *x.shape[1:], generator=draw)) for _ in x), strict=True
    )
    condition = Condition(autoencoder.encode(x))
    expected = denoising_loss(
        autoencoder.decoder, autoencoder.process, x, condition, torch.cat(t), torch.cat(noise)
    ).mean()
    torch.testing.assert_close(loss, expected)
    assert terms["loss"] is loss
    assert reconstruction is None


def test_micro_batches_draw_the_noise_of_the_whole_batch(awake):
    autoencoder, x = awake(_diffae()), torch.rand(4, 1, 8, 8) * 2 - 1
    draw = generator(0, "noise")
    parts = [training_loss(autoencoder, part, draw)[0] for part in (x[:1], x[1:])]
    torch.testing.assert_close(parts[0] / 4 + 3 * parts[1] / 4, training_loss(autoencoder, x, generator(0, "noise"))[0])


def test_joint_training_moves_encoder_and_decoder_and_never_the_inner_autoencoder(awake):
    autoencoder = awake(_diffae(inner=VAE))
    training_loss(autoencoder, torch.rand(4, 1, 8, 8), generator(0))[0].backward()
    learning = {
        name.split(".")[0]
        for name, parameter in autoencoder.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert learning == {"encoder", "decoder"}


def test_an_adopted_encoder_gives_its_own_latents_and_learns_no_more(awake):
    plain = awake(plain_autoencoder((1, 8, 8), 6, [8, 16], [1, 0]))
    autoencoder, x = awake(_diffae()), torch.rand(4, 1, 8, 8)
    autoencoder.adopt_encoder(plain)
    assert torch.equal(autoencoder.encode(x), plain.encode(x))
    training_loss(autoencoder, x, generator(0))[0].backward()
    learning = {name.split(".")[0] for name, parameter in autoencoder.named_parameters() if parameter.grad is not None}
    assert learning == {"decoder"}


def test_diffusion_works_in_the_standardised_latents_of_the_inner_autoencoder(awake):
    trained = awake(build_autoencoder(**VAE, image_shape=[1, 8, 8]))
    autoencoder, x = _diffae(inner=VAE), torch.rand(16, 1, 8, 8)
    latents = trained.encode(x)
    autoencoder.adopt_inner(trained, latents)
    # A new U-Net predicts no velocity, so the noise is the standardised latent itself, which the inner decoder decodes.
    standardised = autoencoder.invert(x, autoencoder.encode(x))
    torch.testing.assert_close(standardised.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(standardised.std(dim=(0, 2, 3), correction=0), torch.ones(3))
    torch.testing.assert_close(
        autoencoder.decode(autoencoder.encode(x), standardised), trained.decode(latents), atol=1e-5, rtol=1e-4
    )


def test_gradients_flow_through_encoding_inverting_and_decoding_to_every_pixel(awake):
    autoencoder, x = awake(_diffae()), torch.rand(2, 1, 8, 8, requires_grad=True)
    z = autoencoder.encode(x)
    autoencoder.decode(z, autoencoder.invert(x, z).detach()).square().sum().backward(retain_graph=True)
    assert (x.grad != 0).all()
    through_latent = x.grad.clone()
    autoencoder.decode(z.detach(), autoencoder.invert(x, z.detach())).square().sum().backward()
    assert ((x.grad - through_latent) != 0).all()


def test_each_image_is_decoded_and_inverted_alone(awake):
    autoencoder, x = awake(_diffae()).eval(), torch.rand(3, 1, 8, 8)
    z, noise = autoencoder.encode(x), torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(
        autoencoder.decode(z[1:2], noise[1:2])[0], autoencoder.decode(z, noise)[1], atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(autoencoder.invert(x[1:2], z[1:2])[0], autoencoder.invert(x, z)[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["identity", "vae"])
def test_autoencoders_that_decode_without_noise_have_none_to_find(name):
    autoencoder = build_autoencoder(image_shape=[1, 8, 8], **(VAE if name == "vae" else {"name": name}))
    assert autoencoder.noise_shape is None
    with pytest.raises(NotImplementedError, match="without noise"):
        autoencoder.invert(torch.zeros(1, 1, 8, 8), torch.zeros(1, *autoencoder.latent_shape))
