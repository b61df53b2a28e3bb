"""Scores from nearest neighbours in feature space. Tested against the package ``prdc``."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NeighbourScores:
    """precision, recall (Kynkaanniemi et al., arXiv 1904.06991), density, coverage (Naeem et al., arXiv 2002.09797)."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_scores(features: Tensor, reference: Tensor, k: int) -> NeighbourScores:
    """Compare generated ``features`` (N, D) with real ``reference`` (M, D), k-th nearest neighbours as radii.

    Needs an (N, M) matrix of distances: a few thousand rows each are enough.
    """
    distances = torch.cdist(reference, features)  # (M, N)
    reference_radii = _radii(reference, k)  # (M,)
    inside = distances <= reference_radii[:, None]  # (M, N): generated sample lies in the ball of the real one
    return NeighbourScores(
        precision=float(inside.any(dim=0).float().mean()),
        recall=float((distances <= _radii(features, k)[None, :]).any(dim=1).float().mean()),
        density=float(inside.float().sum(dim=0).mean() / k),
        coverage=float((distances.min(dim=1).values <= reference_radii).float().mean()),
    )


def nearest(queries: Tensor, reference: Tensor, block: int = 1024) -> tuple[Tensor, Tensor]:
    """Distance to and index of the nearest row of ``reference`` (M, D) for each of ``queries`` (N, D): two (N,)."""
    indices = torch.cat([torch.cdist(rows, reference).argmin(dim=1) for rows in queries.split(block)])  # (N,)
    # cdist multiplies matrices, which is fast but loses small distances to rounding: measure the winners again.
    return (queries - reference[indices]).norm(dim=1), indices


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other point: (N,)."""
    return torch.cdist(points, points).kthvalue(k + 1, dim=1).values
