"""Distances between two sets of feature vectors: Frechet and kernel. Tested against torchmetrics.

Features stay on the CPU and go to the device in portions, where they are float64.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CPU = torch.device("cpu")
_PORTION_BYTES = 256 << 20  # of float64 numbers that are on the device at once, of each set or of each product


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) and covariance (D, D) of a set of features, float64 on the CPU."""

    mean: Tensor
    covariance: Tensor


def float64_device(device: torch.device) -> torch.device:
    """Return ``device``, or the CPU where the device has no float64."""
    return CPU if device.type == "mps" else device


def fit_gaussian(features: Tensor, device: torch.device = CPU) -> Gaussian:
    """Return the mean and the unbiased covariance of ``features`` (N, D), N > 1, in two passes over portions."""
    device, rows = float64_device(device), _rows(features.shape[1])
    mean = features.new_zeros(features.shape[1], dtype=torch.float64, device=device)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=device)
    for portion in features.split(rows):
        mean += portion.to(device).double().sum(dim=0) / len(features)
    for portion in features.split(rows):
        centred = portion.to(device).double().sub_(mean)
        covariance.addmm_(centred.T, centred)
    return Gaussian(mean.cpu(), covariance.div_(len(features) - 1).cpu())


def frechet_distance(features: Tensor | Gaussian, reference: Tensor | Gaussian) -> float:
    """Return the squared Frechet distance of Gaussians fitted to both sets (Heusel et al., arXiv 1706.08500, eq. 6).

    Args:
        features: (N, D), or the Gaussian fitted to them.
        reference: (M, D), or the Gaussian fitted to them.

    Returns:
        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), computed in float64.
    """
    a, b = (fit_gaussian(x) if isinstance(x, Tensor) else x for x in (features, reference))
    # The eigenvalues of C1 C2 are those of a similar positive semi-definite matrix: real and >= 0 up to rounding.
    eigenvalues = torch.linalg.eigvals(a.covariance @ b.covariance).real.clamp(min=0)
    mean_term = (a.mean - b.mean).square().sum()
    return float(mean_term + a.covariance.trace() + b.covariance.trace() - 2 * eigenvalues.sqrt().sum())


def kernel_distance(
    features: Tensor,
    reference: Tensor,
    block: int = 2048,
    device: torch.device = CPU,
    within_reference: float | None = None,
) -> float:
    """Return the unbiased squared MMD over all pairs, with the kernel (x.y / D + 1)^3.

    Binkowski et al., arXiv 1801.01401, section 4.

    Args:
        features: (N, D), N > 1.
        reference: (M, D), M > 1.
        block: rows at a time, which bounds memory.
        device: where it is computed.
        within_reference: ``mean_kernel(reference, reference)`` where it is computed already.
    """
    if within_reference is None:
        within_reference = mean_kernel(reference, reference, block, device)
    within = mean_kernel(features, features, block, device)
    return within + within_reference - 2 * mean_kernel(features, reference, block, device)


def mean_kernel(x: Tensor, y: Tensor, block: int = 2048, device: torch.device = CPU) -> float:
    """Return the mean kernel over all pairs; where x is y, over all pairs of different rows."""
    device, total, diagonal, width = float64_device(device), 0.0, 0.0, x.shape[1]
    for columns in y.split(_rows(max(block, width))):
        others = columns.to(device).double()
        for rows in x.split(block):
            total += float((rows.to(device).double() @ others.T).div_(width).add_(1).pow_(3).sum())
        if x is y:
            diagonal += float((others.square().sum(dim=1) / width + 1).pow(3).sum())
    return (total - diagonal) / (len(x) * (len(y) - (x is y)))


def _rows(width: int) -> int:
    """Return how many rows of ``width`` float64 numbers a portion has."""
    return max(1, _PORTION_BYTES // (8 * width))
