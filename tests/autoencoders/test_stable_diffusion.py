"""Stable Diffusion's encoder and decoder: shapes, number of parameters, padding, attention."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from latentline.autoencoders.build import build_autoencoder
from latentline.autoencoders.encoder_decoder import build_encoder_decoder
from latentline.autoencoders.stable_diffusion import NearestUpsample, PaddedDownsample
from latentline.core.load_params import validate
from latentline.tools.params_file import read_recipe


def test_the_recipes_network_has_stable_diffusions_shapes_and_number_of_parameters(root):
    params = validate(read_recipe("sd_vae", root)).autoencoder
    with torch.device("meta"):  # shapes without numbers
        autoencoder = build_autoencoder(params.name, image_shape=[3, 256, 256], **params.constructor())
        theirs = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        assert autoencoder.latent_shape == (4, 32, 32)
        assert autoencoder.encode(torch.empty(2, 3, 256, 256)).shape == (2, 4, 32, 32)
        assert autoencoder.decode(torch.empty(2, 4, 32, 32)).shape == (2, 3, 256, 256)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (autoencoder, theirs)]
    assert counts == [83_653_863, 83_653_863]


@pytest.mark.parametrize(("levels", "factor"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16)])
def test_the_number_of_levels_decides_how_much_smaller_the_latent_is(levels, factor):
    widths, blocks = [8] * levels, [1] * levels
    sizes = {"encoder_channels": widths, "encoder_blocks": blocks, "decoder_channels": widths, "decoder_blocks": blocks}
    with torch.device("meta"):
        networks = build_encoder_decoder(
            [3, 64, 96], statistics=1, network="stable_diffusion", latent_channels=4, **sizes
        )
        assert networks.latent_shape == (4, 64 // factor, 96 // factor)
        assert networks.encoder(torch.empty(1, 3, 64, 96)).shape == (1, *networks.latent_shape)


def test_downsampling_pads_at_the_bottom_and_the_right_only():
    down, x = PaddedDownsample(2), torch.randn(1, 2, 4, 6)
    last = F.conv2d(F.pad(x, (0, 1, 0, 1))[..., 2:5, 4:7], down.conv.weight, down.conv.bias)
    assert down(x).shape == (1, 2, 2, 3)
    torch.testing.assert_close(down(x)[..., -1:, -1:], last)
    torch.testing.assert_close(down(x)[..., :1, :1], F.conv2d(x[..., :3, :3], down.conv.weight, down.conv.bias))


def test_upsampling_repeats_each_position_before_it_convolves():
    up, x = NearestUpsample(2), torch.randn(1, 2, 2, 3)
    torch.testing.assert_close(up(x), up.conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)))


@pytest.mark.parametrize("network", ["conv", "stable_diffusion"])
def test_attention_is_where_the_settings_put_it(network):
    def count(**changes: object) -> int:
        sizes = {
            "encoder_channels": [8, 16],
            "encoder_blocks": [1, 2],
            "decoder_channels": [8, 16],
            "decoder_blocks": [2, 3],
        }
        networks = build_encoder_decoder(
            [1, 8, 8], statistics=1, network=network, latent_channels=2, **sizes, **changes
        )
        return sum(
            name.endswith("qkv.weight") for half in (networks.encoder, networks.decoder) for name in half.state_dict()
        )

    assert count() == 0
    assert count(middle_attention=True) == 2
    assert count(attention_levels=[0]) == 1 + 2
    assert count(attention_levels=[0, 1], middle_attention=True) == 1 + 2 + 2 + 3 + 2


@pytest.mark.parametrize("network", ["conv", "stable_diffusion"])
def test_heads_and_the_causal_mask_matter_without_changing_a_weights_shape(network):
    sizes = {"encoder_channels": [16], "encoder_blocks": [1], "decoder_channels": [16], "decoder_blocks": [1]}

    def build(**changes: object) -> torch.nn.Module:
        return build_encoder_decoder(
            [1, 8, 8], statistics=1, network=network, latent_channels=2, middle_attention=True, **sizes, **changes
        ).encoder

    plain, x = build(), torch.randn(1, 1, 8, 8)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter)  # large enough for attention to prefer some positions
    for changes in ({"attention_heads": 4}, {"causal_attention": True}):
        other = build(**changes)
        other.load_state_dict(plain.state_dict())
        assert not torch.allclose(other(x), plain(x), atol=1e-2)
