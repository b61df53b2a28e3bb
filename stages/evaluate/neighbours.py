"""Scores from nearest neighbours in feature space. Tested against the package ``prdc``.

Features stay on the CPU and go to the device in portions. On a device other than the CPU they are float64, since
products in lower precision would lose small distances; on the CPU they are as they come.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.evaluate.distances import CPU, float64_device

_BLOCK_BYTES = 256 << 20  # of a matrix of distances
_REFERENCE_ROWS = 1 << 16  # on the device at once


@dataclass(frozen=True)
class NeighbourScores:
    """Precision, recall (Kynkaanniemi et al., arXiv 1904.06991), density, coverage (Naeem et al., arXiv 2002.09797)."""

    precision: float
    recall: float
    density: float
    coverage: float


def neighbour_scores(
    features: Tensor,
    reference: Tensor,
    k: int,
    device: torch.device = CPU,
    reference_radii: Tensor | None = None,
) -> NeighbourScores:
    """Compare generated features with real ones; radii reach to the k-th nearest neighbour.

    Time grows with N * M and memory with N + M.

    Args:
        features: (N, D), N > k.
        reference: (M, D), M > k.
        k: number of the neighbour.
        device: where it is computed.
        reference_radii: ``radii(reference, k)`` where they are computed already.
    """
    feature_radii = radii(features, k, device)  # (N,)
    if reference_radii is None:
        reference_radii = radii(reference, k, device)  # (M,)
    contained = torch.zeros(len(features), dtype=torch.int64)  # in how many balls of real images each sample is
    recalled = covered = 0
    for start, distances in _distances(reference, features, device):  # (m, N)
        own = reference_radii[start : start + len(distances)].to(distances)  # (m,)
        contained += (distances <= own[:, None]).sum(dim=0).cpu()
        recalled += int((distances <= feature_radii.to(distances)).any(dim=1).sum())
        covered += int((distances.min(dim=1).values <= own).sum())
    return NeighbourScores(
        precision=float((contained > 0).float().mean()),
        recall=recalled / len(reference),
        density=float(contained.float().mean() / k),
        coverage=covered / len(reference),
    )


def nearest(queries: Tensor, reference: Tensor, block: int = 1024, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """Return distance (N,) and index (N,) of the row of ``reference`` (M, D) nearest to each of ``queries`` (N, D).

    Args:
        queries: (N, D).
        reference: (M, D).
        block: queries at a time, which bounds memory.
        device: where it is computed.
    """
    least = queries.new_full((len(queries),), torch.inf, dtype=torch.float64)
    indices = torch.zeros(len(queries), dtype=torch.int64)
    for first in range(0, len(reference), _REFERENCE_ROWS):
        others = _on(device, reference[first : first + _REFERENCE_ROWS])
        for start in range(0, len(queries), block):
            rows = slice(start, start + block)
            distances = torch.cdist(_on(device, queries[rows]), others)  # (B, m)
            found = distances.argmin(dim=1, keepdim=True)
            values = distances.gather(1, found).squeeze(1).double().cpu()
            indices[rows] = torch.where(values < least[rows], found.squeeze(1).cpu() + first, indices[rows])
            least[rows] = values.minimum(least[rows])
    # cdist multiplies matrices: fast, but small distances are lost to rounding. So the nearest are measured again.
    return (queries - reference[indices]).norm(dim=1), indices


def radii(points: Tensor, k: int, device: torch.device = CPU) -> Tensor:
    """Return the distance of each of ``points`` (N, D) to its k-th nearest other point: (N,), on the CPU."""
    # topk, since kthvalue has no deterministic kernel on GPUs.
    found = (distances.topk(k + 1, dim=1, largest=False).values for _, distances in _distances(points, points, device))
    blocks = [nearest[:, -1].cpu() for nearest in found]
    return torch.cat(blocks)


def _distances(rows: Tensor, columns: Tensor, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Yield the first row and the distances (m, N) of blocks of ``rows`` (M, D) to all ``columns`` (N, D)."""
    others = _on(device, columns)
    block = max(1, _BLOCK_BYTES // (others.element_size() * len(others)))
    for start in range(0, len(rows), block):
        yield start, torch.cdist(_on(device, rows[start : start + block]), others)


def _on(device: torch.device, features: Tensor) -> Tensor:
    device = float64_device(device)
    return features if device.type == "cpu" else features.to(device).double()
