import pytest
import torch

from latentline.diffusion.guidance import evaluations_per_call, guided_velocity

NULL = 3


class _Network:
    """A velocity that depends on everything, image by image; remembers how many rows each call had."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, z: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(z))
        return torch.sin(z) + t[:, None] * (1 + label[:, None]) ** 2


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(5, 4), torch.rand(5), torch.tensor([0, 1, 2, 1, 0])


def test_scale_1_is_the_conditional_network_called_once_per_image(inputs):
    z, t, label = inputs
    network = _Network()
    assert torch.equal(guided_velocity(network, label, NULL, 1)(z, t), _Network()(z, t, label))
    assert network.rows == [5]


def test_scale_0_is_the_unconditional_network(inputs):
    z, t, label = inputs
    torch.testing.assert_close(guided_velocity(_Network(), label, NULL, 0.0)(z, t), _Network()(z, t, torch.full((5,), NULL)))


@pytest.mark.parametrize("scale", [0.5, 1.5, 7.0, 1.0 + 1e-6])
def test_any_scale_goes_from_unconditional_through_conditional_in_one_call(inputs, scale):
    z, t, label = inputs
    network = _Network()
    cond, uncond = _Network()(z, t, label), _Network()(z, t, torch.full((5,), NULL))
    torch.testing.assert_close(guided_velocity(network, label, NULL, scale)(z, t), uncond + scale * (cond - uncond))
    assert network.rows == [10]


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_the_cost_is_counted_as_it_is(inputs, scale):
    z, t, label = inputs
    network = _Network()
    guided_velocity(network, label, NULL, scale)(z, t)
    assert sum(network.rows) / len(z) == evaluations_per_call(scale)
