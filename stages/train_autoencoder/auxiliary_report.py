"""Metrics and figures of the auxiliary losses on test images; nothing where there is no auxiliary loss."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentline.core.shards import ShardedArray
from latentline.data.store import to_unit_range
from latentline.figures.grids import GridText, alternating_rows, save_grid
from latentline.figures.plots import curve_panels, shares
from stages.train_autoencoder.auxiliary_losses import AuxiliaryLosses, build_perceptual
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.perceptual import PerceptualDistance

_BATCH = 100
_FEW = 1000  # images of the perceptual metric, since it costs many times what decoding them does
_COLUMNS = 16
_ROWS = 2
_LOSS_TERMS = {
    "loss": {"discriminator_loss": "discriminator", "generator_loss": "generator"},
    "adaptive weight": {"adaptive_weight": "adaptive weight"},
    "mean logit": {"logits_real": "training images", "logits_fake": "reconstructions"},
}


def report_perceptual(params: AutoencoderParams, device: torch.device) -> PerceptualDistance | None:
    """Return the perceptual distance for the metrics, or None if no setting needs it.

    Raises:
        UserError: its weights are not installed.
    """
    if params.report_lpips:
        return build_perceptual("autoencoder.report_lpips (true)", device)
    if params.perceptual_weight:
        return build_perceptual(f"autoencoder.perceptual_weight ({params.perceptual_weight:g})", device)
    return None


@torch.no_grad()
def perceptual_scores(network: PerceptualDistance | None, images: ShardedArray, decoded: Tensor) -> dict[str, float]:
    """Return the mean perceptual distance of the first test images to their reconstructions.

    Its reference is the mean distance to other images.

    Args:
        network: None gives no scores.
        images: uint8 (N, C, H, W).
        decoded: their reconstructions, uint8 (M, C, H, W), of the first M.
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
    """Return the mean distance of uint8 images x and y (N, C, H, W), pair by pair."""
    device = network.get_buffer("mean").device
    pairs = zip(x.split(_BATCH), y.split(_BATCH), strict=True)
    return float(
        torch.cat([network(to_unit_range(a).to(device), to_unit_range(b).to(device)) for a, b in pairs]).mean()
    )


@torch.no_grad()
def draw_auxiliary_losses(
    folder: Path, losses: AuxiliaryLosses, images: ShardedArray, decoded: Tensor, history: list[dict[str, float]]
) -> None:
    """Draw curves of the terms, and the discriminator's confidence in test images and in their reconstructions.

    Args:
        folder: of the stage's figures.
        losses: of the training.
        images: uint8 (N, C, H, W).
        decoded: their reconstructions, uint8 (N, C, H, W).
        history: one row per epoch.
    """
    if losses.perceptual:
        panels = {"perceptual distance": ["perceptual"]}
        curve_panels(folder / "perceptual.png", history, "epoch", panels, title="Perceptual distance in training")
    if losses.discriminator is None:
        return
    curve_panels(folder / "adversarial.png", history, "epoch", _LOSS_TERMS, title="Adversarial training")
    network = losses.discriminator.network.eval()
    real = torch.cat([_confidence(network, batch) for batch in images.split(_BATCH)])  # (N, h, w)
    fake = torch.cat([_confidence(network, batch) for batch in decoded.split(_BATCH)])
    by_set = {"test images": real.mean(dim=(1, 2)), "reconstructions": fake.mean(dim=(1, 2))}
    title = f"The discriminator on {len(decoded)} test images and their reconstructions"
    shares(folder / "confidence.png", by_set, "confidence that an image is real", title=title)
    count = min(_ROWS * _COLUMNS, len(decoded))
    shown = images[torch.arange(count)]
    rows = [shown, _as_images(real[:count], shown), decoded[:count], _as_images(fake[:count], shown)]
    columns = min(_COLUMNS, count)
    note = "Below each image, the discriminator's confidence in its patches: white = real, black = reconstructed."
    names = ["original", "confidence", "reconstruction", "confidence"] * (count // columns)
    text = GridText("The discriminator's confidence, patch by patch", note, names)
    save_grid(folder / "patches.png", alternating_rows(rows, columns), columns, 2, text)


def _confidence(network: nn.Module, images: Tensor) -> Tensor:
    """Return the sigmoid of the logits of uint8 images (B, C, H, W): (B, h, w), on the CPU.

    With the non-saturating loss it is a probability; with hinge only a scale.
    """
    device = next(network.parameters()).device
    return network(to_unit_range(images).to(device)).sigmoid()[:, 0].cpu()


def _as_images(confidence: Tensor, images: Tensor) -> Tensor:
    """Draw (B, h, w) in [0, 1] as grey uint8 of the shape of ``images`` (B, C, H, W): black = reconstructed."""
    enlarged = F.interpolate(confidence[:, None], size=images.shape[-2:])  # (B, 1, H, W)
    return enlarged.mul(255).round().to(torch.uint8).expand_as(images)
