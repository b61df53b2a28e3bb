"""A finished run of a diffusion autoencoder works from Python: noise, inversion, SDEdit."""

import pytest
import torch

from latentline.core.errors import UserError


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
