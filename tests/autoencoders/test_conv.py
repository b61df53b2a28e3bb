"""The conv networks restore any image size, and each image is processed alone."""

import math

import pytest
import torch

from latentline.autoencoders.block_config import BlockConfig, pad_to_multiple
from latentline.autoencoders.conv import ConvDecoder, ConvEncoder

SIZES = [(28, 28), (33, 33), (30, 45), (8, 8), (1, 1), (3, 2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_decoder_restores_the_exact_size_that_the_encoder_was_given(size, levels):
    widths, blocks = [8, 16, 16][:levels], [1, 0, 1][:levels]
    encoder = ConvEncoder(2, 5, widths, blocks, BlockConfig())
    decoder = ConvDecoder((2, *size), 5, widths, blocks, BlockConfig())
    z = encoder(torch.randn(2, 2, *size))
    assert z.shape == (2, 5, math.ceil(size[0] / 2**levels), math.ceil(size[1] / 2**levels))
    assert decoder(z).shape == (2, 2, *size)


def test_an_odd_image_is_encoded_as_if_its_edges_were_repeated():
    encoder = ConvEncoder(1, 4, [8, 8], [1, 1], BlockConfig())
    x = torch.randn(2, 1, 6, 7)
    repeated = torch.cat([x, x[:, :, -1:].expand(-1, -1, 2, -1)], dim=2)
    repeated = torch.cat([repeated, repeated[..., -1:]], dim=3)
    assert repeated.shape == (2, 1, 8, 8)
    torch.testing.assert_close(encoder(x), encoder(repeated))


def test_each_image_is_encoded_and_decoded_alone(awake):
    encoder, decoder = (
        awake(ConvEncoder(1, 4, [8, 16], [1, 1], BlockConfig())),
        awake(ConvDecoder((1, 9, 9), 4, [8, 16], [1, 1], BlockConfig())),
    )
    x = torch.randn(3, 1, 9, 9)
    z = encoder(x)
    torch.testing.assert_close(encoder(x[1:2])[0], z[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoder(z[1:2])[0], decoder(z)[1], atol=1e-4, rtol=1e-4)


def test_channels_last_gives_the_same_numbers(awake):
    encoder, decoder = (
        awake(ConvEncoder(1, 4, [8, 16], [1, 1], BlockConfig())),
        awake(ConvDecoder((1, 12, 12), 4, [8, 16], [1, 1], BlockConfig())),
    )
    x = torch.randn(2, 1, 12, 12)
    expected = decoder(encoder(x))
    for module in (encoder, decoder):
        module.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        decoder(encoder(x.contiguous(memory_format=torch.channels_last))), expected, atol=1e-3, rtol=1e-3
    )


def test_images_are_padded_only_where_the_levels_do_not_divide_them():
    whole, odd = torch.randn(2, 3, 8, 12), torch.randn(2, 3, 7, 12)
    assert pad_to_multiple(whole, 4) is whole
    padded = pad_to_multiple(odd, 4)
    assert torch.equal(padded, torch.cat([odd, odd[:, :, -1:]], dim=2))
