"""Moment matching: give samples the mean and the covariance of the latents that their denoiser has learnt.

A small network, few solver steps and guidance each change both. They are measured on samples of other noise. An affine
map then undoes the difference, the same for every sample.

The denoiser holds the Gaussians of its latents (:mod:`latentline.denoisers.gaussian_prior`). In coordinates along their
axes, divided by their deviations, the latents have unit covariance and the samples a covariance C. The map multiplies
by C^(-1/2), which is the optimal transport of one Gaussian to the other (Peyré and Cuturi, arXiv 1803.00567, remark
2.31). All directions beyond the axes share one factor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.denoisers.gaussian_prior import GaussianPrior

_ROWS_PER_AXIS = 10  # samples that an axis is measured on, at least
_LARGEST_FACTOR = 2.0  # by which any direction is stretched or shrunk, should the samples be of no use


@dataclass(frozen=True)
class MomentMap:
    """x -> wanted + rest (x - mean), and ``change`` along the axes.

    Args:
        mean: (D,) of samples.
        wanted: (D,) of latents.
        axes: (rank, D), orthonormal.
        change: (rank, rank), of coordinates as rows, added to the factor ``rest``.
        rest: (), factor of all directions.
    """

    mean: Tensor
    wanted: Tensor
    axes: Tensor
    change: Tensor
    rest: Tensor

    def __call__(self, samples: Tensor) -> Tensor:
        """Map samples (B, ...) of D numbers."""
        distance = samples.flatten(1).float() - self.mean
        moved = self.rest * distance + distance @ self.axes.T @ self.change @ self.axes
        return (self.wanted + moved).reshape(samples.shape)

    def to(self, device: torch.device) -> "MomentMap":
        """Return the map on ``device``."""
        return MomentMap(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def match_moments(samples: Tensor, prior: GaussianPrior, index: int) -> MomentMap:
    """Return the map, on the CPU, from the moments of samples (N, ...), N >= 2, to those of a Gaussian.

    It has fewer axes where the samples are fewer than ten for each. No direction changes by more than a factor of 2.

    Args:
        samples: standardised latents.
        prior: holds the Gaussians.
        index: of the class; the last Gaussian is that of all latents.
    """
    wanted, axes, variances, others = (
        buffer[index].detach().double().cpu() for buffer in (prior.mean, prior.axes, prior.variances, prior.rest)
    )
    fitted = int(axes.any(dim=1).sum())  # the first ones; few latents give fewer axes
    total = variances[:fitted].sum() + others.sum() * (len(wanted) - fitted)
    rows = samples.flatten(1).double().cpu()
    mean = rows.mean(dim=0)
    distance, degrees = rows - mean, len(rows) - 1
    rank = min(fitted, len(rows) // _ROWS_PER_AXIS)
    axes, variances = axes[:rank], variances[:rank]
    deviations = variances.sqrt()
    along = distance @ axes.T
    whitened = along / deviations
    eigenvalues, vectors = torch.linalg.eigh(whitened.T @ whitened / degrees)
    transport = vectors * _bounded(eigenvalues.clamp(min=0).rsqrt()) @ vectors.T
    rest = rows.new_ones(())
    if rank < len(wanted):
        beyond = (distance.square().sum() - along.square().sum()) / degrees
        rest = _bounded(((total - variances.sum()) / beyond).sqrt())
    change = transport * deviations / deviations[:, None] - rest * torch.eye(rank, dtype=rows.dtype)
    return MomentMap(mean.float(), wanted.float(), axes.float(), change.float(), rest.float())


def _bounded(factors: Tensor) -> Tensor:
    return factors.nan_to_num(1.0).clamp(1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
