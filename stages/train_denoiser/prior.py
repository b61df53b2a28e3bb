"""Fit the Gaussians of :mod:`latentline.denoisers.gaussian_prior` to the training latents."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from latentline.core.labels import class_names
from latentline.core.seeds import generator
from latentline.denoisers.conditioning import Conditioning
from latentline.denoisers.gaussian_prior import gaussian_prior_of
from stages.train_denoiser.latents import Latents

_MOST_NUMBERS = 2**25  # of the axes of all classes: 128 MiB, and as many multiplications for each example
_LEAST_LENGTH = 512  # that counts for them, since shorter latents come with small networks
_MOST_ROWS = 8192  # latents that a Gaussian is fitted to
_MOST_READ = 2**27  # numbers of those latents: 512 MiB
log = logging.getLogger(__name__)


def prior_arguments(
    rank: int, latent_shape: Sequence[int], conditioning: Conditioning, process: dict[str, str]
) -> dict[str, Any]:
    """Return the argument ``gaussian`` of the denoiser's constructor; none for ``rank`` 0.

    Where the axes of all classes would be too many, there is one Gaussian of all latents.
    """
    if not rank:
        return {}
    classes = len(class_names(conditioning.attributes))
    length = torch.Size(latent_shape).numel()
    if classes and (classes + 1) * max(length, _LEAST_LENGTH) * min(rank, length) > _MOST_NUMBERS:
        log.info("denoiser.gaussian_rank: all %d classes share one Gaussian, since theirs would be too many", classes)
        classes = 0
    return {"gaussian": {"classes": classes, "rank": rank, **process}}


def fit_prior(network: nn.Module, latents: Latents, seed: int) -> None:
    """Fit the network's Gaussians, where it has any, to a seeded selection of the training latents of each class."""
    prior = gaussian_prior_of(network)
    if prior is None:
        return
    order = torch.randperm(len(latents), generator=generator(seed, "train_denoiser", "prior"))
    most = max(1, min(_MOST_ROWS, _MOST_READ // prior.mean.shape[1]))
    prior.fit(prior.classes, latents.z0(order[:most]))
    labels = latents.labels.classes if prior.classes else None
    if labels is None:
        return
    few = sum(not prior.fit(label, latents.z0(order[labels[order] == label][:most])) for label in range(prior.classes))
    if few:
        log.info("denoiser.gaussian_rank: classes with too few images for a Gaussian of their own: %d", few)
