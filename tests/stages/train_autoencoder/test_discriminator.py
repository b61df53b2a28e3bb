"""Shape, receptive field and first weights of the patch discriminator."""

import math

import pytest
import torch

from stages.train_autoencoder.discriminator import PatchDiscriminator


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 33), (3, 48, 64), (1, 8, 8), (1, 9, 30)])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_images_of_any_size_give_one_logit_per_patch(shape, layers):
    logits = PatchDiscriminator(shape[0], channels=8, layers=layers)(torch.randn(2, *shape))
    assert logits.shape == (2, 1, math.ceil(shape[1] / 2**layers), math.ceil(shape[2] / 2**layers))


@pytest.mark.parametrize(("layers", "side"), [(1, 14), (2, 28), (3, 56)])
def test_without_its_norms_a_logit_has_the_documented_receptive_field(awake, layers, side):
    network = awake(PatchDiscriminator(1, channels=8, layers=layers))
    network.layers = torch.nn.Sequential(*(part for part in network.layers if not isinstance(part, torch.nn.GroupNorm)))
    x = torch.randn(1, 1, 80, 80, requires_grad=True)
    logits = network(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    field = x.grad[0, 0] != 0
    assert (int(field.any(dim=0).sum()), int(field.any(dim=1).sum())) == (side, side)


def test_an_images_logits_do_not_depend_on_the_rest_of_its_batch(awake):
    network = awake(PatchDiscriminator(1, channels=8, layers=2)).train()
    x = torch.randn(4, 1, 12, 12)
    torch.testing.assert_close(network(x[2:3])[0], network(x)[2], atol=1e-4, rtol=1e-4)


def test_new_weights_are_small_and_random_and_biases_zero():
    network = PatchDiscriminator(3, channels=32, layers=3)
    convolutions = [part for part in network.layers if isinstance(part, torch.nn.Conv2d)]
    weights = torch.cat([part.weight.flatten() for part in convolutions])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert all((part.bias == 0).all() for part in convolutions)


def test_channels_last_gives_the_same_numbers(awake):
    network, x = awake(PatchDiscriminator(3, channels=8, layers=2)), torch.randn(2, 3, 16, 16)
    expected = network(x)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.contiguous(memory_format=torch.channels_last)), expected, atol=1e-3, rtol=1e-3)
