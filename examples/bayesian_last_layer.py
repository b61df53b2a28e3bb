"""Fit a Bayesian last layer on exported latents with scikit-learn's BayesianRidge.

    dvc repro encode_and_cache_latents     # after setting latents.export: npz in params.yaml
    python examples/bayesian_last_layer.py

There is one regression per class, to +1 for its images and -1 for all others. It is fitted on few labelled images,
where the uncertainty of the weights matters. The printed table compares it with a point estimate of the weights: less
confidence in wrong answers, and higher entropy for latents unlike the training data (noise, in the last line).
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
    """K linear regressions with Gaussian weights; gradients flow through them to the inputs.

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
        """Return class probabilities (B, K) of latents (B, *latent_shape), averaged over the weights.

        A class's probability is that of its regression being above 0, normalised over the classes.
        """
        x = z0.flatten(1)  # (B, F)
        return self._probabilities(x, self.noise + torch.einsum("bf,kfg,bg->bk", x, self.covariance, x))

    def at_the_mean(self, z0: Tensor) -> Tensor:
        """Return the probabilities (B, K) at the mean of the weights: a point estimate."""
        return self._probabilities(z0.flatten(1), self.noise)

    def _probabilities(self, x: Tensor, variance: Tensor) -> Tensor:
        return torch.special.log_ndtr((x @ self.mean.T + self.bias) / variance.sqrt()).softmax(dim=1)


def fit(z0: Tensor, labels: NDArray[np.int64]) -> BayesianLinear:
    """Fit latents (N, *latent_shape) to labels (N,); the data set the strength of the prior (MacKay 1992)."""
    x = z0.flatten(1).numpy()
    classes = range(labels.max() + 1)
    layers = [BayesianRidge().fit(x, np.where(labels == index, 1.0, -1.0)) for index in classes]
    parameters = [(layer.coef_, layer.sigma_, layer.intercept_, 1 / layer.alpha_) for layer in layers]
    return BayesianLinear(*(torch.from_numpy(np.stack(arrays)).float() for arrays in zip(*parameters, strict=True)))


def read(split: str) -> tuple[Tensor, NDArray[np.int64]]:
    """Read standardised latents (N, *latent_shape) and labels (N,)."""
    arrays = np.load(EXPORT / f"{split}.npz")
    return torch.from_numpy(arrays["z0"]), arrays["labels"]


def entropy(p: Tensor) -> Tensor:
    """Return the entropy (B,) of probabilities (B, K), in nats."""
    return torch.special.entr(p).sum(dim=1)


def main() -> None:
    """Fit the layer and print the table."""
    z0, labels = read("train")
    layer = fit(z0[:COUNT], labels[:COUNT])
    test, test_labels = read("test")
    targets = torch.from_numpy(test_labels)
    noise = 3 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    rows: dict[str, list[float]] = {}
    for predict in (layer.at_the_mean, layer):
        p = predict(test)  # (N, K)
        correct = p.argmax(dim=1) == targets  # (N,)
        values = {
            "accuracy": correct.float().mean(),
            "log loss, nats": -p[torch.arange(len(test)), targets].log().mean(),
            "confidence in wrong answers": p.amax(dim=1)[~correct].mean(),
            "confidence in right answers": p.amax(dim=1)[correct].mean(),
            "entropy, test images": entropy(p).mean(),
            "entropy, noise": entropy(predict(noise)).mean(),
        }
        for name, value in values.items():
            rows.setdefault(name, []).append(float(value))
    print(f"{COUNT} labelled images        point estimate  Bayesian")
    for name, (point, bayesian) in rows.items():
        print(f"{name:28} {point:14.3f} {bayesian:9.3f}")


if __name__ == "__main__":
    main()
