"""PSNR, SSIM and active units equal their definitions and torchmetrics."""

import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio

from latentline.evaluation import reconstruction
from latentline.evaluation.reconstruction import active_units, psnr, ssim


def _pair(size: tuple[int, int], channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    originals = F.interpolate(torch.rand(3, channels, 4, 4), size=size, mode="bilinear")
    return (originals + 0.1 * torch.randn_like(originals)).clamp(0, 1), originals


def _reference_ssim(x: torch.Tensor, y: torch.Tensor, window: torch.Tensor) -> float:
    """Equation 13 of Wang et al. 2004, around every pixel; images are mirrored beyond their edges."""
    channels = x.shape[1]
    margin = window.shape[0] // 2
    x, y = (F.pad(z, (margin,) * 4, mode="reflect") for z in (x, y))
    kernel = window.expand(channels, 1, *window.shape)

    def local(z: torch.Tensor) -> torch.Tensor:
        return F.conv2d(z, kernel, groups=channels)

    mean_x, mean_y = local(x), local(y)
    var_x, var_y, covariance = local(x * x) - mean_x**2, local(y * y) - mean_y**2, local(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    values = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return values.mean().item()


def _gaussian(side: int, sigma: float) -> torch.Tensor:
    line = torch.exp(-((torch.arange(side) - side // 2) ** 2) / (2 * sigma**2))
    return torch.outer(line, line) / line.sum() ** 2


@pytest.mark.parametrize(("size", "channels"), [((28, 28), 1), ((32, 20), 3)])
def test_ssim_is_the_papers_with_its_gaussian_window(size, channels):
    images, originals = _pair(size, channels)
    assert ssim(images, originals) == pytest.approx(_reference_ssim(images, originals, _gaussian(11, 1.5)), abs=1e-3)


@pytest.mark.parametrize("size", [(8, 8), (9, 30), (10, 11)])
def test_ssim_of_tiny_images_uses_the_largest_odd_window_that_fits(size):
    images, originals = _pair(size)
    side = min(size) - 1 + min(size) % 2
    assert ssim(images, originals) == pytest.approx(
        _reference_ssim(images, originals, torch.full((side, side), 1 / side**2)), abs=1e-3
    )


def test_ssim_does_not_depend_on_the_batch(monkeypatch):
    images, originals = _pair((16, 16))
    together = ssim(images, originals)
    monkeypatch.setattr(reconstruction, "_PIXELS", 2 * 16 * 16)
    assert ssim(images, originals) == pytest.approx(together)


def test_ssim_is_1_for_the_original_and_falls_with_noise():
    _, originals = _pair((16, 16))
    assert ssim(originals, originals) == pytest.approx(1)
    values = [ssim(originals + scale * torch.randn_like(originals), originals) for scale in (0.01, 0.1, 0.5)]
    assert values == sorted(values, reverse=True)


def test_a_latent_unit_is_active_when_the_variance_of_its_mean_exceeds_a_hundredth():
    scales = torch.tensor([[1.0, 0.5, 0.2], [0.0, 0.05, 0.0]])  # deviations; 0.05 squared is below a hundredth
    means = torch.randn(2000, 2, 3, 1) * scales[..., None] + 7
    assert active_units(means) == [3, 0]
    assert active_units(torch.randn(2000, 4) * torch.tensor([1.0, 0.0, 0.09, 0.2])) == [1, 0, 0, 1]


def test_psnr_is_torchmetrics():
    images, originals = _pair((16, 16))
    mse = (images - originals).square().mean().item()
    assert psnr(mse) == pytest.approx(peak_signal_noise_ratio(images, originals, data_range=1.0).item(), rel=1e-5)


def test_psnr_of_no_error_is_100_db_and_a_tenth_of_the_error_adds_10_db():
    assert psnr(0.0) == pytest.approx(100)
    assert psnr(1e-3) - psnr(1e-2) == pytest.approx(10)
