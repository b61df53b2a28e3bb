"""The convolutional classifier takes images of any size and may have no logits."""

import pytest
import torch
from torch import nn

from latentline.core.seeds import generator
from latentline.feature_extractors.classifier import ConvClassifier, _Dropout
from latentline.runtime.precision import autocast


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 7, 9), (1, 1, 1), (1, 5, 13)])
def test_images_of_any_size_give_features_and_logits(shape):
    network = ConvClassifier(shape, outputs=6, channels=8, features=12, dropout=0.1).eval()
    x = torch.randn(3, *shape)
    assert network.features(x).shape == (3, 12)
    assert network(x).shape == (3, 6)


def test_without_labels_there_are_features_and_no_logits():
    network = ConvClassifier((1, 8, 8), outputs=0, channels=8, features=12, dropout=0.5).eval()
    x = torch.randn(3, 1, 8, 8)
    assert network.features(x).shape == (3, 12)
    assert network(x).shape == (3, 0)


def test_the_logits_are_the_head_of_the_features():
    network = ConvClassifier((1, 8, 8), outputs=6, channels=8, features=12, dropout=0.5).eval()
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(network(x), network.head(network.features(x)))


def test_in_evaluation_mode_the_logits_of_an_image_depend_on_it_alone():
    network = ConvClassifier((1, 8, 8), outputs=6, channels=8, features=12, dropout=0.5)
    network(torch.randn(16, 1, 8, 8))  # moves the running statistics
    network.eval()
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(network(x), network(x))
    torch.testing.assert_close(network(x[2:3])[0], network(x)[2])


def test_a_mask_drops_what_torchs_dropout_drops():
    network = ConvClassifier((1, 8, 8), outputs=6, channels=8, features=12, dropout=0.25)
    mask = network.draw_mask(50, torch.Generator().manual_seed(3))
    torch.manual_seed(3)
    assert torch.equal(mask, nn.functional.dropout(torch.ones_like(mask), 0.25))
    dropped = [layer(torch.ones(50, 64), mask) for layer in network.layers if isinstance(layer, _Dropout)]
    assert torch.equal(dropped[0], mask)
    assert (
        ConvClassifier((1, 8, 8), outputs=6, channels=8, features=12, dropout=0.0).draw_mask(50, generator(0)) is None
    )


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_mask_keeps_the_type_in_which_the_features_are_computed(precision, dtype):
    network = ConvClassifier((1, 8, 8), outputs=6, channels=8, features=12, dropout=0.25)
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []
    (dropout,) = (layer for layer in network.layers if isinstance(layer, _Dropout))
    dropout.register_forward_hook(lambda layer, inputs, output: calls.append((inputs[0], output)))
    mask = network.draw_mask(5, generator(0))
    with autocast(torch.device("cpu"), precision):
        network(torch.randn(5, 1, 8, 8), mask)
    ((before, after),) = calls
    assert before.dtype == after.dtype == dtype
    assert torch.equal(after == 0, (before == 0) | (mask == 0))
    torch.testing.assert_close(after.float(), before.float() * mask, rtol=1e-2, atol=0.0)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_one_tiny_image_alone_in_a_batch_trains(size):
    network = ConvClassifier((1, size, size), outputs=6, channels=8, features=12, dropout=0.1).train()
    network(torch.randn(4, 1, size, size))  # moves the running statistics
    network(torch.randn(1, 1, size, size)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
