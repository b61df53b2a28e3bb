"""Validation loss of a denoiser, over a split and by time."""

import torch
from torch import Tensor

from latentline.core.seeds import generator
from latentline.denoisers.load import Denoiser
from latentline.diffusion.objective import denoising_loss, sample_times
from latentline.runtime.compute import channels_last
from stages.train_denoiser.latents import Latents, rows_without_gradients

_STAGE = "train_denoiser"
_BUCKETS = 10


@torch.no_grad()
def evaluate(denoiser: Denoiser, split: Latents, seed: int) -> tuple[float, dict[str, float]]:
    """Return the mean unweighted loss over a split, and the same by time.

    Conditions are the true ones, times are uniform, and the noise is the same in every call.

    Returns:
        The mean, and the mean in each slice of t that a time falls into, by the middle of the slice.
    """
    t = sample_times(len(split), "uniform", generator(seed, _STAGE, "validation"))
    denoiser.network.eval()
    values = []
    size = rows_without_gradients(denoiser.latent_shape)
    for start in range(0, len(split), size):
        rows = slice(start, start + size)
        z0 = channels_last(split.z0(rows))
        noise = torch.randn(z0.shape, generator=generator(seed, _STAGE, "validation", start)).to(z0)
        batch = (z0, split.condition(rows), t[rows].to(z0), noise)
        values.append(denoising_loss(denoiser.network, denoiser.process, *batch).cpu())
    losses = torch.cat(values)  # (N,)
    means = enumerate(bucket_means(losses, t, _BUCKETS))
    return float(losses.mean()), {f"{(index + 0.5) / _BUCKETS:.2f}": mean for index, mean in means if mean is not None}


def bucket_means(values: Tensor, t: Tensor, buckets: int) -> list[float | None]:
    """Return the mean of ``values`` (N,) within each of ``buckets`` equal slices of t (N,) in [0, 1].

    It is None for a slice that no t falls into.
    """
    index = (t * buckets).long().clamp(max=buckets - 1)  # (N,)
    sums = values.new_zeros(buckets).index_add_(0, index, values)
    counts = values.new_zeros(buckets).index_add_(0, index, values.new_ones(len(values)))
    return [total / count if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]
