"""The activations that a training keeps are counted without memory, as many as a forward pass keeps."""

import pytest
import torch
from torch import nn

from latentline.autoencoders.build import build_autoencoder
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.denoisers.build import build_denoiser
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.runtime import memory
from latentline.runtime.memory import ForwardPass, activation_bytes, require_trainable
from latentline.runtime.parallel import Ranks

CPU = torch.device("cpu")
ROWS = 4
CODER = {
    "latent_channels": 2,
    "encoder_channels": [8, 16],
    "encoder_blocks": [1, 1],
    "decoder_channels": [8, 16],
    "decoder_blocks": [1, 1],
}


def _denoise(network, rows, shape):
    return network(torch.empty(rows, *shape), torch.empty(rows), Condition(torch.empty(rows, 3)))


def _autoencode(network, rows):
    return network.decode(network.encode(torch.empty(rows, 1, 10, 12)))


NETWORKS = {
    "vae": (lambda: build_autoencoder("vae", image_shape=[1, 10, 12], kl_weight=1e-3, **CODER), _autoencode),
    "vae with attention": (
        lambda: build_autoencoder(
            "vae", image_shape=[1, 10, 12], kl_weight=1e-3, network="stable_diffusion", middle_attention=True, **CODER
        ),
        _autoencode,
    ),
    "unet": (
        lambda: build_denoiser(
            "unet", latent_shape=[4, 7, 8], cond_dim=3, channels=[16, 16], blocks=1, attention_levels=[1]
        ),
        lambda network, rows: _denoise(network, rows, [4, 7, 8]),
    ),
    "dit": (
        lambda: build_denoiser("dit", latent_shape=[4, 7, 8], cond_dim=3, width=32, depth=2, heads=2, patch_size=2),
        lambda network, rows: _denoise(network, rows, [4, 7, 8]),
    ),
    "mlp": (
        lambda: build_denoiser("mlp", latent_shape=[12], cond_dim=3, width=32, depth=2),
        lambda network, rows: _denoise(network, rows, [12]),
    ),
    "classifier": (
        lambda: ConvClassifier((1, 9, 9), outputs=4, channels=8, features=16, dropout=0.25),
        lambda network, rows: network(torch.rand(rows, 1, 9, 9)),
    ),
}


def _kept_on_the_cpu(network, run) -> int:
    own = {parameter.data_ptr() for parameter in (*network.parameters(), *network.buffers())}
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.untyped_storage().data_ptr(), tensor), lambda tensor: tensor
    ):
        result = run(network, ROWS)
    assert result is not None
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)


@pytest.mark.parametrize(("build", "run"), NETWORKS.values(), ids=NETWORKS)
def test_every_network_keeps_what_is_counted(build, run):
    before = torch.get_rng_state()
    with torch.device("meta"):
        network = build()
    counted = activation_bytes(network, ForwardPass(ROWS, run))
    assert torch.equal(torch.get_rng_state(), before)
    kept = _kept_on_the_cpu(build(), run)
    assert 0.9 * kept < counted <= kept  # the CPU's attention may keep more than the fused one


def test_activations_beyond_the_memory_are_refused_with_the_settings_that_lower_them(monkeypatch):
    """A linear layer keeps its input: 1000 numbers of 4 bytes for each row."""
    monkeypatch.setattr(memory, "memory_bytes", lambda device: 3 * 4 * 1000 * 1000 + 4 * 1000 * 500)

    def build() -> nn.Module:
        return nn.Linear(1000, 1000, bias=False)

    def require(rows: int, ranks: Ranks = Ranks(), scale: float = 1.0) -> None:  # noqa: B008
        forward = ForwardPass(rows, lambda network, rows: network(torch.empty(rows, 1000)), scale)
        require_trainable(build, CPU, "denoiser", {"width": 1000}, ranks, forward)

    monkeypatch.setattr(memory, "_TRAINED_BYTES", 12)
    require(500)
    require(1000, scale=0.5)
    require(2000, Ranks(0, 2, sharded=True, device=CPU))
    with pytest.raises(
        UserError,
        match=r"denoiser: \{'width': 1000\} train on 501 rows at a time with at least 0\.0 GiB of activations and in "
        r"all .*; raise denoiser\.optimizer\.accumulate, or lower denoiser\.optimizer\.batch_size, a width",
    ):
        require(501)
