"""Every network, loss and sampler is one graph: nothing in it waits for the device or falls back to Python."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.core.seeds import generator
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.diffusion.objective import denoising_loss
from latentline.diffusion.process import build_process
from latentline.diffusion.time_grid import time_grid
from latentline.feature_extractors.classifier import ConvClassifier
from latentline.feature_extractors.contrastive import ContrastivePair, contrastive_loss
from latentline.samplers.registry import SAMPLERS, SamplerOptions, build_sampler
from stages.train_autoencoder.adversarial import LOSSES
from stages.train_autoencoder.discriminator import PatchDiscriminator
from stages.train_autoencoder.perceptual import PerceptualDistance
from support.small_networks import AUTOENCODERS, IMAGE, small_autoencoder, small_denoiser


@pytest.fixture(autouse=True)
def _forgotten_graphs() -> Iterator[None]:
    """Start without the graphs of another test, since dynamo keeps only a few per function."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _assert_one_graph(function: Callable[..., Any], *inputs: Any) -> None:
    """Assert that dynamo makes one graph of ``function``, and that the graph computes what the function does."""
    compiled = torch.compile(function, fullgraph=True, backend="eager", dynamic=False)
    torch.testing.assert_close(compiled(*inputs), function(*inputs))


@pytest.mark.parametrize(
    ("name", "path", "prediction", "weighting"),
    [
        ("unet", "flow", "velocity", "uniform"),
        ("dit", "vp_cosine", "v", "min_snr"),
        ("mlp", "flow", "x0", "min_snr"),
    ],
)
def test_the_denoising_loss_of_every_network(name, path, prediction, weighting):
    network, z0, t, condition = small_denoiser(name)
    process, noise = build_process(path, prediction), torch.randn_like(z0)
    _assert_one_graph(lambda *inputs: denoising_loss(network, process, *inputs, weighting), z0, condition, t, noise)


@pytest.mark.parametrize("guidance", [Guidance(2.0, rescale=0.7), Guidance(0.0), Guidance(2.0, start=0.2, end=0.7)])
def test_a_guided_model_at_one_time_and_at_a_time_of_each_example(guidance):
    network, z_t, t, condition = small_denoiser("mlp")
    model = guided_model(network, build_process("flow", "velocity"), condition, guidance)
    _assert_one_graph(lambda z: model.predict_at(z, 0.5).z0, z_t)
    _assert_one_graph(lambda z, t: model.predict(z, t).z0, z_t, t)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "flow_map"])
def test_every_sampler_along_a_whole_grid_with_guidance_in_an_interval(name):
    path = "vp_linear" if name in ("ddpm", "heun", "dpmpp_2m") else "flow"  # flow_sde serves the straight path only
    z, condition, times = torch.randn(2, 4), Condition(torch.ones(2, 3)), time_grid(3).tolist()
    noises = torch.randn(3, 2, 4)

    def network(z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return torch.sin(z) + t[:, None] * (1 + condition.vector.sum(1, keepdim=True))

    sampler = build_sampler(name, SamplerOptions(eta=0.5), lambda step: noises[step])
    model = guided_model(network, build_process(path, "v"), condition, Guidance(2.0, start=0.2, end=0.7))
    _assert_one_graph(lambda z: sampler(model, z, times), z)


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_every_autoencoders_loss_encoding_and_decoding(kind):
    autoencoder, x = small_autoencoder(kind), torch.rand(2, *IMAGE) * 2 - 1
    noise = autoencoder.sample_training_noise(2, generator(0))
    _assert_one_graph(lambda x, *noise: autoencoder.loss(x, noise, 2)[0], x, *noise)
    _assert_one_graph(lambda x: autoencoder.decode(autoencoder.encode(x)), x)


def test_the_feature_extractors_loss():
    network, x, labels = ConvClassifier(IMAGE, 3, 8, 6, 0.1), torch.rand(2, *IMAGE), torch.tensor([0, 2])
    mask = network.draw_mask(2, generator(0))
    network.eval()
    _assert_one_graph(lambda x: nn.functional.cross_entropy(network(x), labels), x)
    network.train()
    _assert_one_graph(lambda x, mask: nn.functional.cross_entropy(network(x, mask), labels), x, mask)


def test_the_loss_of_images_and_captions():
    pair = ContrastivePair(features=6, num_ids=9, length=3, width=8, depth=1, heads=2)
    tokens, groups = torch.tensor([[1, 2, 0], [4, 0, 0], [0, 0, 0]]), torch.tensor([0, 1, -1])
    _assert_one_graph(lambda x: contrastive_loss(*pair(x, tokens), groups), torch.rand(3, 6))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_both_adversarial_losses(loss):
    discriminator, real, fake = (
        PatchDiscriminator(1, channels=8, layers=1),
        torch.rand(2, *IMAGE),
        torch.rand(2, *IMAGE),
    )
    _assert_one_graph(lambda real, fake: loss.discriminator(discriminator(real), discriminator(fake)), real, fake)
    _assert_one_graph(lambda fake: loss.generator(discriminator(fake)), fake)


def test_the_perceptual_distance():
    _assert_one_graph(PerceptualDistance(), torch.rand(1, *IMAGE), torch.rand(1, *IMAGE))
