"""The variational autoencoder: its KL term, its posterior samples, its loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch.distributions import Normal, kl_divergence

from latentline.autoencoders.vae import VAE, kl_from_standard_normal
from latentline.core.seeds import generator
from support.training_loss import training_loss


def _vae(image_shape=(1, 8, 8), **changes) -> VAE:
    settings = {
        "latent_channels": 3,
        "encoder_channels": [8, 16],
        "encoder_blocks": [1, 1],
        "decoder_channels": [8, 16],
        "decoder_blocks": [1, 1],
    }
    return VAE(**{"image_shape": image_shape, "kl_weight": 0.1, **settings, **changes})


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-8, 4)), min_size=1, max_size=6))
def test_the_kl_term_is_the_divergence_of_the_posterior_from_the_standard_normal(values):
    mean, log_variance = torch.tensor(values, dtype=torch.float64).T
    expected = kl_divergence(
        Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    ).sum()
    torch.testing.assert_close(kl_from_standard_normal(mean[None], log_variance[None]), expected[None])


def test_the_kl_term_is_one_number_per_image_and_zero_for_the_standard_normal_alone():
    assert torch.equal(kl_from_standard_normal(torch.zeros(4, 2, 3, 3), torch.zeros(4, 2, 3, 3)), torch.zeros(4))
    assert (kl_from_standard_normal(torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)) > 0).all()


@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 33, 33), (2, 30, 45), (1, 5, 1)])
def test_latents_have_the_shape_promised_and_images_come_back_in_theirs(image_shape):
    vae = _vae(image_shape)
    z = vae.encode(torch.randn(2, *image_shape))
    assert z.shape == (2, *vae.latent_shape)
    assert vae.decode(z).shape == (2, *image_shape)


def test_encoding_is_the_posteriors_mean_and_the_same_every_time(awake):
    vae, x = awake(_vae()), torch.randn(3, 1, 8, 8)
    assert torch.equal(vae.encode(x), vae.posterior(x)[0])
    torch.manual_seed(1)
    first = vae.encode(x)
    torch.manual_seed(2)
    assert torch.equal(first, vae.encode(x))


def test_gradients_flow_through_encode_and_decode_to_every_pixel(awake):
    vae, x = awake(_vae()), torch.randn(2, 1, 8, 8, requires_grad=True)
    vae.decode(vae.encode(x)).square().sum().backward()
    assert (x.grad != 0).all()


def test_the_loss_is_the_squared_error_plus_the_weighted_kl_per_pixel(awake):
    vae, x = awake(_vae()), torch.rand(4, 1, 8, 8) * 2 - 1
    loss, terms, made = training_loss(vae, x, generator(0, "noise"))
    mean, log_variance = vae.posterior(x)
    draw = generator(0, "noise")
    noise = torch.stack([torch.randn(mean.shape[1:], generator=draw) for _ in x])
    reconstruction = vae.decode(mean + (log_variance / 2).exp() * noise)
    torch.testing.assert_close(made, reconstruction)
    torch.testing.assert_close(terms["mse"], F.mse_loss(reconstruction, x))
    torch.testing.assert_close(terms["kl"], kl_from_standard_normal(mean, log_variance).mean())
    torch.testing.assert_close(loss, terms["mse"] + 0.1 * terms["kl"] / 64)
    assert terms["loss"] is loss


def test_micro_batches_draw_the_noise_of_the_whole_batch(awake):
    vae, x = awake(_vae()), torch.randn(5, 1, 8, 8)
    (noise,) = vae.sample_training_noise(5, generator(0, "noise"))
    draw = generator(0, "noise")
    assert torch.equal(noise, torch.cat([vae.sample_training_noise(count, draw)[0] for count in (1, 2, 2)]))
    cut = [vae.loss(x[rows], (noise[rows],)) for rows in (slice(0, 1), slice(1, 3), slice(3, 5))]
    loss, _, made = vae.loss(x, (noise,))
    torch.testing.assert_close(torch.cat([part for _, _, part in cut]), made)
    torch.testing.assert_close((cut[0][0] + 2 * cut[1][0] + 2 * cut[2][0]) / 5, loss)


def test_encoding_with_a_generator_draws_from_the_posterior(awake):
    vae, x = awake(_vae()), torch.randn(1, 1, 8, 8).expand(4000, 1, 8, 8)
    mean, log_variance = vae.posterior(x[:1])
    samples = vae.encode(x, generator(0, "draw"))
    assert torch.equal(samples, vae.encode(x, generator(0, "draw")))
    torch.testing.assert_close(samples.mean(dim=0), mean[0], atol=0.1, rtol=0)
    torch.testing.assert_close(samples.std(dim=0), (log_variance[0] / 2).exp(), atol=0.1, rtol=0)


def test_the_kl_term_rises_from_nothing_to_its_weight_over_the_warm_up(awake):
    vae, x = awake(_vae(kl_warmup_steps=3)), torch.randn(4, 1, 8, 8)
    terms = training_loss(vae, x, generator(0))[1]
    shares = [(training_loss(vae, x, generator(0), step)[0] - terms["mse"]).item() for step in (0, 1, 2, 3, 100)]
    full = (terms["loss"] - terms["mse"]).item()
    assert shares == pytest.approx([full / 4, full / 2, full * 3 / 4, full, full], rel=1e-4)


def test_the_reconstruction_error_may_be_absolute(awake):
    vae, x = awake(_vae(reconstruction="l1", kl_weight=0.0)), torch.rand(4, 1, 8, 8) * 2 - 1
    loss, terms, _ = training_loss(vae, x, generator(0))
    decoded = vae.decode(vae.encode(x, generator(0)))
    torch.testing.assert_close(loss, F.l1_loss(decoded, x))
    torch.testing.assert_close(terms["mse"], F.mse_loss(decoded, x))


def test_the_loss_depends_on_the_noise_alone(awake):
    vae, x = awake(_vae()), torch.randn(4, 1, 8, 8)
    losses = [training_loss(vae, x, generator(0, name))[0].item() for name in ("a", "a", "b")]
    assert losses[0] == losses[1] != losses[2]


def test_a_runaway_posterior_keeps_the_loss_finite():
    vae = _vae()
    last = vae.encoder.layers[-1]
    torch.nn.init.constant_(last.bias, 1e4)
    loss, terms, _ = training_loss(vae, torch.zeros(1, 1, 8, 8), generator(0))
    assert math.isfinite(loss.item())
    assert math.isfinite(terms["kl"].item())


def test_thirty_steps_on_digits_teach_it_to_reconstruct():
    images = torch.from_numpy(load_digits().images[:64]).float()[:, None] / 8 - 1
    vae = _vae(kl_weight=1e-3)
    adam = torch.optim.Adam(vae.parameters(), lr=5e-3)
    before = F.mse_loss(vae.decode(vae.encode(images)), images).item()
    for step in range(30):
        training_loss(vae, images, generator(0, step))[0].backward()
        adam.step()
        adam.zero_grad()
    after = F.mse_loss(vae.decode(vae.encode(images)), images).item()
    blank = images.var(dim=0, correction=0).mean().item()  # error of the mean image
    assert after < before / 2
    assert after < blank
