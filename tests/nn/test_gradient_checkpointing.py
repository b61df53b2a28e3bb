"""Gradient checkpointing computes each block twice, keeps less, and gives the same bytes."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from latentline.autoencoders.vae import VAE
from latentline.core.condition import Condition
from latentline.denoisers.dit import DiT
from latentline.denoisers.mlp import LatentMLP
from latentline.nn.gradient_checkpointing import checkpoint_blocks
from latentline.nn.unet import UNet
from support.training_loss import training_loss

SMALL = {"encoder_channels": [8], "encoder_blocks": [1], "decoder_channels": [8], "decoder_blocks": [1]}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {  # how it is built, shape of its input
    "unet": (lambda: UNet((2, 6, 6), cond_dim=3, channels=[16, 16], blocks=1, attention_levels=[1]), (2, 6, 6)),
    "dit": (lambda: DiT((2, 6, 6), cond_dim=3, patch_size=2, width=16, depth=2, heads=2, rope=True), (2, 6, 6)),
    "mlp": (lambda: LatentMLP((12,), cond_dim=3, width=256, depth=4), (12,)),
    "vae": (lambda: VAE((1, 8, 8), kl_weight=1e-3, latent_channels=2, **SMALL), (1, 8, 8)),
}
each_network = pytest.mark.parametrize("kind", NETWORKS)


def _loss(network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(4, *shape, generator=draw)
    if isinstance(network, VAE):
        return training_loss(network, x, draw)[0]
    return network(x, torch.rand(4, generator=draw), Condition(torch.randn(4, 3, generator=draw))).square().mean()


def _gradients(network: nn.Module, shape: tuple[int, ...]) -> list[Tensor]:
    network.zero_grad()
    _loss(network, shape).backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


def _kept_bytes(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the bytes that the forward pass keeps for the backward pass, besides weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = _loss(network, shape)
    del loss
    return sum(kept.values())


@each_network
def test_gradients_have_the_same_bytes_and_weights_their_names(awake, kind):
    build, shape = NETWORKS[kind]
    network = awake(build())
    expected, names = _gradients(network, shape), [*network.state_dict()]
    checkpoint_blocks(network)
    assert all(map(torch.equal, _gradients(network, shape), expected))
    assert [*network.state_dict()] == names


@each_network
def test_the_forward_pass_keeps_less(awake, kind):
    build, shape = NETWORKS[kind]
    network = awake(build())
    before = _kept_bytes(network, shape)
    checkpoint_blocks(network)
    assert _kept_bytes(network, shape) < 0.8 * before


def test_each_block_is_computed_again_in_the_backward_pass_and_once_without_gradients(awake):
    build, shape = NETWORKS["dit"]
    network = awake(build())
    checkpoint_blocks(network)
    calls = []
    network.blocks[0].qkv.register_forward_hook(lambda *_: calls.append(1))
    _gradients(network, shape)
    assert len(calls) == 2
    with torch.no_grad():
        _loss(network, shape)
    assert len(calls) == 3


def test_a_copy_computes_with_its_own_weights(awake):
    build, shape = NETWORKS["dit"]
    network = awake(build())
    checkpoint_blocks(network)
    average = copy.deepcopy(network)
    before = _loss(average, shape)
    awake(network)
    assert torch.equal(_loss(average, shape), before)
    assert not torch.equal(_loss(network, shape), before)


def test_gradients_of_one_layer_can_be_taken_twice_as_the_adaptive_weight_of_a_discriminator_does(awake):
    build, shape = NETWORKS["vae"]
    network = awake(build())
    checkpoint_blocks(network)
    last = [parameter for parameter in network.parameters() if parameter.requires_grad][-2]
    loss = _loss(network, shape)
    (once,) = torch.autograd.grad(loss, last, retain_graph=True)
    (twice,) = torch.autograd.grad(2 * loss, last, retain_graph=True)
    torch.testing.assert_close(twice, 2 * once)
    loss.backward()
    assert torch.equal(last.grad, once)
