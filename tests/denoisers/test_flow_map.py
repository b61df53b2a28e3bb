"""Networks of average velocities: every kind, what they start as, and the sampler that evaluates them."""

import pytest
import torch

from latentline.core.condition import Condition
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.flow_map import with_averages
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.diffusion.process import build_process
from latentline.samplers.flow_map import flow_map
from tests.support.small_networks import DENOISERS, awake

LEARNT = {"guidance_scale": 3.0, "guidance_start": 0.0, "guidance_end": 1.0}
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
def test_with_the_weights_of_a_velocity_it_is_that_velocity_on_every_interval(name):
    network, z, condition = _network(name)
    plain, _, _ = _network(name, average_velocity=False)
    awake(plain)
    missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all("embedding.interval." in one for one in missing)
    t, r = torch.tensor([[0.9, 0.4], [0.3, 0.1]], dtype=torch.float64)
    expected = plain(z, t, condition)
    torch.testing.assert_close(network(z, t, condition, r), expected)
    torch.testing.assert_close(network(z, t, condition), expected)


@each_kind
def test_the_interval_reaches_the_output(name):
    network, z, condition = _network(name)
    awake(network)
    t, r = torch.tensor([[0.9, 0.4], [0.3, 0.1]], dtype=torch.float64)
    assert (network(z, t, condition, r) - network(z, t, condition)).abs().amax() > 1e-6
    torch.testing.assert_close(network(z, t, condition, t), network(z, t, condition))


def test_every_weight_of_a_network_has_a_gradient():
    network, z, condition = _network("unet")
    awake(network)
    network(z, torch.rand(2).double(), condition).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_sampler_evaluates_the_network_once_a_step():
    calls = []

    def network(z_t, t, condition, r=None):
        calls.append((t[0].item(), r[0].item(), condition.vector.sum().item()))
        return torch.ones_like(z_t)

    condition = Condition(torch.eye(3))
    model = guided_model(network, build_process("flow", "velocity", LEARNT), condition, Guidance(3.0))
    z = flow_map(with_averages(model, network, condition), torch.zeros(3, 2), [1.0, 0.5, 0.0])
    assert torch.equal(z, torch.full((3, 2), -1.0))
    assert calls == [(1, 0.5, 3), (0.5, 0, 3)]


def test_a_network_without_averages_has_no_such_model():
    network, z, condition = _network("mlp", average_velocity=False)
    process = build_process("flow", "velocity")
    model = with_averages(guided_model(network, process, condition, Guidance()), network, condition)
    with pytest.raises(ValueError, match="average velocities"):
        flow_map(model, z, [1.0, 0.0])
