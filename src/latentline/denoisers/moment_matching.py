"""Moment matching: give samples the mean and the covariance of the latents that their denoiser has learnt.

A small network, few solver steps and guidance each change both. They are measured on samples of other noise. An affine
map then undoes the difference, the same for every sample of a class.

The denoiser holds the Gaussians of its latents (:mod:`latentline.denoisers.gaussian_prior`). In coordinates along their
axes, divided by their deviations, the latents have unit covariance and the samples a covariance C. The map multiplies
by C^(-1/2), which is the optimal transport of one Gaussian to the other (Peyré and Cuturi, arXiv 1803.00567, remark
2.31). All directions beyond the axes share one factor.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.denoisers.gaussian_prior import GaussianPrior, gaussian_index

_ROWS_PER_AXIS = 10  # samples that an axis is measured on, at least
_LARGEST_FACTOR = 2.0  # by which any direction is stretched or shrunk, should the samples be of no use


class MomentMaps(nn.Module):
    """The map of each class: x -> wanted + rest (x - mean), and ``change`` along the axes.

    Where :meth:`fit` has not been called, samples stay as they are.

    Args:
        latent_shape: of the samples.
        classes: K, maps of their own; a condition's vector begins with one place for each. 0 = one map for all samples.
        rank: axes of each map.
    """

    def __init__(self, latent_shape: Sequence[int], classes: int, rank: int) -> None:
        super().__init__()
        self.classes, self.latent_shape, length = classes, tuple(latent_shape), torch.Size(latent_shape).numel()
        self.mean: Tensor
        self.wanted: Tensor
        self.axes: Tensor
        self.change: Tensor
        self.rest: Tensor
        count = classes + 1  # the last map is that of samples of no class
        self.register_buffer("mean", torch.zeros(count, length))
        self.register_buffer("wanted", torch.zeros(count, length))
        self.register_buffer("axes", torch.zeros(count, rank, length))
        self.register_buffer("change", torch.zeros(count, rank, rank))
        self.register_buffer("rest", torch.ones(count, 1))

    @classmethod
    def like(cls, prior: GaussianPrior, latent_shape: Sequence[int]) -> "MomentMaps":
        """Return maps, on the CPU, for samples of a denoiser with these Gaussians."""
        return cls(latent_shape, prior.classes, prior.axes.shape[1])

    @property
    def constructor(self) -> dict[str, object]:
        """The arguments that build such maps again."""
        return {"latent_shape": list(self.latent_shape), "classes": self.classes, "rank": self.axes.shape[1]}

    def forward(self, z0: Tensor, condition: Condition) -> Tensor:
        """Map standardised samples (B, *latent_shape) with the conditions of B examples."""
        index = gaussian_index(condition, self.classes)
        distance = z0.flatten(1).float() - self.mean[index]  # (B, D)
        # The axes of all maps at once, since each example's own would be B copies of (rank, D).
        axes = self.axes.flatten(0, 1)
        own = F.one_hot(index, self.classes + 1)[..., None].to(distance)  # (B, K + 1, 1)
        along = ((distance @ axes.T).unflatten(1, self.axes.shape[:2]) * own).sum(dim=1)  # (B, rank)
        changed = along[:, None] @ self.change[index]  # (B, 1, rank)
        moved = self.rest[index] * distance + (own * changed).flatten(1) @ axes
        return (self.wanted[index] + moved).reshape(z0.shape).to(z0.dtype)

    @torch.no_grad()
    def fit(self, index: int, samples: Tensor, prior: GaussianPrior) -> None:
        """Set one map: from the moments of samples (N, *latent_shape), N >= 2, to those of the Gaussian ``index``.

        It has fewer axes where the samples are fewer than ten for each. No direction changes by more than a factor of
        2.

        Args:
            index: of the class; the last Gaussian is that of all latents.
            samples: standardised latents.
            prior: holds the Gaussians.
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
        self.mean[index], self.wanted[index], self.rest[index] = mean.to(self.mean), wanted.to(self.mean), rest
        self.axes[index, :rank] = axes.to(self.mean)
        change = transport * deviations / deviations[:, None] - rest * torch.eye(rank, dtype=rows.dtype)
        self.change[index, :rank, :rank] = change.to(self.mean)


def _bounded(factors: Tensor) -> Tensor:
    return factors.nan_to_num(1.0).clamp(1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
