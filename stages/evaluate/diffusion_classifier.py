"""Classify test latents by Bayes' rule: which class, told to the denoiser, explains them best."""

import math
import time
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.core.attributes import CLASS
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable
from latentline.core.seeds import generator
from latentline.core.timing import record_timing
from latentline.denoisers.load import Denoiser
from latentline.diffusion.time_grid import time_grid
from latentline.evaluation.agreement import agreement, confusion_counts, constant_agreement
from latentline.runtime.compute import channels_last
from stages.evaluate.class_likelihoods import by_denoising, by_inversion, by_likelihood, posterior
from stages.evaluate.params import BayesParams

_BATCH = 500  # candidates at a time: a latent told one class


def require_class(denoiser: Denoiser) -> None:
    """Raise UserError unless the denoiser is told the class."""
    if CLASS not in denoiser.conditioning.names:
        told = ", ".join(denoiser.conditioning.names) or "nothing"
        raise UserError(
            f"evaluate.bayes.count: the denoiser is told {told}, but Bayes' rule needs one that is told the class; set it to 0, "
            "or train on labelled images with denoiser.condition class or all"
        )


def bayes_scores(
    params: BayesParams, seed: int, denoiser: Denoiser, z0: Tensor, labels: LabelTable, shares: Tensor, judged: Tensor
) -> tuple[dict[str, Any], Tensor]:
    """Classify a part of the test split.

    Args:
        params: section ``evaluate.bayes``.
        seed: of the choice of images, and see :func:`classify`.
        denoiser: see :func:`classify`.
        z0: see :func:`classify`.
        labels: see :func:`classify`.
        shares: see :func:`classify`.
        judged: the classes (N,) that the judge sees in the images.

    Returns:
        The metrics, and the confusion counts (K, K) of the classification.
    """
    chosen = torch.randperm(len(z0), generator=generator(seed, "bayes", "images"))[: params.count]
    started = time.monotonic()
    found = classify(params, seed, denoiser, z0[chosen], labels[chosen], shares)
    record_timing("evaluate", bayes_seconds=time.monotonic() - started)
    known, column = labels.values[chosen, 0], labels.schema[0]
    accuracy = agreement(column, found, known)
    metrics = {
        "method": params.method,
        "count": len(chosen),
        "accuracy": accuracy,
        "standard_error": math.sqrt(accuracy * (1 - accuracy) / len(chosen)),
        "accuracy_of_the_judge": agreement(column, judged[chosen], known),
        "accuracy_of_the_commonest_class": constant_agreement(column, known),
    }
    return metrics, confusion_counts(column, found, known)


def classify(
    params: BayesParams, seed: int, denoiser: Denoiser, z0: Tensor, labels: LabelTable, shares: Tensor
) -> Tensor:
    """The most probable class of each latent.

    Args:
        params: section ``evaluate.bayes``.
        seed: of the noise and of the probes.
        denoiser: conditioned on the class.
        z0: standardised latents (N, *latent_shape).
        labels: of their images; the denoiser is conditioned on the other attributes as they are.
        shares: of the classes among the training images, p(class) (K,).

    Returns:
        (N,), as values hold them.
    """
    batches = max(1, _BATCH // len(shares))
    found = []
    starts = tqdm(range(0, len(z0), batches), desc="diffusion classifier", disable=None)
    for rows in (slice(start, start + batches) for start in starts):
        conditions = denoiser.conditioning.encode(_every_class(labels[rows], len(shares)))  # of B * K examples
        z = channels_last(z0[rows].to(denoiser.device))
        evidence = _evidence(params, seed, denoiser, z, conditions.to(denoiser.device))
        found.append(posterior(evidence.cpu(), shares).argmax(dim=1).float())
    return torch.cat(found)


def _every_class(labels: LabelTable, num_classes: int) -> LabelTable:
    """Repeat each image's labels with every class in turn."""
    values = labels.values.repeat_interleave(num_classes, dim=0)  # (B * K, A)
    values[:, 0] = torch.arange(num_classes).repeat(len(labels))
    return LabelTable(labels.schema, values)


def _evidence(params: BayesParams, seed: int, denoiser: Denoiser, z0: Tensor, conditions: Condition) -> Tensor:
    """Log p(z0 | condition) (B, K), but for a number per row."""
    network, process, steps = denoiser.network, denoiser.process, params.steps
    if params.method == "inversion":
        return by_inversion(network, process, z0, conditions, time_grid(steps))
    if params.method == "likelihood":
        signs = (
            torch.randint(2, (params.probes, 1, *z0.shape[1:]), generator=generator(seed, "bayes", "probes")).to(z0) * 2
            - 1
        )
        return by_likelihood(
            network, process, z0, conditions, time_grid(steps), signs.expand(-1, len(z0), *signs.shape[2:])
        )
    t = (torch.arange(steps) + 0.5) / steps  # (M,)
    noise = torch.randn(steps, *z0.shape[1:], generator=generator(seed, "bayes", "noise"))
    return by_denoising(network, process, z0, conditions, t.to(z0), noise.to(z0), params.weighting)
