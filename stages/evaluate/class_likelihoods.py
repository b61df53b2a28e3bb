"""Likelihoods of latents under each condition, by a conditional denoiser: the terms of a diffusion classifier.

Each method estimates log p(z0 | condition) of every candidate condition, up to a constant per image. The softmax of
these values plus log p(condition) is the posterior. All candidates of an image share the same random numbers, which
removes most of the variance of their differences (Li et al., arXiv 2303.16203, section 3.3).
"""

import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.diffusion.inversion import invert
from latentline.diffusion.path import NoisePath, add_noise_at
from latentline.diffusion.process import DenoiserModel, Network, Process, conditional_model
from latentline.samplers.heun import heun
from stages.evaluate.likelihood import gaussian_log_density, log_likelihood

WEIGHTINGS = ("z0_early", "noise", "elbo")
_DECAY = 7.0  # the paper's choice: Clark and Jaini, arXiv 2303.15233


def posterior(log_likelihoods: Tensor, prior: Tensor) -> Tensor:
    """Return p(condition | z0) (B, K).

    Args:
        log_likelihoods: (B, K), up to a constant per row.
        prior: p(condition) (K,); may contain zeros.
    """
    return (log_likelihoods + prior.log()).softmax(dim=1)


@torch.no_grad()
def by_inversion(network: Network, process: Process, z0: Tensor, conditions: Condition, times: Tensor) -> Tensor:
    """Return the log density, under N(0, I), of the noise to which each condition's ODE maps z0, by Heun's steps.

    The change of volume along the flow is omitted, so the result is exact only where it is the same for all conditions.

    Args:
        network: trained for ``process``.
        process: path and prediction.
        z0: standardised latents (B, ...).
        conditions: of B * K examples: the K candidates of each z0, one after the other.
        times: (T + 1,), a grid of sampling, from 1 to 0.

    Returns:
        (B, K), in nats.
    """
    model, repeated = _every_candidate(network, process, z0, conditions)
    return gaussian_log_density(invert(heun, model, repeated, times)).reshape(len(z0), -1)


def by_likelihood(
    network: Network, process: Process, z0: Tensor, conditions: Condition, times: Tensor, probes: Tensor
) -> Tensor:
    """Return the log likelihood with the divergence of the flow, estimated along ``probes`` (P, B, ...).

    Other arguments and the result are as in :func:`by_inversion`.
    """
    model, repeated = _every_candidate(network, process, z0, conditions)
    shared = probes.repeat_interleave(conditions.size // len(z0), dim=1)  # (P, B * K, ...)
    return log_likelihood(model, repeated, times, shared).reshape(len(z0), -1)


def by_denoising(
    network: Network, process: Process, z0: Tensor, conditions: Condition, t: Tensor, noise: Tensor, weighting: str
) -> Tensor:
    """Return minus the weighted squared error of denoising (Li et al., arXiv 2303.16203, eq. 6).

    Errors are summed over z0's values and averaged over times.

    Args:
        network: trained for ``process``.
        process: path and prediction.
        z0: standardised latents (B, ...).
        conditions: of B * K examples: the K candidates of each z0, one after the other.
        t: (M,) times, evenly spaced in (0, 1).
        noise: (M, ...) standard normal, one per time and the same for all images.
        weighting: see :func:`error_weight`.

    Returns:
        (B, K); with ``elbo`` and many times, in nats.
    """
    errors = denoising_errors(network, process, z0, conditions, t, noise)  # (B, K, M)
    return -(error_weight(weighting, process.path, t) * errors).mean(dim=2)


@torch.no_grad()
def denoising_errors(
    network: Network, process: Process, z0: Tensor, conditions: Condition, t: Tensor, noise: Tensor
) -> Tensor:
    """Return the squared error of the noise estimate, summed over z0's values: (B, K, M).

    Arguments are as in :func:`by_denoising`.
    """
    model, repeated = _every_candidate(network, process, z0, conditions)
    errors = []
    for time, draw in zip(t.tolist(), noise, strict=True):
        z_t = add_noise_at(process.path, repeated, draw.expand_as(repeated), time)
        errors.append((model.predict_at(z_t, time).noise - draw).square().flatten(1).sum(dim=1))  # (B * K,)
    return torch.stack(errors, dim=1).reshape(len(z0), -1, len(t))


def error_weight(weighting: str, path: NoisePath, t: Tensor) -> Tensor:
    """Return the weight of the squared error of the noise at each time, of t's shape.

    ``noise``: 1 (Li et al., arXiv 2303.16203).

    ``z0_early``: exp(-7 t) sigma^2 / alpha^2, the error of z0, less with more noise (Clark and Jaini,
    arXiv 2303.15233).

    ``elbo``: |d lambda / dt|. The integral over t is minus the log likelihood, up to a constant (Kingma et al.,
    arXiv 2107.00630, eq. 17).

    Args:
        weighting: one of :data:`WEIGHTINGS`.
        path: defines alpha, sigma and lambda.
        t: in (0, 1).

    Raises:
        ValueError: another weighting.
    """
    point = path(t)
    if weighting == "noise":
        return torch.ones_like(t)
    if weighting == "z0_early":
        return (-_DECAY * t).exp() / point.snr
    if weighting == "elbo":
        return point.d_sigma / point.sigma - point.d_alpha / point.alpha
    raise ValueError(f"unknown weighting {weighting!r}")


def _every_candidate(
    network: Network, process: Process, z0: Tensor, conditions: Condition
) -> tuple[DenoiserModel, Tensor]:
    """Return the network conditioned on all candidates, and z0 (B, ...) repeated for each of them: (B * K, ...)."""
    model = conditional_model(network, process, conditions)
    return model, z0.repeat_interleave(conditions.size // len(z0), dim=0)
