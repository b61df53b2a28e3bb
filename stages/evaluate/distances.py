"""Distances between two sets of feature vectors: Frechet and kernel. Tested against torchmetrics."""

import torch
from torch import Tensor


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Return the squared Frechet distance of Gaussians fitted to both sets (Heusel et al., arXiv 1706.08500, eq. 6).

    Args:
        features: (N, D).
        reference: (M, D).

    Returns:
        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), computed in float64.
    """
    a, b = features.double(), reference.double()
    covariance_a, covariance_b = torch.cov(a.T), torch.cov(b.T)
    # The eigenvalues of C1 C2 are those of a similar positive semi-definite matrix: real and >= 0 up to rounding.
    eigenvalues = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp(min=0)
    mean_term = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return float(mean_term + covariance_a.trace() + covariance_b.trace() - 2 * eigenvalues.sqrt().sum())


def kernel_distance(features: Tensor, reference: Tensor, block: int = 2048) -> float:
    """Return the unbiased squared MMD over all pairs, with the kernel (x.y / D + 1)^3.

    Binkowski et al., arXiv 1801.01401, section 4.

    Args:
        features: (N, D), N > 1.
        reference: (M, D), M > 1.
        block: rows at a time, which bounds memory.
    """
    return (
        _mean_kernel(features, features, block)
        + _mean_kernel(reference, reference, block)
        - 2 * _mean_kernel(features, reference, block)
    )


def _mean_kernel(x: Tensor, y: Tensor, block: int) -> float:
    """Return the mean kernel over all pairs; where x is y, over all pairs of different rows."""
    total = 0.0
    for rows in x.split(block):
        total += float((rows.double() @ y.double().T / x.shape[1] + 1).pow(3).sum())
    if x is not y:
        return total / (len(x) * len(y))
    diagonal = float((x.double().square().sum(dim=1) / x.shape[1] + 1).pow(3).sum())
    return (total - diagonal) / (len(x) * (len(x) - 1))
