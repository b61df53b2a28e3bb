"""Networks of average velocities: every kind, what they start as, and their derivative in forward mode."""

import pytest
import torch

from latentline.core.condition import Condition
from latentline.denoisers.averages import with_averages
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.diffusion.mean_flow import Intervals, MeanFlow, average_target
from latentline.diffusion.process import Process, build_process
from latentline.samplers.mean_flow import mean_flow
from tests.support.small_networks import DENOISERS, awake

FIELD = {"max_guidance_scale": 4.0, "guidance_start": 0.0, "guidance_end": 1.0}
each_kind = pytest.mark.parametrize("name", ["unet", "dit", "mlp", "captions"])
TEXT = {"num_ids": 9, "length": 4, "width": 8, "depth": 1, "heads": 2}


def _network(name: str, *, average_velocity: bool = True):
    kind, text = ("unet", {"text": TEXT}) if name == "captions" else (name, {})
    averages = {"average_velocity": True} if average_velocity else {}
    network = build_denoiser(kind, cond_dim=3, **DENOISERS[kind], **text, **averages).double()
    shape = DENOISERS[kind]["latent_shape"]
    tokens = torch.randint(1, 9, (2, 4)) if text else None
    condition = Condition(torch.eye(3, dtype=torch.float64)[:2], tokens, None if tokens is None else tokens > 0)
    return network, torch.randn(2, *shape, dtype=torch.float64), condition


@each_kind
def test_a_new_network_is_that_of_the_velocity(name):
    network, z, condition = _network(name)
    plain, _, _ = _network(name, average_velocity=False)
    for parameter_name, parameter in network.named_parameters():
        if "embedding.interval" not in parameter_name:
            torch.nn.init.normal_(parameter, std=0.2)
    for module in (network, plain):  # features of t that both have
        for weight_name, weight in module.named_parameters():
            if weight_name.endswith("embedding.time.0.weight"):
                weight.data[:, torch.arange(weight.shape[1]) % (weight.shape[1] // 2) > weight.shape[1] // 5] = 0
    plain.load_state_dict({key: network.state_dict()[key] for key in plain.state_dict()})
    t, r, scale = torch.tensor([[0.9, 0.4], [0.3, 0.1], [3.0, 2.0]], dtype=torch.float64)
    expected = plain(z, t, condition)
    torch.testing.assert_close(network(z, t, condition, r, scale), expected)
    torch.testing.assert_close(network(z, t, condition), expected)


@each_kind
def test_the_derivative_is_that_of_finite_differences(name):
    network, z, condition = _network(name)
    awake(network)
    t, r, scale = torch.tensor([[0.9, 0.6], [0.2, 0.3], [3.0, 1.5]], dtype=torch.float64)
    field = MeanFlow(**FIELD)
    with torch.no_grad():
        null = network(z, t, condition.null())
        velocity = null + scale.reshape(-1, *(1,) * (z.ndim - 1)) * (network(z, t, condition) - null)
        before, after = (network(z + step * velocity, t + step, condition, r, scale) for step in (-1e-6, 1e-6))
    span = (t - r).reshape(-1, *(1,) * (z.ndim - 1))
    target = average_target(network, field, z, condition, Intervals(t, r, scale))
    torch.testing.assert_close(target, velocity - span * (after - before) / 2e-6, atol=1e-5, rtol=1e-5)
    assert not target.requires_grad


def test_every_weight_of_a_network_has_a_gradient():
    network, z, condition = _network("unet")
    awake(network)
    network(z, torch.rand(2).double(), condition).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 3.0])
def test_the_sampler_evaluates_the_network_once_a_step(guidance_scale):
    process: Process = build_process("flow", "velocity", FIELD)
    calls = []

    def network(z_t, t, condition, r=None, guidance_scale=None):
        calls.append((t[0].item(), r[0].item(), guidance_scale[0].item(), condition.vector.sum().item()))
        return torch.ones_like(z_t)

    condition = Condition(torch.eye(3))
    model = guided_model(network, process, condition, Guidance(guidance_scale))
    model = with_averages(model, network, condition, guidance_scale)
    z = mean_flow(model, torch.zeros(3, 2), [1.0, 0.5, 0.0])
    assert torch.equal(z, torch.full((3, 2), -1.0))
    scale, rows = (guidance_scale, 3) if guidance_scale else (1, 0)
    assert calls == [(1, 0.5, scale, rows), (0.5, 0, scale, rows)]


def test_a_network_without_averages_has_no_such_model():
    network, z, condition = _network("mlp", average_velocity=False)
    process = build_process("flow", "velocity")
    model = with_averages(guided_model(network, process, condition, Guidance()), network, condition, 1.0)
    with pytest.raises(ValueError, match="average velocities"):
        mean_flow(model, z, [1.0, 0.0])
