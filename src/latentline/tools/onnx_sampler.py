"""A deterministic sampler as a table of numbers, which any program can follow."""

from typing import Any

import torch
from torch import Tensor

from latentline.diffusion.process import DenoiserModel, Process
from latentline.diffusion.steps import Sampler


def sampler_table(sampler: Sampler, process: Process, times: Tensor) -> dict[str, Any]:
    """Return the weights with which ``sampler`` combines the noise and the network's outputs.

    Every state of such a sampler is linear in the noise that it starts from and the earlier outputs.
    Therefore the sampler itself runs here on basis vectors: on e_0 instead of noise, with e_k as the k-th output. The
    states at which it evaluates the network are then its weights.

    Args:
        sampler: without noise of its own.
        process: path and prediction of the network.
        times: of the grid, (K + 1,).

    Returns:
        ``evaluations``: the t of each, and the weights of noise and earlier outputs in its state; ``result``: the
        weights of noise and all outputs in z0.
    """
    size = 1 + 2 * len(times)  # no sampler has more than two evaluations per time
    evaluations: list[dict[str, Any]] = []

    def output(z_t: Tensor, t: Tensor) -> Tensor:
        evaluations.append({"t": float(t[0]), "state": _weights(z_t, len(evaluations) + 1)})
        return _basis_vector(len(evaluations), size)

    z0 = sampler(DenoiserModel(process, output), _basis_vector(0, size), times)
    return {"evaluations": evaluations, "result": _weights(z0, len(evaluations) + 1)}


def _basis_vector(index: int, size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)[index][None]  # (1, size)


def _weights(state: Tensor, count: int) -> list[float]:
    weights: list[float] = state[0, :count].tolist()
    return weights
