"""Averaged weights follow the published warm-up, and are copies that do not train."""

import torch
from torch import nn

from latentline.training.ema import Ema


def _fill(network: nn.Module, value: float) -> None:
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)


def _filled(value: float) -> nn.Linear:
    layer = nn.Linear(2, 2)
    _fill(layer, value)
    return layer


def _averaged_once(decay: float, step: int) -> nn.Module:
    """Return the average of a network whose weights went from 0 to 1."""
    network = _filled(0.0)
    ema = Ema(network, decay)
    _fill(network, 1.0)
    ema.update(step)
    return ema.model


def test_the_average_follows_the_published_warm_up():
    network, expected = _filled(0.0), 0.0
    ema = Ema(network, decay=0.9)
    for step in range(200):
        _fill(network, float(step))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        torch.testing.assert_close(ema.model.weight, torch.full((2, 2), expected), rtol=1e-4, atol=1e-4)


def test_the_first_update_mostly_takes_the_new_weights():
    torch.testing.assert_close(_averaged_once(decay=0.9999, step=0).weight, torch.full((2, 2), 0.9))


def test_after_the_warm_up_the_decay_is_the_one_asked_for():
    torch.testing.assert_close(_averaged_once(decay=0.99, step=100_000).weight, torch.full((2, 2), 0.01))


def test_an_average_of_the_first_steps_stays_as_it_is_after_them():
    network = _filled(0.0)
    early, short = Ema(network, decay=0.9, steps=3), Ema(network, decay=0.9)
    for step in range(6):
        _fill(network, float(step + 1))
        early.update(step)
        if step < 3:
            short.update(step)
    assert torch.equal(early.model.weight, short.model.weight)


def test_the_average_is_a_copy_that_does_not_train():
    network = _filled(1.0)
    ema = Ema(network, decay=0.9)
    _fill(network, 5.0)
    assert ema.model.weight.max() == 1
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    assert not ema.model.training


def test_running_statistics_are_taken_as_they_are():
    norm = nn.BatchNorm1d(3)
    ema = Ema(norm, decay=0.9)
    norm(torch.randn(16, 3) + 7)
    ema.update(0)
    assert torch.equal(ema.model.running_mean, norm.running_mean)
    assert torch.equal(ema.model.num_batches_tracked, norm.num_batches_tracked)
