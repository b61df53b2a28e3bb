"""What the critics say of the trained autoencoder: numbers and pictures of test images. Nothing where there is no critic."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.shards import ShardedArray
from latentline.data.store import to_unit_range
from latentline.figures.grids import alternating_rows, save_grid
from latentline.figures.plots import curve_panels, shares
from stages.train_autoencoder.auxiliary_losses import Critics
from stages.train_autoencoder.perceptual import PerceptualDistance

_BATCH = 100
_FEW = 1000  # images that the perceptual distance looks at: it costs many times what decoding them does
_COLUMNS = 16
_ROWS = 2
_LOSS_TERMS = {
    "loss": ["discriminator_loss", "generator_loss"],
    "adaptive weight": ["adaptive_weight"],
    "mean logit": ["logits_real", "logits_fake"],
}


@torch.no_grad()
def perceptual_scores(network: PerceptualDistance | None, images: ShardedArray, decoded: Tensor) -> dict[str, float]:
    """Mean perceptual distance of the first test images to their reconstructions, and, as its floor, to other images.

    Args:
        network: measures it; without one there are no scores.
        images: uint8 (N, C, H, W).
        decoded: their reconstructions, uint8 (N, C, H, W).
    """
    if network is None:
        return {}
    x, y = images[torch.arange(min(_FEW, len(decoded)))], decoded[:_FEW]
    return {
        "lpips": perceptual_distance(network, x, y),
        "lpips_of_other_images": perceptual_distance(network, x, x.roll(1, dims=0)),
    }


@torch.no_grad()
def perceptual_distance(network: PerceptualDistance, x: Tensor, y: Tensor) -> float:
    """Mean distance of uint8 images (N, C, H, W), pair by pair."""
    device = network.get_buffer("mean").device
    pairs = zip(x.split(_BATCH), y.split(_BATCH), strict=True)
    return float(
        torch.cat([network(to_unit_range(a).to(device), to_unit_range(b).to(device)) for a, b in pairs]).mean()
    )


@torch.no_grad()
def draw_critics(
    folder: Path, critics: Critics, images: ShardedArray, decoded: Tensor, history: list[dict[str, float]]
) -> None:
    """Curves of the adversarial terms, and the discriminator's confidence that test images and reconstructions are real.

    Args:
        folder: of the stage's figures.
        critics: of the training.
        images: uint8 (N, C, H, W).
        decoded: their reconstructions, uint8 (N, C, H, W).
        history: one row per epoch.
    """
    if critics.perceptual:
        curve_panels(folder / "perceptual.png", history, "epoch", {"perceptual distance": ["perceptual"]})
    if critics.discriminator is None:
        return
    curve_panels(folder / "adversarial.png", history, "epoch", _LOSS_TERMS)
    network = critics.discriminator.network.eval()
    real = torch.cat([_confidence(network, part) for part in images.split(_BATCH)])  # (N, h, w)
    fake = torch.cat([_confidence(network, part) for part in decoded.split(_BATCH)])
    by_set = {"test images": real.mean(dim=(1, 2)), "reconstructions": fake.mean(dim=(1, 2))}
    shares(folder / "confidence.png", by_set, "discriminator's confidence that an image is real")
    count = min(_ROWS * _COLUMNS, len(decoded))
    shown = images[torch.arange(count)]
    rows = [shown, _as_images(real[:count], shown), decoded[:count], _as_images(fake[:count], shown)]
    columns = min(_COLUMNS, count)
    save_grid(folder / "patches.png", alternating_rows(rows, columns), columns, scale=2)


def _confidence(network: nn.Module, images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) -> sigmoid of the logits, (B, h, w), on the CPU. A probability with the non-saturating loss; with hinge, a scale."""
    device = next(network.parameters()).device
    return network(to_unit_range(images).to(device)).sigmoid()[:, 0].cpu()


def _as_images(confidence: Tensor, images: Tensor) -> Tensor:
    """(B, h, w) in [0, 1] -> grey uint8 of the shape of ``images`` (B, C, H, W): black = reconstructed, white = real."""
    enlarged = F.interpolate(confidence[:, None], size=images.shape[-2:])  # (B, 1, H, W)
    return enlarged.mul(255).round().to(torch.uint8).expand_as(images)
