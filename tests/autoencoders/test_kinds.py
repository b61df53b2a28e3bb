"""Properties of every kind of autoencoder, network and image size."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from latentline.autoencoders.ae import AE
from latentline.autoencoders.base import Autoencoder
from latentline.autoencoders.build import build_autoencoder
from latentline.autoencoders.identity import Identity
from latentline.autoencoders.vae import VAE
from latentline.core.seeds import generator
from latentline.data.store import to_uint8, to_unit_range
from support.training_loss import training_loss

NETWORKS = {
    "latent_channels": 3,
    "encoder_channels": [8, 16],
    "encoder_blocks": [1, 1],
    "decoder_channels": [8, 16],
    "decoder_blocks": [1, 2],
}
KINDS = {"identity": {}, "ae": NETWORKS, "vae": {"kl_weight": 1e-3, **NETWORKS}}
FACTORS = {"conv": 4, "stable_diffusion": 2}  # two levels


def _autoencoder(kind: str, image_shape: tuple[int, ...], **changes: object) -> Autoencoder:
    return build_autoencoder(
        kind, image_shape=list(image_shape), **KINDS[kind], **({} if kind == "identity" else changes)
    )


def _awake(autoencoder: Autoencoder) -> Autoencoder:
    for parameter in autoencoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return autoencoder


sizes = st.sampled_from([(28, 28), (33, 33), (48, 64), (5, 1)]) | st.tuples(st.integers(1, 20), st.integers(1, 20))
networks = st.sampled_from(list(FACTORS))


@settings(max_examples=40)
@given(
    st.sampled_from(list(KINDS)), networks, sizes, st.sampled_from([1, 3]), st.sampled_from([None, 10]), st.booleans()
)
def test_images_of_any_size_come_back_in_their_size_by_latents_of_the_shape_promised(
    kind, network, size, channels, latent_dim, attention
):
    levels = [1] if attention else []
    autoencoder = _autoencoder(
        kind,
        (channels, *size),
        network=network,
        latent_dim=latent_dim,
        attention_levels=levels,
        middle_attention=attention,
    )
    x = torch.rand(2, channels, *size) * 2 - 1
    z = autoencoder.encode(x)
    if kind == "identity":
        expected = (channels, *size)
    else:
        expected = (3, *(math.ceil(side / FACTORS[network]) for side in size)) if latent_dim is None else (latent_dim,)
    assert z.shape == (2, *autoencoder.latent_shape) == (2, *expected)
    assert autoencoder.decode(z).shape == x.shape
    loss, terms, _ = training_loss(autoencoder, x, generator(0))
    assert loss.shape == ()
    assert terms["loss"] is loss
    assert "mse" in terms


@given(st.sampled_from(["ae", "vae"]), networks, st.sampled_from([(7, 5), (6, 9)]))
def test_an_image_that_does_not_divide_is_encoded_as_if_its_edges_were_repeated(kind, network, size):
    whole = tuple(math.ceil(side / 4) * 4 for side in size)
    small, large = (
        _awake(_autoencoder(kind, (1, *size), network=network)),
        _autoencoder(kind, (1, *whole), network=network),
    )
    large.load_state_dict(small.state_dict())
    x = torch.randn(2, 1, *size)
    rows, columns = (torch.arange(to).clamp(max=side - 1) for to, side in zip(whole, size, strict=True))
    repeated = x[:, :, rows][..., columns]
    z = large.encode(repeated)
    if network == "conv":  # its factor is 4; the other network's is 2, so its latent lacks the last repeated positions
        torch.testing.assert_close(small.encode(x), z, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(small.decode(z), large.decode(z)[..., : size[0], : size[1]], atol=1e-5, rtol=1e-5)
    else:
        even = tuple(math.ceil(side / 2) * 2 for side in size)
        torch.testing.assert_close(
            small.encode(x), small.encode(repeated[..., : even[0], : even[1]]), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("network", FACTORS)
@pytest.mark.parametrize("latent_dim", [None, 6])
def test_each_image_is_encoded_alone_and_gradients_reach_all_of_it(network, latent_dim):
    autoencoder = _awake(_autoencoder("ae", (1, 9, 8), network=network, latent_dim=latent_dim, middle_attention=True))
    x = torch.randn(3, 1, 9, 8, requires_grad=True)
    decoded = autoencoder.decode(autoencoder.encode(x))
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(x[1:2]))[0], decoded[1], atol=1e-4, rtol=1e-4)
    decoded[1].square().sum().backward()
    assert (x.grad[1] != 0).all()
    assert not x.grad[[0, 2]].any()


def test_the_registry_builds_what_it_names():
    kinds = {"identity": Identity, "ae": AE, "vae": VAE}
    for name, kind in kinds.items():
        assert type(_autoencoder(name, (1, 8, 8))) is kind


def test_the_identity_returns_the_image_itself_and_has_nothing_to_learn():
    autoencoder, x = _autoencoder("identity", (3, 5, 4)), torch.randn(2, 3, 5, 4)
    assert torch.equal(autoencoder.decode(autoencoder.encode(x)), x)
    assert list(autoencoder.parameters()) == []
    assert training_loss(autoencoder, x, generator(0))[0].item() == 0


def test_every_grey_level_survives_the_identitys_half_precision_cache():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    cached = _autoencoder("identity", (1, 16, 16)).encode(to_unit_range(levels)).half()
    assert torch.equal(to_uint8(cached.float()), levels)


@pytest.mark.parametrize(("reconstruction", "error"), [("l1", F.l1_loss), ("l2", F.mse_loss)])
def test_a_plain_autoencoders_loss_is_the_error_chosen(reconstruction, error):
    autoencoder, x = _awake(_autoencoder("ae", (1, 8, 8), reconstruction=reconstruction)), torch.randn(2, 1, 8, 8)
    loss, terms, _ = training_loss(autoencoder, x, generator(0))
    torch.testing.assert_close(loss, error(autoencoder.decode(autoencoder.encode(x)), x))
    assert terms.keys() == {"loss", "mse", *(["l1"] if reconstruction == "l1" else [])}


@pytest.mark.parametrize("network", FACTORS)
def test_a_plain_autoencoder_with_a_vector_learns_to_separate_images(network):
    torch.manual_seed(0)
    images = torch.rand(16, 1, 8, 8) * 2 - 1
    autoencoder = _autoencoder("ae", (1, 8, 8), network=network, latent_dim=16)
    adam = torch.optim.Adam(autoencoder.parameters(), lr=1e-2)
    for step in range(60):
        training_loss(autoencoder, images, generator(0), step)[0].backward()
        adam.step()
        adam.zero_grad()
    blank = images.var(dim=0, correction=0).mean().item()  # error of the mean image
    assert F.mse_loss(autoencoder.decode(autoencoder.encode(images)), images).item() < blank / 2
