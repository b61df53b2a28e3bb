"""The Gaussians of a denoiser, fitted to the training latents of each class."""

import logging

import pytest
import torch

from latentline.core.attributes import CLASS, Attribute
from latentline.core.labels import LabelTable
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.conditioning import Conditioning
from latentline.latents.normalizer import Normalizer
from latentline.training.step_inputs import RowSource
from stages.train_denoiser.latents import Latents
from stages.train_denoiser.prior import fit_prior, prior_arguments

PROCESS = {"path": "flow", "prediction": "velocity"}
SHAPE = (2, 4, 4)
CLASSES = Attribute(CLASS, "categorical", ("boot", "bag", "hat"))
LEVEL = Attribute("level", "continuous")


def _latents(labels: list[int]) -> Latents:
    """Return latents of variance 1 around the index of their class, in units of raw latents 3 + 2 z."""
    conditioning = Conditioning((CLASSES,))
    z0 = torch.tensor(labels)[:, None, None, None] + torch.randn(len(labels), *SHAPE)
    normalizer = Normalizer(torch.full((2, 1, 1), 3.0), torch.full((2, 1, 1), 2.0))
    table = LabelTable((CLASSES,), torch.tensor(labels, dtype=torch.float32)[:, None])
    return Latents(RowSource(normalizer.restore(z0)), table, conditioning, normalizer, torch.device("cpu"))


def test_there_is_a_gaussian_for_each_class_as_far_as_the_denoiser_has_classes():
    assert prior_arguments(8, SHAPE, Conditioning((CLASSES, LEVEL)), PROCESS)["gaussian"] == {
        "classes": 3,
        "rank": 8,
        **PROCESS,
    }
    assert prior_arguments(8, SHAPE, Conditioning((LEVEL,)), PROCESS)["gaussian"]["classes"] == 0
    assert prior_arguments(0, SHAPE, Conditioning((CLASSES,)), PROCESS) == {}


def test_classes_whose_gaussians_are_too_large_share_one_and_the_log_says_so(caplog):
    many = Attribute(CLASS, "categorical", tuple(map(str, range(1000))))
    with caplog.at_level(logging.INFO):
        assert prior_arguments(64, (4, 32, 32), Conditioning((many,)), PROCESS)["gaussian"]["classes"] == 0
        assert prior_arguments(64, (64,), Conditioning((many,)), PROCESS)["gaussian"]["classes"] == 1000
    assert caplog.text.count("all 1000 classes share one Gaussian") == 1


def test_each_class_has_the_gaussian_of_its_latents_and_a_small_one_that_of_all(caplog):
    arguments = prior_arguments(4, SHAPE, Conditioning((CLASSES,)), PROCESS)
    network = build_denoiser(
        "unet", latent_shape=SHAPE, cond_dim=3, channels=[8], blocks=1, attention_levels=[], **arguments
    )
    with caplog.at_level(logging.INFO):
        fit_prior(network, _latents([0] * 900 + [1] * 900 + [2] * 15), seed=0)
    means = network.mean.mean(dim=1)
    assert means[:2].tolist() == pytest.approx([0.0, 1.0], abs=0.05)
    assert means[3].item() == pytest.approx(0.5, abs=0.1)
    for buffer in network.buffers(recurse=False):
        assert torch.equal(buffer[2], buffer[3])
    assert "classes with too few images for a Gaussian of their own: 1" in caplog.text


def test_a_network_without_gaussians_stays_as_it_is():
    network = build_denoiser("unet", latent_shape=SHAPE, cond_dim=3, channels=[8], blocks=1, attention_levels=[])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fit_prior(network, _latents([0, 1]), seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
