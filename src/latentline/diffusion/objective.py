"""The training objective: regress what the network predicts at random times."""

import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.diffusion.path import Coefficients, add_noise
from latentline.diffusion.prediction import training_target, z0_error_per_output_error
from latentline.diffusion.process import Network, Process

_MIN_SNR_GAMMA = 5.0  # the paper's choice: Hang et al., arXiv 2303.09556


def sample_times(count: int, kind: str, generator: torch.Generator) -> Tensor:
    """Return stratified times (count,) in (0, 1).

    One falls into each equal slice of probability, which lowers the variance of the loss.

    Args:
        count: B.
        kind: ``uniform``, or ``logit_normal``: the logistic of a standard normal (Esser et al., arXiv 2403.03206,
            eq. 19).
        generator: on the CPU.
    """
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count  # (B,) in [0, 1)
    u = strata[torch.randperm(count, generator=generator)]
    if kind == "uniform":
        return u
    if kind == "logit_normal":
        return torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6)).sigmoid()
    raise ValueError(f"unknown time sampling {kind!r}")


def loss_weight(kind: str, prediction: str, point: Coefficients) -> Tensor:
    """Return the weight of the squared error of the network's own output, of t's shape.

    Args:
        kind: ``uniform``, 1; or ``min_snr``, min(SNR, 5) for the error of z0 (Hang et al., arXiv 2303.09556, section
            3.4). An error of another prediction is converted into an error of z0. The weight is then min(SNR, 5) / SNR
            for epsilon and min(SNR, 5) / (SNR + 1) for v.
        prediction: what the network predicts.
        point: coefficients of t (B,).
    """
    if kind == "uniform":
        return torch.ones_like(point.alpha)
    if kind == "min_snr":
        return point.snr.clamp(max=_MIN_SNR_GAMMA) * z0_error_per_output_error(prediction, point).square()
    raise ValueError(f"unknown loss weighting {kind!r}")


def denoising_loss(
    network: Network,
    process: Process,
    z0: Tensor,
    condition: Condition,
    t: Tensor,
    noise: Tensor,
    weighting: str = "uniform",
) -> Tensor:
    """Return the weighted mean squared error of the network's prediction, per example.

    Args:
        network: its prediction is ``process.prediction``.
        process: path and prediction.
        z0: clean standardised latents (B, ...).
        condition: of B examples.
        t: (B,).
        noise: (B, ...) standard normal.
        weighting: see :func:`loss_weight`.

    Returns:
        (B,).
    """
    point = process.path(t)
    predicted = network(add_noise(z0, noise, point), t, condition)
    error = (predicted - training_target(process.prediction, z0, noise, point)).square().flatten(1).mean(dim=1)  # (B,)
    return loss_weight(weighting, process.prediction, point) * error
