"""Several conditions mixed with weights: by hand, against guidance, and for Gaussians in closed form."""

import pytest
import torch

from latentline.core.condition import Condition, Mixture, concatenate
from latentline.denoisers.guidance import Guidance, guided_model, mixed_output
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.process import build_process
from latentline.diffusion.time_grid import time_grid
from support.exact_models import Mixture as Components

PROCESS = build_process("flow", "velocity")


class _Network:
    """An output that depends on every input, image by image; it counts the rows of each call."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        self.rows.append(len(z))
        return torch.sin(z) + t[:, None] * (1 + condition.vector.sum(1, keepdim=True)) ** 2


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(5, 4)


@pytest.fixture
def t() -> torch.Tensor:
    return torch.rand(5)


@pytest.fixture
def conditions() -> tuple[Condition, Condition]:
    return Condition(torch.randn(5, 3)), Condition(torch.randn(5, 3))


def _outputs(z, t, conditions) -> list[torch.Tensor]:
    return [_Network()(z, t, one) for one in (*conditions, Condition(torch.zeros(5, 3)))]


@pytest.mark.parametrize("scale", [1.0, 0.0, 2.5])
def test_the_changes_of_the_conditions_are_added_in_one_call(z, t, conditions, scale):
    one, other, uncond = _outputs(z, t, conditions)
    network = _Network()
    mixture = Mixture(conditions, (1.5, -0.5))
    found = guided_model(network, PROCESS, mixture, Guidance(scale)).output(z, t)
    torch.testing.assert_close(found, uncond + scale * (1.5 * (one - uncond) - 0.5 * (other - uncond)))
    assert network.rows == [5 if scale == 0 else 15]


def test_one_condition_with_a_weight_is_guidance_of_that_scale(z, t, conditions):
    models = (
        guided_model(_Network(), PROCESS, Mixture(conditions[:1], (3.0,)), Guidance()),
        guided_model(_Network(), PROCESS, conditions[0], Guidance(3.0)),
    )
    torch.testing.assert_close(*(model.output(z, t) for model in models))


@pytest.mark.parametrize("scale", [0.5, 1.5, 4.0])
def test_a_negative_condition_is_a_weight_of_one_minus_the_scale(z, t, conditions, scale):
    wanted, negative = conditions
    expected = guided_model(_Network(), PROCESS, wanted, Guidance(scale), negative).output(z, t)
    mixture = Mixture(conditions, (scale, 1 - scale))
    torch.testing.assert_close(guided_model(_Network(), PROCESS, mixture, Guidance()).output(z, t), expected)


def test_a_single_weight_of_1_is_the_conditional_output_to_the_bit(z, t, conditions):
    one, _, uncond = _outputs(z, t, conditions)
    assert torch.equal(mixed_output([one], (1.0,), uncond), one)
    model = guided_model(_Network(), PROCESS, Mixture(conditions[:1], (1.0,)), Guidance())
    assert torch.equal(model.output(z, t), one)


def test_samples_of_mixed_gaussians_have_the_mixed_mean():
    """With equal deviations the product of the densities' powers is a Gaussian with the same deviation."""

    def network(z_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        gaussians = (Components(mean[None], torch.tensor([0.4])) for mean in condition.vector)
        rows = zip(gaussians, z_t.split(1), t.split(1), strict=True)
        return torch.cat([gaussian.model("flow", "velocity").output(*row) for gaussian, *row in rows])

    weights, means = (1.5, -0.5, 0.75), torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    mixture = Mixture(tuple(Condition(mean.expand(6, 2)) for mean in means), weights)
    noise, times = torch.randn(6, 2), time_grid(12)
    mixed = dpmpp_2m(guided_model(network, PROCESS, mixture, Guidance()), noise, times)
    mean = (torch.tensor(weights)[:, None] * means).sum(0)
    expected = dpmpp_2m(Components(mean[None], torch.tensor([0.4])).model("flow", "velocity"), noise, times)
    torch.testing.assert_close(mixed, expected, atol=1e-4, rtol=1e-4)


def test_a_mixture_of_one_example_serves_any_number(conditions):
    single = Mixture(tuple(one.rows(slice(1)) for one in conditions), (1.0, 2.0))
    assert (single.size, single.expanded(4).size) == (1, 4)
    assert torch.equal(single.expanded(2).conditions[1].vector, concatenate([single.conditions[1]] * 2).vector)
    assert not single.null().vector.any()
