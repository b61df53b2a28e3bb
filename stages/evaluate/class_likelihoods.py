"""Which condition explains an image best: a conditional denoiser as a classifier, by Bayes' rule.

Each way gives log p(z0 | condition) of every candidate, up to a number that is the same for all candidates of an image; with log p(condition)
added, softmax makes them the posterior. Candidates of one image always share what is drawn at random, which takes most of the variance out of
their differences (Li et al., arXiv 2303.16203, section 3.3).
"""

import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.diffusion.inversion import invert
from latentline.diffusion.path import NoisePath, add_noise
from latentline.diffusion.process import DenoiserModel, Network, Process, conditional_model
from latentline.samplers.heun import heun
from stages.evaluate.likelihood import gaussian_log_density, log_likelihood

WEIGHTINGS = ("z0_early", "noise", "elbo")
_DECAY = 7.0  # the paper's choice: Clark and Jaini, arXiv 2303.15233


def posterior(log_likelihoods: Tensor, prior: Tensor) -> Tensor:
    """p(condition | z0) (B, K) from log likelihoods (B, K), up to a number per row, and the shares p(condition) (K,); a share may be 0."""
    return (log_likelihoods + prior.log()).softmax(dim=1)


@torch.no_grad()
def by_inversion(network: Network, process: Process, z0: Tensor, conditions: Condition, times: Tensor) -> Tensor:
    """Log density, under N(0, I), of the noise that each condition's ODE brings z0 to, by Heun's steps.

    The volume that the flow squeezes or stretches is left out: right only where it is the same for all conditions.

    Args:
        network: predicts what ``process`` says.
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
    """Log likelihood with the divergence of the flow, estimated along ``probes`` (P, B, ...); the rest as in :func:`by_inversion`."""
    model, repeated = _every_candidate(network, process, z0, conditions)
    shared = probes.repeat_interleave(conditions.size // len(z0), dim=1)  # (P, B * K, ...)
    return log_likelihood(model, repeated, times, shared).reshape(len(z0), -1)


def by_denoising(
    network: Network, process: Process, z0: Tensor, conditions: Condition, t: Tensor, noise: Tensor, weighting: str
) -> Tensor:
    """Minus the weighted squared errors of denoising, summed over z0's values and averaged over times (Li et al., arXiv 2303.16203, eq. 6).

    Args:
        network: predicts what ``process`` says.
        process: path and prediction.
        z0: standardised latents (B, ...).
        conditions: of B * K examples: the K candidates of each z0, one after the other.
        t: (M,) times, evenly in (0, 1).
        noise: (M, ...) standard normal, one per time and the same for all images.
        weighting: see :func:`error_weight`.

    Returns:
        (B, K); with ``elbo``, and in the limit of many times, in nats.
    """
    errors = denoising_errors(network, process, z0, conditions, t, noise)  # (B, K, M)
    return -(error_weight(weighting, process.path, t) * errors).mean(dim=2)


@torch.no_grad()
def denoising_errors(
    network: Network, process: Process, z0: Tensor, conditions: Condition, t: Tensor, noise: Tensor
) -> Tensor:
    """Squared error of the noise estimate, summed over z0's values, per time: (B, K, M); arguments as in :func:`by_denoising`."""
    model, repeated = _every_candidate(network, process, z0, conditions)
    errors = []
    for time, draw in zip(t.tolist(), noise, strict=True):
        z_t = add_noise(repeated, draw.expand_as(repeated), process.path(repeated.new_full((len(repeated),), time)))
        errors.append((model.predict_at(z_t, time).noise - draw).square().flatten(1).sum(dim=1))  # (B * K,)
    return torch.stack(errors, dim=1).reshape(len(z0), -1, len(t))


def error_weight(weighting: str, path: NoisePath, t: Tensor) -> Tensor:
    """What a squared error of the noise counts at a time, of t's shape.

    Args:
        weighting: ``noise``, 1 (Li et al., arXiv 2303.16203); ``z0_early``, exp(-7 t) sigma^2 / alpha^2, the error of z0 with a preference for
            little noise (Clark and Jaini, arXiv 2303.15233); or ``elbo``, |d lambda / dt|, with which the integral over t is minus the log
            likelihood but for a number that no condition changes (Kingma et al., arXiv 2107.00630, eq. 17).
        path: where alpha, sigma and lambda come from.
        t: in (0, 1).
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
    """Return the network conditioned on all candidates, and each of z0 (B, ...) once for each of its candidates: (B * K, ...)."""
    model = conditional_model(network, process, conditions)
    return model, z0.repeat_interleave(conditions.size // len(z0), dim=0)
