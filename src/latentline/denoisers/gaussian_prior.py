"""A network that corrects the exact denoiser of Gaussian latents.

Near noise every set of latents is denoised as a Gaussian of its mean and covariance would be, in closed form (Wang and
Vastola, arXiv 2412.09726). A small network takes long to learn that. So it is added to the network's output there, with
one Gaussian for each class.

The covariance is that of probabilistic PCA (Tipping and Bishop, 1999): ``rank`` principal axes with a variance each,
and one variance for all other directions.

The trajectories of the Gaussian have a closed form, too. One evaluation that crosses a long interval
(:mod:`latentline.diffusion.flow_map`) follows them from noise to t = 0.75, and the network goes on from there. So the
network need not learn how noise becomes the covariance of the latents.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.diffusion.path import Coefficients, expand
from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS

_HALF_SNR = 1 / 9  # at which the Gaussian counts half: t = 0.75 on the straight path
_SHARPNESS = 1.5
_CROSSING = 0.75  # where the network takes over from the Gaussian's trajectory; tried 0.6 and 0.85, too
_LEAST_VARIANCE = 1e-4  # of standardised latents
_ROWS_PER_AXIS = 4  # latents that an axis is estimated from, at least


class GaussianPrior(nn.Module):
    """Network whose output is added to that of the Gaussian denoiser, the more the nearer t is to noise.

    Args:
        network: (z_t, t, condition, r) -> prediction, as every denoiser.
        latent_shape: of the latents.
        classes: K, Gaussians of their own; a condition's vector begins with one place for each. 0 = one Gaussian only.
        rank: principal axes of each Gaussian.
        path: name of the noise path.
        prediction: what the network predicts.
    """

    def __init__(
        self, network: nn.Module, latent_shape: Sequence[int], classes: int, rank: int, path: str, prediction: str
    ) -> None:
        super().__init__()
        self.network = network
        self.path, self.prediction = PATHS[path], prediction
        self.classes, count, length = classes, classes + 1, math.prod(latent_shape)
        rank = min(rank, length)
        # The last Gaussian is that of all latents, for the null condition.
        self.mean: Tensor
        self.axes: Tensor
        self.variances: Tensor
        self.rest: Tensor
        self.register_buffer("mean", torch.zeros(count, length))
        self.register_buffer("axes", torch.zeros(count, rank, length))
        self.register_buffer("variances", torch.ones(count, rank))
        self.register_buffer("rest", torch.ones(count, 1))

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition, r: Tensor | None = None) -> Tensor:
        """Predict (B, ...) from z_t (B, ...), t (B,) in [0, 1] and the condition of B examples.

        With r (B,), 0 <= r <= t, it predicts average velocities over [r, t]: the Gaussian's down to t = 0.75, and the
        network's from there. Captions and other attributes reach the network alone.
        """
        point = self.path(t)
        weight = 1 / (1 + (point.snr / _HALF_SNR) ** _SHARPNESS)  # 1 at noise, 0 at data

        def like_z(factor: Tensor) -> Tensor:
            return expand(factor, z_t.ndim).to(z_t.dtype)

        if r is None:
            gaussian = self.closed_form(z_t, point, condition).to(z_t.dtype)
            return torch.addcmul(self.network(z_t, t, condition), like_z(weight), gaussian)
        crossing = torch.maximum(r, t.clamp(max=_CROSSING))  # t itself where r = t
        gaussian = self.closed_form(z_t, point, condition, self.path(crossing)).to(z_t.dtype)
        output = self.network(z_t - like_z(t - crossing) * gaussian, crossing, condition, r)
        share = torch.where(r < t, (crossing - r) / (t - r), 1)  # of the interval that the network crosses
        weight = torch.where(r < t, 1 - share, weight)
        return like_z(share) * output + like_z(weight) * gaussian

    def closed_form(
        self, z_t: Tensor, point: Coefficients, condition: Condition, end: Coefficients | None = None
    ) -> Tensor:
        """Return the prediction (B, ...) whose z0 is the mean of z0 given z_t, at the coefficients of t (B,).

        Along an axis of variance v that is alpha v / (alpha^2 v + sigma^2) times the distance to the mean.

        With ``end``, the coefficients of r <= t, it is the average velocity (z_t - z_r) / (t - r). The ODE keeps the
        distance to the mean in proportion to the deviation s = (alpha^2 v + sigma^2)^(1/2) of z_t.
        """
        index = gaussian_index(condition, self.classes)
        at, dtype = point.expand(2), point.alpha.dtype  # a network that is cast to fewer bits has rounded Gaussians
        mean, variances, rest = (buffer[index].to(dtype) for buffer in (self.mean, self.variances, self.rest))
        distance = z_t.flatten(1).to(dtype) - at.alpha * mean  # (B, D)

        def factor(variance: Tensor) -> Tensor:
            total = at.alpha.square() * variance + at.sigma.square()
            if end is None:
                return training_target(self.prediction, at.alpha * variance / total, at.sigma / total, point)
            after = end.expand(2)
            deviation, later = total.sqrt(), (after.alpha.square() * variance + after.sigma.square()).sqrt()
            # (1 - later / deviation) / (t - r) on the straight path, written so that nothing divides by t - r
            change = at.sigma + after.sigma - (at.alpha + after.alpha) * variance
            return change / (deviation * (deviation + later))

        of_rest = factor(rest)  # (B, 1)
        # The axes of all Gaussians at once, since each example's own would be B copies of (rank, D).
        axes = self.axes.flatten(0, 1).to(dtype)
        own = F.one_hot(index, self.classes + 1)[..., None].to(dtype)  # (B, K + 1, 1)
        along = ((distance @ axes.T).unflatten(1, self.axes.shape[:2]) * own).sum(dim=1)  # (B, rank)
        corrected = (own * ((factor(variances) - of_rest) * along)[:, None]).flatten(1) @ axes  # (B, D)
        of_mean = training_target(self.prediction, mean, torch.zeros_like(mean), point)
        return (of_mean + of_rest * distance + corrected).reshape(z_t.shape)

    @torch.no_grad()
    def fit(self, index: int, latents: Tensor) -> bool:
        """Fit one Gaussian to standardised latents (N, ...). Return whether they suffice.

        The last Gaussian, that of all latents, comes first. It has fewer axes where there are fewer latents than four
        for each. A class with fewer gets the Gaussian of all.
        """
        rank, length = self.axes.shape[1:]
        if index < self.classes and len(latents) < _ROWS_PER_AXIS * rank:
            for buffer in (self.mean, self.axes, self.variances, self.rest):
                buffer[index] = buffer[self.classes]
            return False
        used = min(rank, len(latents) // _ROWS_PER_AXIS)
        rows = latents.flatten(1).float().cpu()  # no GPU draws other numbers then
        mean = rows.mean(dim=0)
        centred = rows - mean
        total = centred.square().sum() / max(1, len(rows) - 1)
        variances, axes = _principal(centred, used)
        rest = ((total - variances.sum()) / max(1, length - used)).clamp(min=_LEAST_VARIANCE)
        self.mean[index], self.rest[index] = mean, rest
        self.variances[index], self.axes[index] = rest, 0
        self.variances[index, :used] = variances.clamp(min=_LEAST_VARIANCE)
        self.axes[index, :used] = axes
        return True


def gaussian_index(condition: Condition, classes: int) -> Tensor:
    """Return the index (B,) of the Gaussian of each example: that of its class, else the last one, ``classes``."""
    own = condition.vector[:, :classes]  # one-hot; zeros = any class
    half = torch.full_like(condition.vector.sum(dim=1, keepdim=True), 0.5)
    return torch.cat([own, half], dim=1).argmax(dim=1)


def gaussian_prior_of(network: nn.Module) -> GaussianPrior | None:
    """Return the part of a denoiser's network that holds its Gaussians; None = it has none."""
    return next((module for module in network.modules() if isinstance(module, GaussianPrior)), None)


def _principal(centred: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the largest variances (rank,) of rows (N, D) around 0 and their axes (rank, D)."""
    if not rank:
        return centred.new_zeros(0), centred.new_zeros(0, centred.shape[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the random subspace that torch begins with
        _, singular, axes = torch.svd_lowrank(centred, min(2 * rank, *centred.shape), niter=4)
    return singular[:rank].square() / max(1, len(centred) - 1), axes[:, :rank].T
