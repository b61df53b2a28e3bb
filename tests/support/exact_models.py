"""Exact networks for data of a mixture of Gaussians: every prediction, on every path."""

from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS, DenoiserModel, Process, build_process

COMBINATIONS = [
    ("flow", "velocity"),
    ("flow", "v"),
    ("flow", "x0"),
    *((path, prediction) for path in ("vp_linear", "vp_cosine") for prediction in ("epsilon", "v", "x0")),
]


@dataclass(frozen=True)
class Mixture:
    """Equally likely N(means[k], deviations[k]^2 I); means (K, D), deviations (K,)."""

    means: Tensor
    deviations: Tensor

    def estimates(self, z_t: Tensor, t: Tensor, path: str) -> tuple[Tensor, Tensor]:
        """Return E[z0 | z_t] and E[noise | z_t], (B, D) each: per component, weighted by its responsibility."""
        point = PATHS[path](t).expand(3)
        variance = (point.alpha * self.deviations[:, None]) ** 2 + point.sigma**2  # (B, K, 1)
        away = z_t[:, None] - point.alpha * self.means  # (B, K, D)
        squared = away.square().sum(2, keepdim=True)  # (B, K, 1)
        log_density = -squared / (2 * variance) - z_t.shape[1] / 2 * variance.log()  # (B, K, 1)
        weights = log_density.softmax(dim=1)
        z0 = self.means + point.alpha * self.deviations[:, None] ** 2 / variance * away
        return (weights * z0).sum(1), (weights * point.sigma / variance * away).sum(1)

    def model(self, path: str, prediction: str = "v") -> DenoiserModel:
        """Return the exact network of this prediction."""

        def output(z_t: Tensor, t: Tensor) -> Tensor:
            return training_target(prediction, *self.estimates(z_t, t, path), PATHS[path](t))

        return DenoiserModel(build_process(path, prediction), output)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw data (count, D)."""
        which = torch.randint(len(self.means), (count,), generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[which] + self.deviations[which, None] * noise


def mixture() -> Mixture:
    """Return three components in two dimensions, smooth enough that a few dozen steps show a solver's order."""
    means = torch.tensor([[1.0, 0.5], [-0.8, 0.9], [0.1, -1.2]], dtype=torch.float64)
    return Mixture(means, torch.tensor([0.5, 0.4, 0.6], dtype=torch.float64))


def gaussian(dimensions: int = 1) -> Mixture:
    """Return one Gaussian, mean 1.5 and deviation 0.4 in each dimension."""
    return Mixture(torch.full((1, dimensions), 1.5, dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64))


def made_up_model(path: str, prediction: str) -> DenoiserModel:
    """Return a smooth function of z and t in place of a network."""
    return DenoiserModel(
        Process(PATHS[path], prediction), lambda z_t, t: torch.sin(3 * z_t) + t.reshape(-1, *(1,) * (z_t.ndim - 1))
    )


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance); mean (D,), covariance (D, D)."""

    mean: Tensor
    covariance: Tensor

    def model(self, path: str) -> DenoiserModel:
        """Return the exact network that predicts v."""

        def output(z_t: Tensor, t: Tensor) -> Tensor:
            point = PATHS[path](t[:1])  # samplers evaluate a batch at one time
            marginal = point.alpha**2 * self.covariance + point.sigma**2 * torch.eye(len(self.mean)).to(z_t)
            whitened = torch.linalg.solve(marginal, (z_t - point.alpha * self.mean).T).T  # (B, D)
            z0 = self.mean + point.alpha * whitened @ self.covariance
            return training_target("v", z0, point.sigma * whitened, PATHS[path](t))

        return DenoiserModel(build_process(path, "v"), output)

    def conditional(self, fill: Tensor, z0: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (F,) and covariance (F, F) of the numbers where ``fill``, bool (D,), given the rest of z0."""
        filled, kept = fill.nonzero()[:, 0], (~fill).nonzero()[:, 0]
        between = self.covariance[filled][:, kept]
        weights = torch.linalg.solve(self.covariance[kept][:, kept], between.T).T
        mean = self.mean[filled] + weights @ (z0 - self.mean)[kept]
        return mean, self.covariance[filled][:, filled] - weights @ between.T
