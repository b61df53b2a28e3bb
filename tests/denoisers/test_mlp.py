"""The MLP reads the latent in every layer, uses all of its inputs, and learns."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.mlp import LatentMLP


def _mlp(**changes) -> LatentMLP:
    return LatentMLP(**{"latent_shape": (6,), "cond_dim": 4, "width": 16, "depth": 3, **changes})


def _inputs(count: int, channels: int = 6, cond_dim: int = 4) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    return torch.randn(count, channels), torch.rand(count), Condition(torch.randn(count, cond_dim))


@pytest.mark.parametrize(("channels", "cond_dim", "depth"), [(1, 0, 1), (7, 4, 2), (256, 1, 3)])
def test_the_prediction_has_the_latents_length(awake, channels, cond_dim, depth):
    network = awake(_mlp(latent_shape=(channels,), cond_dim=cond_dim, depth=depth))
    prediction = network(*_inputs(2, channels, cond_dim))
    assert prediction.shape == (2, channels)
    assert prediction.isfinite().all()


def test_a_new_mlp_predicts_exactly_zero():
    assert torch.equal(_mlp()(*_inputs(2)), torch.zeros(2, 6))


def test_a_layer_is_linear_scaled_by_the_condition_normalised_and_silu(awake):
    layer = awake(_mlp()).layers[1]
    h, embedded = torch.randn(3, 22), torch.randn(3, 256)
    scaled = F.linear(h, layer.linear.weight, layer.linear.bias) * (
        1 + F.linear(embedded, layer.scale.weight, layer.scale.bias)
    )
    normalised = (scaled - scaled.mean(dim=1, keepdim=True)) / (
        scaled.var(dim=1, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    torch.testing.assert_close(
        layer(h, embedded), F.silu(normalised * layer.norm.weight + layer.norm.bias), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("receiver", [1, 2, 3])
def test_every_layer_reads_the_latent_itself(awake, receiver):
    """Where the layer before is constant and no later layer reads the latent, the latent still comes through."""
    network = awake(_mlp())
    nn.init.zeros_(network.layers[receiver - 1].norm.weight)
    nn.init.zeros_(network.layers[receiver - 1].norm.bias)
    for layer in [*(layer.linear for layer in network.layers), network.out][receiver + 1 :]:
        nn.init.zeros_(layer.weight[:, 16:])
    z, t, condition = _inputs(2)
    assert not torch.allclose(network(z, t, condition), network(z + torch.randn(2, 6), t, condition), atol=1e-6)


def test_time_and_every_entry_of_the_condition_and_every_channel_matter(awake):
    network = awake(_mlp())
    z, t, condition = _inputs(1)
    base = network(z, t, condition)
    assert not torch.allclose(base, network(z, t + 0.1, condition))
    for entry in torch.eye(4):
        assert not torch.allclose(base, network(z, t, Condition(condition.vector + entry)))
    for channel in torch.eye(6):
        assert not torch.allclose(base, network(z + channel, t, condition))


def test_each_latent_is_predicted_alone_whatever_the_order_of_the_batch(awake):
    network = awake(_mlp())
    z, t, condition = _inputs(4)
    together = network(z, t, condition)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        network(z[order], t[order], condition.rows(order)), together[order], atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        network(z[1:2], t[1:2], condition.rows(slice(1, 2)))[0], together[1], atol=1e-5, rtol=1e-4
    )
    assert torch.equal(network(z, t, condition), together)


def test_every_parameter_learns(awake):
    network = awake(_mlp())
    network(*_inputs(16)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_it_learns_where_a_gaussian_lies():
    """For z0 ~ N(3, 0.1^2) the prediction of z0 from pure noise is 3."""
    network = _mlp(latent_shape=(2,), cond_dim=0, width=32, depth=2)
    adam = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(100):
        z, t, condition = _inputs(64, 2, 0)
        loss = (network(z, t, condition) - (3 + 0.1 * torch.randn(64, 2))).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(network(*_inputs(500, 2, 0)).mean(dim=0), torch.full((2,), 3.0), atol=0.1, rtol=0)


def test_the_registry_builds_an_mlp_for_vectors_and_refuses_maps():
    params = {"cond_dim": 0, "width": 8, "depth": 1}
    assert isinstance(build_denoiser("mlp", latent_shape=[64], **params), LatentMLP)
    with pytest.raises(
        UserError,
        match=r"^denoiser\.name \(mlp\) must be unet or dit for latents of shape \(3, 7, 7\); set it to unet or dit$",
    ):
        build_denoiser("mlp", latent_shape=[3, 7, 7], **params)
