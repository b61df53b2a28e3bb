"""Guidance goes from unconditional through conditional on a line, within its interval, at the stated cost."""

import pytest
import torch

from latentline.core.condition import Condition
from latentline.denoisers.guidance import Guidance, guided_model, guided_output
from latentline.diffusion.process import build_process

PROCESS = build_process("flow", "velocity")


class _Network:
    """An output that depends on every input, image by image; it counts the rows of each call."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        self.rows.append(len(z))
        return torch.sin(z) + t[:, None] * (1 + condition.vector.sum(1, keepdim=True)) ** 2


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, Condition]:
    return torch.randn(5, 4), torch.rand(5), Condition(torch.randn(5, 3))


def _outputs(inputs: tuple[torch.Tensor, torch.Tensor, Condition]) -> tuple[torch.Tensor, torch.Tensor]:
    z, t, condition = inputs
    return _Network()(z, t, condition), _Network()(z, t, Condition(torch.zeros(5, 3)))


def test_scale_1_is_the_conditional_network_called_once_per_image(inputs):
    z, t, condition = inputs
    network = _Network()
    assert torch.equal(guided_model(network, PROCESS, condition, Guidance(1)).output(z, t), _outputs(inputs)[0])
    assert network.rows == [5]


def test_scale_0_is_the_unconditional_network_called_once_per_image(inputs):
    z, t, condition = inputs
    network = _Network()
    assert torch.equal(guided_model(network, PROCESS, condition, Guidance(0)).output(z, t), _outputs(inputs)[1])
    assert network.rows == [5]


@pytest.mark.parametrize("scale", [0.5, 1.5, 7.0, 1.0 + 1e-6])
def test_any_scale_goes_from_unconditional_through_conditional_in_one_call(inputs, scale):
    z, t, condition = inputs
    network = _Network()
    cond, uncond = _outputs(inputs)
    torch.testing.assert_close(
        guided_model(network, PROCESS, condition, Guidance(scale)).output(z, t), uncond + scale * (cond - uncond)
    )
    assert network.rows == [10]


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_with_a_guide_it_leads_away_from_the_prediction_of_the_guide(inputs, scale):
    z, t, condition = inputs
    network, guide = _Network(), _Network()

    def guiding(z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        return 0.5 * guide(z, t, condition)

    (cond, uncond), early = _outputs(inputs), Guidance(scale, early=True)
    found = guided_model(network, PROCESS, condition, early, guide=guiding).output(z, t)
    away_from = 0.5 * uncond if scale == 2 else uncond  # 0 and 1 are the network alone
    torch.testing.assert_close(found, away_from + scale * (cond - away_from))
    assert (network.rows, guide.rows) == ([5], [5] if scale == 2 else [])


@pytest.mark.parametrize("prediction", ["velocity", "v", "x0"])
def test_guiding_the_output_guides_the_data_estimate_alike_whatever_is_predicted(inputs, prediction):
    z, t, condition = inputs
    process = build_process("flow", prediction)
    guided, cond, uncond = (
        guided_model(_Network(), process, condition, Guidance(scale)).predict(z, t).z0 for scale in (3.0, 1.0, 0.0)
    )
    torch.testing.assert_close(guided, uncond + 3 * (cond - uncond), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_outside_the_interval_the_output_is_the_conditional_one(inputs, scale):
    z, _, condition = inputs
    t = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    cond, uncond = _outputs((z, t, condition))
    inside = torch.tensor([False, True, True, True, False])[:, None]
    found = guided_model(_Network(), PROCESS, condition, Guidance(scale, start=0.25, end=0.75)).output(z, t)
    torch.testing.assert_close(found, torch.where(inside, uncond + scale * (cond - uncond), cond))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.3, 0.7), (0.55, 0.56)])
def test_the_cost_is_counted_as_it_is(inputs, scale, interval):
    z, _, condition = inputs
    network, guidance = _Network(), Guidance(scale, *interval)
    model = guided_model(network, PROCESS, condition, guidance)
    grid = torch.linspace(1, 0, 11, dtype=torch.float64)
    for time in grid.tolist():
        model.predict_at(z, time)
    assert sum(network.rows) / len(z) == guidance.evaluations(grid)


@pytest.mark.parametrize("dimensions", [2, 4])
def test_full_rescaling_gives_back_the_conditional_deviation_of_every_image(dimensions):
    cond, uncond = torch.randn(2, 6, *[5] * (dimensions - 1))
    axes = tuple(range(1, dimensions))
    torch.testing.assert_close(guided_output(cond, uncond, 5.0, 1.0).std(axes), cond.std(axes))
    assert (guided_output(cond, uncond, 5.0, 0.0).std(axes) > 2 * cond.std(axes)).all()


def test_partial_rescaling_lies_on_the_line_between():
    cond, uncond = torch.randn(2, 6, 2, 3, 3)
    plain, full, part = (guided_output(cond, uncond, 4.0, rescale) for rescale in (0.0, 1.0, 0.7))
    torch.testing.assert_close(part, 0.7 * full + 0.3 * plain)


def test_rescaling_reaches_the_model(inputs):
    z, t, condition = inputs
    cond, uncond = _outputs(inputs)
    found = guided_model(_Network(), PROCESS, condition, Guidance(4.0, rescale=0.7)).output(z, t)
    torch.testing.assert_close(found, guided_output(cond, uncond, 4.0, 0.7))


def test_tokens_are_masked_for_the_unconditional_half():
    """A network that pools its tokens: unconditional means that the mask hides all of them."""
    z, t, tokens = torch.randn(5, 4), torch.rand(5), torch.randn(5, 3, 4)
    mask = torch.ones(5, 3, dtype=torch.bool)

    def network(z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        return z + (condition.tokens * condition.mask[..., None]).sum(dim=1)

    condition = Condition(torch.zeros(5, 0), tokens, mask)
    found = guided_model(network, PROCESS, condition, Guidance(3.0)).output(z, t)
    torch.testing.assert_close(found, z + 3 * tokens.sum(dim=1))
