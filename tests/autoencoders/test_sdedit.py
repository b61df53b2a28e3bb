"""SDEdit with a diffusion autoencoder: the more noise, the more the latent decides."""

import pytest
import torch

from latentline.autoencoders.identity import Identity
from support.small_diffae import small_diffae


@pytest.mark.parametrize("t", [0.1, 0.7])
def test_a_decoder_that_predicts_0_leaves_the_noise_where_it_is(t):
    x, noise = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(small_diffae(5).sdedit(x, torch.randn(3, 4), t, noise), (1 - t) * x + t * noise)


def test_the_latent_matters_more_the_more_noise_there_is(awake):
    autoencoder, x, noise = awake(small_diffae(5)), torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    z = torch.randn(2, 3, 4)
    differences = [
        (autoencoder.sdedit(x, z[0], t, noise) - autoencoder.sdedit(x, z[1], t, noise)).norm().item()
        for t in (0.01, 0.2, 0.9)
    ]
    assert 0 < differences[0] < differences[1] < differences[2]


def test_an_autoencoder_that_decodes_without_noise_refuses():
    with pytest.raises(NotImplementedError, match="Identity decodes without noise"):
        Identity((1, 8, 8)).sdedit(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), 0.5, torch.zeros(1, 1, 8, 8))
