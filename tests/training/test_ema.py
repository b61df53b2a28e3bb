import torch
from torch import nn

from latentline.training.ema import Ema


def _filled(value: float) -> nn.Linear:
    layer = nn.Linear(2, 2)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, value)
    return layer


def test_the_average_follows_the_published_warm_up():
    ema, expected = Ema(_filled(0.0), decay=0.9), 0.0
    for step in range(200):
        ema.update(_filled(float(step)), step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        torch.testing.assert_close(ema.model.weight, torch.full((2, 2), expected), rtol=1e-4, atol=1e-4)


def test_the_first_update_mostly_takes_the_new_weights():
    ema = Ema(_filled(0.0), decay=0.9999)
    ema.update(_filled(1.0), 0)
    torch.testing.assert_close(ema.model.weight, torch.full((2, 2), 0.9))


def test_after_the_warm_up_the_decay_is_the_one_asked_for():
    ema = Ema(_filled(0.0), decay=0.99)
    ema.update(_filled(1.0), 100_000)
    torch.testing.assert_close(ema.model.weight, torch.full((2, 2), 0.01))


def test_the_average_is_a_copy_that_does_not_learn():
    network = _filled(1.0)
    ema = Ema(network, decay=0.9)
    with torch.no_grad():
        network.weight.fill_(5.0)
    assert ema.model.weight.max() == 1
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    assert not ema.model.training


def test_running_statistics_are_taken_as_they_are():
    norm = nn.BatchNorm1d(3)
    ema = Ema(norm, decay=0.9)
    norm(torch.randn(16, 3) + 7)
    ema.update(norm, 0)
    assert torch.equal(ema.model.running_mean, norm.running_mean)
    assert torch.equal(ema.model.num_batches_tracked, norm.num_batches_tracked)
