"""A network that corrects the exact denoiser of Gaussian latents.

Near noise every set of latents is denoised as a Gaussian of its mean and covariance would be, in closed form (Wang and
Vastola, arXiv 2412.09726). A small network takes long to learn that. So it is added to the network's output there, with
one Gaussian for each class.

The covariance is that of probabilistic PCA (Tipping and Bishop, 1999): ``rank`` directions with a variance each, and
one variance for all others.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.diffusion.path import Coefficients, expand
from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS

_HALF_SNR = 1 / 9  # at which the Gaussian counts half: t = 0.75 on the straight path
_SHARPNESS = 1.5
_LEAST_VARIANCE = 1e-4  # of standardised latents
_ROWS_PER_DIRECTION = 4  # latents that a direction is estimated from, at least
_MOST_ROWS = 8192  # latents that a Gaussian is fitted to
_MOST_NUMBERS = 2**27  # of those latents: 512 MiB


class GaussianPrior(nn.Module):
    """Network whose output is added to that of the Gaussian denoiser, the more the nearer t is to noise.

    Args:
        network: (z_t, t, condition, r) -> prediction, as every denoiser.
        latent_shape: of the latents.
        classes: K, Gaussians of their own; a condition's vector begins with one place for each. 0 = one Gaussian only.
        rank: directions of each Gaussian.
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
        self.directions: Tensor
        self.variances: Tensor
        self.rest: Tensor
        self.register_buffer("mean", torch.zeros(count, length))
        self.register_buffer("directions", torch.zeros(count, length, rank))
        self.register_buffer("variances", torch.ones(count, rank))
        self.register_buffer("rest", torch.ones(count, 1))

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition, r: Tensor | None = None) -> Tensor:
        """Predict (B, ...) from z_t (B, ...), t (B,) in [0, 1] and the condition of B examples; r (B,) is as there.

        Captions and other attributes reach the network alone.
        """
        point = self.path(t)
        weight = 1 / (1 + (point.snr / _HALF_SNR) ** _SHARPNESS)  # 1 at noise, 0 at data
        gaussian = self.closed_form(z_t, point, condition).to(z_t.dtype)
        return torch.addcmul(self.network(z_t, t, condition, r), expand(weight, z_t.ndim).to(z_t.dtype), gaussian)

    def closed_form(self, z_t: Tensor, point: Coefficients, condition: Condition) -> Tensor:
        """Return the prediction (B, ...) whose z0 is the mean of z0 given z_t, at the coefficients of t (B,).

        Along a direction of variance v that is alpha v / (alpha^2 v + sigma^2) times the distance to the mean.
        """
        classes = condition.vector[:, : self.classes]  # one-hot; zeros = any class
        index = torch.cat([classes, torch.full_like(point.alpha, 0.5).to(classes)[:, None]], dim=1).argmax(dim=1)
        at, dtype = point.expand(2), point.alpha.dtype  # a network that is cast to fewer bits has rounded Gaussians
        mean, directions = self.mean[index].to(dtype), self.directions[index].to(dtype)  # (B, D), (B, D, rank)
        variances, rest = self.variances[index].to(dtype), self.rest[index].to(dtype)  # (B, rank), (B, 1)
        distance = z_t.flatten(1).to(dtype) - at.alpha * mean  # (B, D)
        along = (distance[:, None] @ directions)[:, 0]  # (B, rank)

        def factor(variance: Tensor) -> Tensor:
            total = at.alpha.square() * variance + at.sigma.square()
            return training_target(self.prediction, at.alpha * variance / total, at.sigma / total, point)

        of_rest = factor(rest)  # (B, 1)
        corrected = (directions @ ((factor(variances) - of_rest) * along)[..., None])[..., 0]  # (B, D)
        of_mean = training_target(self.prediction, mean, torch.zeros_like(mean), point)
        return (of_mean + of_rest * distance + corrected).reshape(z_t.shape)

    @torch.no_grad()
    def fit(self, index: int, latents: Tensor) -> bool:
        """Fit one Gaussian to the first 8,192 of standardised latents (N, ...). Return whether they suffice.

        A class needs at least four for each direction. The last Gaussian, that of all latents, has fewer directions
        where there are fewer latents.
        """
        length, rank = self.directions.shape[1:]
        rows = latents[: most_rows(length)].flatten(1).float().cpu()  # no GPU draws other numbers then
        if index < self.classes and len(rows) < _ROWS_PER_DIRECTION * rank:
            return False
        used = min(rank, len(rows) // _ROWS_PER_DIRECTION)
        mean = rows.mean(dim=0)
        centred = rows - mean
        total = centred.square().sum() / max(1, len(rows) - 1)
        variances, directions = _principal(centred, used)
        rest = ((total - variances.sum()) / max(1, length - used)).clamp(min=_LEAST_VARIANCE)
        self.mean[index], self.rest[index] = mean, rest
        self.variances[index], self.directions[index] = rest, 0
        self.variances[index, :used] = variances.clamp(min=_LEAST_VARIANCE)
        self.directions[index, :, :used] = directions
        return True

    @torch.no_grad()
    def copy_of_all(self, index: int) -> None:
        """Give the class ``index`` the Gaussian of all latents."""
        for buffer in (self.mean, self.directions, self.variances, self.rest):
            buffer[index] = buffer[self.classes]


def most_rows(length: int) -> int:
    """Return how many latents of ``length`` numbers a Gaussian is fitted to, at most."""
    return max(1, min(_MOST_ROWS, _MOST_NUMBERS // length))


def _principal(centred: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the largest variances (rank,) of rows (N, D) around 0 and their directions (D, rank)."""
    if not rank:
        return centred.new_zeros(0), centred.new_zeros(centred.shape[1], 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the random subspace that torch begins with
        _, singular, directions = torch.svd_lowrank(centred, min(2 * rank, *centred.shape), niter=4)
    return singular[:rank].square() / max(1, len(centred) - 1), directions[:, :rank]
