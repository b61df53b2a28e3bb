"""Scores from nearest neighbours in feature space. Tested against the package ``prdc``."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NeighbourScores:
    """Precision, recall (Kynkaanniemi et al., arXiv 1904.06991), density, coverage (Naeem et al., arXiv 2002.09797)."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_scores(features: Tensor, reference: Tensor, k: int) -> NeighbourScores:
    """Compare generated ``features`` (N, D) with real ``reference`` (M, D); radii reach to the k-th nearest neighbour.

    Memory grows with N * M; a few thousand rows each are enough.
    """
    distances = torch.cdist(reference, features)  # (M, N)
    reference_radii = _radii(reference, k)  # (M,)
    inside = distances <= reference_radii[:, None]  # (M, N): whether the sample is in the ball of the real image
    return NeighbourScores(
        precision=float(inside.any(dim=0).float().mean()),
        recall=float((distances <= _radii(features, k)[None, :]).any(dim=1).float().mean()),
        density=float(inside.float().sum(dim=0).mean() / k),
        coverage=float((distances.min(dim=1).values <= reference_radii).float().mean()),
    )


def nearest(queries: Tensor, reference: Tensor, block: int = 1024) -> tuple[Tensor, Tensor]:
    """Return distance (N,) and index (N,) of the row of ``reference`` (M, D) nearest to each of ``queries`` (N, D)."""
    indices = torch.cat([torch.cdist(rows, reference).argmin(dim=1) for rows in queries.split(block)])  # (N,)
    # cdist multiplies matrices: fast, but small distances are lost to rounding. So the nearest are measured again.
    return (queries - reference[indices]).norm(dim=1), indices


def _radii(points: Tensor, k: int) -> Tensor:
    """Return the distance of each point to its k-th nearest other point: (N,)."""
    return torch.cdist(points, points).kthvalue(k + 1, dim=1).values
