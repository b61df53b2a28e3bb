import pytest
import torch

from latentline.diffusion.guidance import evaluations_per_call, guided_velocity


class _Network:
    """A velocity that depends on everything, image by image; remembers how many rows each call had."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, z: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(z))
        return torch.sin(z) + t[:, None] * (1 + condition.sum(dim=1, keepdim=True)) ** 2


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(5, 4), torch.rand(5), torch.randn(5, 3)


def test_scale_1_is_the_conditional_network_called_once_per_image(inputs):
    z, t, condition = inputs
    network = _Network()
    assert torch.equal(guided_velocity(network, condition, 1)(z, t), _Network()(z, t, condition))
    assert network.rows == [5]


def test_scale_0_is_the_unconditional_network(inputs):
    z, t, condition = inputs
    torch.testing.assert_close(guided_velocity(_Network(), condition, 0.0)(z, t), _Network()(z, t, torch.zeros(5, 3)))


@pytest.mark.parametrize("scale", [0.5, 1.5, 7.0, 1.0 + 1e-6])
def test_any_scale_goes_from_unconditional_through_conditional_in_one_call(inputs, scale):
    z, t, condition = inputs
    network = _Network()
    cond, uncond = _Network()(z, t, condition), _Network()(z, t, torch.zeros(5, 3))
    torch.testing.assert_close(guided_velocity(network, condition, scale)(z, t), uncond + scale * (cond - uncond))
    assert network.rows == [10]


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_the_cost_is_counted_as_it_is(inputs, scale):
    z, t, condition = inputs
    network = _Network()
    guided_velocity(network, condition, scale)(z, t)
    assert sum(network.rows) / len(z) == evaluations_per_call(scale)
