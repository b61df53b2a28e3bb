"""How close decoded images are to the originals."""

import math

from torch import Tensor

_PERFECT_MSE = 1e-10


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB from the mean squared error of images in [0, 1]; at most 100, so that a perfect copy has a number."""
    return -10 * math.log10(max(mse, _PERFECT_MSE))


def ssim(images: Tensor, originals: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004) of images (N, C, H, W) in [0, 1]; the window shrinks for small images."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # seconds to import

    side = min(11, *images.shape[-2:])
    window = side if side % 2 else side - 1
    # torchmetrics takes either a Gaussian (whose width follows sigma, too wide for tiny images) or a uniform window
    value = structural_similarity_index_measure(images, originals, gaussian_kernel=window == 11, kernel_size=window, data_range=1.0)
    return float(value)  # type: ignore[arg-type]
