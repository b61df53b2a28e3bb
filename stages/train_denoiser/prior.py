"""Fit the Gaussians of :mod:`latentline.denoisers.gaussian_prior` to the training latents."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from latentline.core.attributes import CLASS
from latentline.core.seeds import generator
from latentline.denoisers.conditioning import Conditioning
from latentline.denoisers.gaussian_prior import GaussianPrior, most_rows
from stages.train_denoiser.latents import Latents

_MOST_NUMBERS = 2**25  # of all directions: 128 MiB
log = logging.getLogger(__name__)


def prior_arguments(
    rank: int, latent_shape: Sequence[int], conditioning: Conditioning, process: dict[str, str]
) -> dict[str, Any]:
    """Return the argument ``gaussian`` of the denoiser's constructor; none for ``rank`` 0.

    Where the directions of all classes would take more than 128 MiB, there is one Gaussian of all latents.
    """
    if not rank:
        return {}
    classes = next((len(one.classes) for one in conditioning.attributes if one.name == CLASS), 0)
    length = torch.Size(latent_shape).numel()
    if classes and (classes + 1) * length * min(rank, length) > _MOST_NUMBERS:
        log.info("denoiser.gaussian_rank: all %d classes share one Gaussian, since theirs exceed 128 MiB", classes)
        classes = 0
    return {"gaussian": {"classes": classes, "rank": rank, **process}}


def fit_prior(network: nn.Module, latents: Latents, seed: int) -> None:
    """Fit the network's Gaussians, where it has any, to a seeded selection of the training latents of each class."""
    prior = next((module for module in network.modules() if isinstance(module, GaussianPrior)), None)
    if prior is None:
        return
    order = torch.randperm(len(latents), generator=generator(seed, "train_denoiser", "prior"))
    most, few = most_rows(prior.mean.shape[1]), 0
    prior.fit(prior.classes, latents.z0(order[:most]))
    if prior.classes:
        labels = latents.labels.column(CLASS)[order]
        for label in range(prior.classes):
            if not prior.fit(label, latents.z0(order[labels == label][:most])):
                prior.copy_of_all(label)
                few += 1
    if few:
        log.info("denoiser.gaussian_rank: classes with too few images for a Gaussian of their own: %d", few)
