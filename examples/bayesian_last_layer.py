"""A Bayesian last layer on exported latents, by scikit-learn's BayesianRidge: one regression per class, of +1 for its images and -1 for others.

    dvc repro encode_and_cache_latents     # after setting latents.export: npz in params.yaml
    python examples/bayesian_last_layer.py

Fits few labelled images, where not knowing matters, and prints what the uncertainty of the weights is good for: less trust in wrong answers,
and doubt about latents that look like nothing it has seen (noise, in the last line).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import BayesianRidge
from torch import Tensor

EXPORT = Path("encoded_img/export")
COUNT = 1000  # labelled images


class BayesianLinear:
    """K linear regressions whose weights are Gaussian, as functions through which gradients flow.

    Args:
        mean: (K, F) of the weights.
        covariance: (K, F, F) of the weights.
        bias: (K,).
        noise: (K,), variance of a label that the weights do not explain.
    """

    def __init__(self, mean: Tensor, covariance: Tensor, bias: Tensor, noise: Tensor) -> None:
        self.mean = mean
        self.covariance = covariance
        self.bias = bias
        self.noise = noise

    def __call__(self, z0: Tensor) -> Tensor:
        """Latents (B, *latent_shape) -> probabilities (B, K), over all weights: how likely each class's regression is above 0, normalised."""
        x = z0.flatten(1)  # (B, F)
        return self._probabilities(x, self.noise + torch.einsum("bf,kfg,bg->bk", x, self.covariance, x))

    def at_the_mean(self, z0: Tensor) -> Tensor:
        """The same, as if the weights were known: what a point estimate says."""
        return self._probabilities(z0.flatten(1), self.noise)

    def _probabilities(self, x: Tensor, variance: Tensor) -> Tensor:
        return torch.special.log_ndtr((x @ self.mean.T + self.bias) / variance.sqrt()).softmax(dim=1)


def fit(z0: Tensor, labels: NDArray[np.int64]) -> BayesianLinear:
    """Regress latents (N, *latent_shape) with labels (N,); the data decide how strong the prior is (MacKay 1992)."""
    x = z0.flatten(1).numpy()
    layers = [BayesianRidge().fit(x, np.where(labels == kind, 1.0, -1.0)) for kind in range(labels.max() + 1)]
    mean, covariance, bias, noise = zip(*((layer.coef_, layer.sigma_, layer.intercept_, 1 / layer.alpha_) for layer in layers), strict=True)
    return BayesianLinear(*(torch.from_numpy(np.stack(part)).float() for part in (mean, covariance, bias, noise)))


def read(split: str) -> tuple[Tensor, NDArray[np.int64]]:
    """Standardised latents (N, *latent_shape) and labels (N,)."""
    arrays = np.load(EXPORT / f"{split}.npz")
    return torch.from_numpy(arrays["z0"]), arrays["labels"]


def entropy(p: Tensor) -> Tensor:
    """Of probabilities (B, K), in nats: (B,)."""
    return torch.special.entr(p).sum(dim=1)


def main() -> None:
    """Fit, and print a table."""
    z0, known = read("train")
    layer = fit(z0[:COUNT], known[:COUNT])
    test, known = read("test")
    labels = torch.from_numpy(known)
    noise = 3 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    print(f"{COUNT} labelled images        weights known   Bayesian")
    columns = (layer.at_the_mean, layer)
    correct = [look(test).argmax(dim=1) == labels for look in columns]  # (N,) bool each
    rows = {
        "accuracy": [float(right.float().mean()) for right in correct],
        "log loss, nats": [-float(look(test)[torch.arange(len(test)), labels].log().mean()) for look in columns],
        "trust in wrong answers": [float(look(test).amax(dim=1)[~right].mean()) for look, right in zip(columns, correct, strict=True)],
        "trust in right answers": [float(look(test).amax(dim=1)[right].mean()) for look, right in zip(columns, correct, strict=True)],
        "entropy, test images": [float(entropy(look(test)).mean()) for look in columns],
        "entropy, noise": [float(entropy(look(noise)).mean()) for look in columns],
    }
    for name, (point, bayes) in rows.items():
        print(f"{name:28} {point:13.3f} {bayes:10.3f}")


if __name__ == "__main__":
    main()
