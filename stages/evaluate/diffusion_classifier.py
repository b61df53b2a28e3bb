"""Classify test latents by Bayes' rule: which class, as the denoiser's condition, explains a latent best."""

import math
import time
from typing import Any

import torch
from torch import Tensor

from latentline.core.attributes import CLASS
from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.core.labels import LabelTable, class_names
from latentline.core.progress import with_progress
from latentline.core.seeds import generator
from latentline.core.timing import record_timing
from latentline.denoisers.load import Denoiser, load_denoiser
from latentline.diffusion.time_grid import time_grid
from latentline.evaluation.agreement import ConfusionSample, accuracy, confusion_sample, constant_agreement
from latentline.latents.cache import LatentStats
from latentline.runtime.compute import channels_last
from stages.evaluate.class_likelihoods import by_denoising, by_inversion, by_likelihood, posterior
from stages.evaluate.params import BayesParams

_BATCH = 500  # candidates at a time; a candidate is a latent with one of the classes as its condition
_STREAM = "bayes"


def load_class_conditional(device: torch.device, stats: LatentStats, count: int) -> Denoiser:
    """Load the denoiser. Raises UserError unless it is conditioned on the class; ``count`` is for the message."""
    denoiser = load_denoiser(device, stats)
    require_class(denoiser, count)
    return denoiser


def require_class(denoiser: Denoiser, count: int) -> None:
    """Raise UserError unless the denoiser is conditioned on the class; ``count`` is ``evaluate.bayes.count``."""
    if CLASS not in denoiser.conditioning.names:
        names = ", ".join(denoiser.conditioning.names) or "nothing"
        raise UserError(
            f"evaluate.bayes.count ({count}) must be 0 for a denoiser conditioned on {names} and not on the class; "
            "set it to 0, or train on labelled images with denoiser.condition class or all"
        )


def class_shares(labels: LabelTable) -> Tensor:
    """Return the share of each class among labelled images: (K,)."""
    return torch.bincount(labels.column(CLASS).long(), minlength=len(class_names(labels.schema))) / len(labels)


def diffusion_classifier_scores(
    params: BayesParams,
    seed: int,
    denoiser: Denoiser,
    z0: Tensor,
    labels: LabelTable,
    shares: Tensor,
    predicted: Tensor,
) -> tuple[dict[str, Any], ConfusionSample]:
    """Classify at most ``params.count`` of the latents, chosen at random, and score the result.

    Args:
        params: section ``evaluate.bayes``.
        seed: of the choice of images, and see :func:`classify`.
        denoiser: see :func:`classify`.
        z0: see :func:`classify`.
        labels: see :func:`classify`.
        shares: see :func:`classify`.
        predicted: classes (N,) that the feature extractor predicts, for comparison.

    Returns:
        The metrics, and the confusion counts of the classification.
    """
    chosen = torch.randperm(len(z0), generator=generator(seed, _STREAM, "images"))[: params.count]
    started = time.monotonic()
    found = classify(params, seed, denoiser, z0[chosen], labels[chosen], shares)
    record_timing("evaluate", bayes_seconds=time.monotonic() - started)
    targets, column = labels.values[chosen, 0], labels.schema[0]
    share, extractor_share = (accuracy(answers, targets) for answers in (found, predicted[chosen]))
    metrics = {
        "method": params.method,
        "count": len(chosen),
        "accuracy": share,
        "standard_error": math.sqrt(share * (1 - share) / len(chosen)),
        "accuracy_of_the_feature_extractor": extractor_share,
        "accuracy_of_the_judge": extractor_share,  # for readers of earlier versions
        "accuracy_of_the_commonest_class": constant_agreement(column, targets),
    }
    return metrics, confusion_sample(column, found, targets)


def classify(
    params: BayesParams, seed: int, denoiser: Denoiser, z0: Tensor, labels: LabelTable, shares: Tensor
) -> Tensor:
    """Return the most probable class of each latent, as floats (N,).

    Args:
        params: section ``evaluate.bayes``.
        seed: of the noise and of the probes.
        denoiser: conditioned on the class.
        z0: standardised latents (N, *latent_shape).
        labels: of their images; the denoiser is conditioned on the attributes besides the class as they are.
        shares: of the classes among the training images, p(class) (K,).
    """
    images_per_batch = max(1, _BATCH // len(shares))
    found = []
    starts = range(0, len(z0), images_per_batch)
    for start in with_progress(starts, len(starts), "diffusion classifier"):
        rows = slice(start, start + images_per_batch)
        conditions = denoiser.conditioning.encode(_with_every_class(labels[rows], len(shares)))  # of B * K examples
        z = channels_last(z0[rows].to(denoiser.device))
        evidence = _evidence(params, seed, denoiser, z, conditions.to(denoiser.device))
        found.append(posterior(evidence.cpu(), shares).argmax(dim=1).float())
    return torch.cat(found)


def _with_every_class(labels: LabelTable, num_classes: int) -> LabelTable:
    """Repeat each image's labels once per class, with that class: B rows -> B * K rows."""
    values = labels.values.repeat_interleave(num_classes, dim=0)  # (B * K, A)
    values[:, 0] = torch.arange(num_classes).repeat(len(labels))
    return LabelTable(labels.schema, values)


def _evidence(params: BayesParams, seed: int, denoiser: Denoiser, z0: Tensor, conditions: Condition) -> Tensor:
    """Return log p(z0 | condition) (B, K), up to a constant per row."""
    network, process, steps = denoiser.network, denoiser.process, params.steps
    if params.method == "inversion":
        return by_inversion(network, process, z0, conditions, time_grid(steps))
    if params.method == "likelihood":
        random = generator(seed, _STREAM, "probes")
        signs = torch.randint(2, (params.probes, 1, *z0.shape[1:]), generator=random).to(z0) * 2 - 1
        probes = signs.expand(-1, len(z0), *signs.shape[2:])  # the same for all images
        return by_likelihood(network, process, z0, conditions, time_grid(steps), probes)
    t = (torch.arange(steps) + 0.5) / steps  # (M,)
    noise = torch.randn(steps, *z0.shape[1:], generator=generator(seed, _STREAM, "noise"))
    return by_denoising(network, process, z0, conditions, t.to(z0), noise.to(z0), params.weighting)
