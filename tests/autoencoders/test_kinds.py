"""What holds for every kind of codec, network and image."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from latentline.autoencoders.ae import AE
from latentline.autoencoders.base import Codec
from latentline.autoencoders.build import build_codec
from latentline.autoencoders.identity import Identity
from latentline.autoencoders.vae import VAE
from latentline.core.seeds import generator
from latentline.data.store import to_uint8, to_unit_range

CODER = {"latent_channels": 3, "encoder_channels": [8, 16], "encoder_blocks": [1, 1], "decoder_channels": [8, 16], "decoder_blocks": [1, 2]}
KINDS = {"identity": {}, "ae": CODER, "vae": {"kl_weight": 1e-3, **CODER}}
FACTORS = {"conv": 4, "stable_diffusion": 2}  # two levels


def _codec(kind: str, image_shape: tuple[int, ...], **changes: object) -> Codec:
    return build_codec(kind, image_shape=list(image_shape), **KINDS[kind], **({} if kind == "identity" else changes))


def _awake(codec: Codec) -> Codec:
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return codec


sizes = st.sampled_from([(28, 28), (33, 33), (48, 64), (5, 1)]) | st.tuples(st.integers(1, 20), st.integers(1, 20))
networks = st.sampled_from(list(FACTORS))


@settings(max_examples=40)
@given(st.sampled_from(list(KINDS)), networks, sizes, st.sampled_from([1, 3]), st.sampled_from([None, 10]), st.booleans())
def test_images_of_any_size_come_back_in_their_size_by_latents_of_the_shape_promised(kind, network, size, channels, latent_dim, attention):
    levels = [1] if attention else []
    codec = _codec(kind, (channels, *size), network=network, latent_dim=latent_dim, attention_levels=levels, middle_attention=attention)
    x = torch.rand(2, channels, *size) * 2 - 1
    z = codec.encode(x)
    if kind == "identity":
        expected = (channels, *size)
    else:
        expected = (3, *(math.ceil(side / FACTORS[network]) for side in size)) if latent_dim is None else (latent_dim,)
    assert z.shape == (2, *codec.latent_shape) == (2, *expected)
    assert codec.decode(z).shape == x.shape
    loss, terms, _ = codec.loss(x, generator(0))
    assert loss.shape == ()
    assert terms["loss"] is loss
    assert "mse" in terms


@given(st.sampled_from(["ae", "vae"]), networks, st.sampled_from([(7, 5), (6, 9)]))
def test_an_image_that_does_not_divide_is_coded_as_if_its_edges_were_repeated(kind, network, size):
    whole = tuple(math.ceil(side / 4) * 4 for side in size)
    small, large = _awake(_codec(kind, (1, *size), network=network)), _codec(kind, (1, *whole), network=network)
    large.load_state_dict(small.state_dict())
    x = torch.randn(2, 1, *size)
    rows, columns = (torch.arange(to).clamp(max=side - 1) for to, side in zip(whole, size, strict=True))
    repeated = x[:, :, rows][..., columns]
    z = large.encode(repeated)
    if network == "conv":  # its factor is that 4; the other's is 2, and its latent then lacks the last of the repeated positions
        torch.testing.assert_close(small.encode(x), z, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(small.decode(z), large.decode(z)[..., : size[0], : size[1]], atol=1e-5, rtol=1e-5)
    else:
        even = tuple(math.ceil(side / 2) * 2 for side in size)
        torch.testing.assert_close(small.encode(x), small.encode(repeated[..., : even[0], : even[1]]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", FACTORS)
@pytest.mark.parametrize("latent_dim", [None, 6])
def test_each_image_is_coded_alone_and_gradients_reach_all_of_it(network, latent_dim):
    codec = _awake(_codec("ae", (1, 9, 8), network=network, latent_dim=latent_dim, middle_attention=True))
    x = torch.randn(3, 1, 9, 8, requires_grad=True)
    decoded = codec.decode(codec.encode(x))
    torch.testing.assert_close(codec.decode(codec.encode(x[1:2]))[0], decoded[1], atol=1e-4, rtol=1e-4)
    decoded[1].square().sum().backward()
    assert (x.grad[1] != 0).all()
    assert not x.grad[[0, 2]].any()


def test_the_registry_builds_what_it_names():
    kinds = {"identity": Identity, "ae": AE, "vae": VAE}
    for name, kind in kinds.items():
        assert type(_codec(name, (1, 8, 8))) is kind


def test_the_identity_returns_the_image_itself_and_has_nothing_to_learn():
    codec, x = _codec("identity", (3, 5, 4)), torch.randn(2, 3, 5, 4)
    assert torch.equal(codec.decode(codec.encode(x)), x)
    assert list(codec.parameters()) == []
    assert codec.loss(x, generator(0))[0].item() == 0


def test_every_grey_level_survives_the_identitys_half_precision_cache():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    cached = _codec("identity", (1, 16, 16)).encode(to_unit_range(levels)).half()
    assert torch.equal(to_uint8(cached.float()), levels)


@pytest.mark.parametrize(("reconstruction", "error"), [("l1", F.l1_loss), ("l2", F.mse_loss)])
def test_a_plain_autoencoders_loss_is_the_error_chosen(reconstruction, error):
    codec, x = _awake(_codec("ae", (1, 8, 8), reconstruction=reconstruction)), torch.randn(2, 1, 8, 8)
    loss, terms, _ = codec.loss(x, generator(0))
    torch.testing.assert_close(loss, error(codec.decode(codec.encode(x)), x))
    assert terms.keys() == {"loss", "mse", *(["l1"] if reconstruction == "l1" else [])}


@pytest.mark.parametrize("network", FACTORS)
def test_a_plain_autoencoder_with_a_vector_learns_to_tell_images_apart(network):
    torch.manual_seed(0)
    images = torch.rand(16, 1, 8, 8) * 2 - 1
    codec = _codec("ae", (1, 8, 8), network=network, latent_dim=16)
    adam = torch.optim.Adam(codec.parameters(), lr=1e-2)
    for step in range(60):
        codec.loss(images, generator(0), step)[0].backward()
        adam.step()
        adam.zero_grad()
    blank = images.var(dim=0, correction=0).mean().item()  # what the mean image scores
    assert F.mse_loss(codec.decode(codec.encode(images)), images).item() < blank / 2
