"""How close decoded images are to the originals."""

import math

from torch import Tensor

_PERFECT_MSE = 1e-10
_ACTIVE_VARIANCE = 0.01
_PIXELS = 1 << 17  # of images compared at a time: the windows' intermediate maps are many times larger than the images


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB from the mean squared error of images in [0, 1]; at most 100, so that a perfect copy has a number."""
    return -10 * math.log10(max(mse, _PERFECT_MSE))


def active_units(means: Tensor) -> list[int]:
    """How many latent numbers of each channel say something about the image (Burda et al., arXiv 1509.00519).

    Such a number's posterior mean has a variance above 0.01 over the images, where the prior's variance is 1.

    Args:
        means: (N, C, H, W) or (N, D).

    Returns:
        C counts of at most H * W, or D of at most 1.
    """
    variances = means.double().var(dim=0, correction=0)  # (C, ...)
    return (variances > _ACTIVE_VARIANCE).reshape(len(variances), -1).sum(dim=1).tolist()


def ssim(images: Tensor, originals: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004) of images (N, C, H, W) in [0, 1]; the window shrinks for small images."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # seconds to import

    side = min(11, *images.shape[-2:])
    window = side if side % 2 else side - 1
    batch = max(1, _PIXELS // images[0].numel())
    total = 0.0
    for ours, theirs in zip(images.split(batch), originals.split(batch), strict=True):
        # torchmetrics takes either a Gaussian (whose width follows sigma, too wide for tiny images) or a uniform window
        value = structural_similarity_index_measure(
            ours, theirs, gaussian_kernel=window == 11, kernel_size=window, data_range=1.0, reduction="sum"
        )
        total += float(value)  # type: ignore[arg-type]
    return total / len(images)
