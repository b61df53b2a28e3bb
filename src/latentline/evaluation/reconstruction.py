"""Quality of reconstructions: PSNR, SSIM, active latent units."""

import math

from torch import Tensor

_PERFECT_MSE = 1e-10
_ACTIVE_VARIANCE = 0.01
_PIXELS = 1 << 17  # compared at a time: the windows' intermediate maps are many times larger than the images


def psnr(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB for a mean squared error of images in [0, 1].

    At most 100, so that it is finite for a perfect copy.
    """
    return -10 * math.log10(max(mse, _PERFECT_MSE))


def active_units(means: Tensor) -> list[int]:
    """Count the active latent units of each channel (Burda et al., arXiv 1509.00519).

    The posterior mean of an active unit has a variance above 0.01 over the images; the prior's variance is 1.

    Args:
        means: (N, C, H, W) or (N, D).

    Returns:
        C counts from 0 to H * W, or D counts from 0 to 1.
    """
    variances = means.double().var(dim=0, correction=0)  # (C, ...)
    return (variances > _ACTIVE_VARIANCE).reshape(len(variances), -1).sum(dim=1).tolist()


def ssim(images: Tensor, originals: Tensor) -> float:
    """Return the mean structural similarity of images (N, C, H, W) in [0, 1] (Wang et al., 2004).

    The window is 11 x 11 Gaussian; for smaller images it is uniform, of the largest odd side that fits.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # seconds to import

    side = min(11, *images.shape[-2:])
    window = side if side % 2 else side - 1
    batch = max(1, _PIXELS // images[0].numel())
    total = 0.0
    for ours, theirs in zip(images.split(batch), originals.split(batch), strict=True):
        # the width of torchmetrics' Gaussian window follows sigma and is too large for tiny images
        value = structural_similarity_index_measure(
            ours, theirs, gaussian_kernel=window == 11, kernel_size=window, data_range=1.0, reduction="sum"
        )
        total += float(value)  # type: ignore[arg-type]
    return total / len(images)
