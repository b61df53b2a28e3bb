"""Stage ``train_autoencoder``: learn pixels <-> latents, and report on the test images how well."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latentline.codecs.base import Codec
from latentline.codecs.build import build_codec
from latentline.common.files import replaced_folder, write_metrics
from latentline.common.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler, mirror_half
from latentline.data.store import ImageSplit, read_card, read_split, to_uint8, to_unit_range
from latentline.evaluation.reconstruction import psnr, ssim
from latentline.figures.grids import alternating_rows, save_grid
from latentline.figures.plots import curves, write_table
from latentline.params.autoencoder import AutoencoderParams
from latentline.params.load import load
from latentline.pipeline.critics import Critics, build_critics, save_discriminator
from latentline.pipeline.critics_report import critic_scores, draw_critics
from latentline.pipeline.paths import AUTOENCODER, DISCRIMINATOR, FIGURES, METRICS, PREPARED
from latentline.pipeline.training import optimizer_of, resident, saving_of
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import place, set_up
from latentline.training.loop import Saving, fit

STAGE = "train_autoencoder"
_BATCH = 500
_COLUMNS = 16  # images per row of the figures
_SHOWN = 64


def main() -> None:
    """Read section ``autoencoder`` and data/prepared; write checkpoints/{autoencoder,discriminator}, fig/ and metrics/ of autoencoder."""
    knobs, seed, compute = load("autoencoder", AutoencoderParams)
    device = set_up(compute.device, compute.threads)
    card = read_card(PREPARED)
    constructor = constructor_of(knobs, card.shape)
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    codec = build_codec(knobs.name, **constructor)
    test = read_split(PREPARED, "test")
    untrained = _score(place(codec.eval(), device), test, device, seed)[0]

    saving = saving_of(STAGE, knobs.model_dump(), {"seed": seed, "data": card.sha256}, compute.save_every_seconds)
    history, critics = _train(codec, knobs, device, seed, saving, mirror=card.horizontal_flip)
    save_checkpoint(AUTOENCODER, kind="autoencoder", name=knobs.name, constructor=constructor, trained_on=card.sha256, tensors=codec.state_dict())
    save_discriminator(DISCRIMINATOR, critics, card.shape[0], knobs.adversarial, card.sha256)
    scores, decoded = _score(codec, test, device, seed)
    parameters = sum(parameter.numel() for parameter in codec.parameters())
    seen = critic_scores(critics, test.images, decoded)
    write_metrics(METRICS / "autoencoder.json", {**scores, **seen, "parameters": parameters, "untrained": untrained})
    _figures(test, decoded, history)
    draw_critics(FIGURES / "autoencoder", critics, test.images, decoded, history)
    saving.file.remove()


def constructor_of(knobs: AutoencoderParams, shape: Sequence[int]) -> dict[str, Any]:
    """Arguments of the codec that ``knobs`` ask for, for images (C, H, W)."""
    return {**knobs.model_dump(exclude={"name", "epochs", "optimizer", "perceptual_weight", "adversarial"}), "image_shape": list(shape)}


def _train(
    codec: Codec, knobs: AutoencoderParams, device: torch.device, seed: int, saving: Saving, *, mirror: bool
) -> tuple[list[dict[str, float]], Critics]:
    images = resident(read_split(PREPARED, "train").images, device)
    val = read_split(PREPARED, "val")
    order = EpochSampler(len(images), knobs.optimizer.batch_size, derive_seed(seed, STAGE, "order"))
    critics = build_critics(codec, images.shape[1], knobs, device, seed, knobs.epochs * order.steps_per_epoch)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = to_unit_range(images[order.rows(step)].to(device))
        if mirror:
            x = mirror_half(x, generator(seed, STAGE, "mirror", step))
        x = x.contiguous(memory_format=torch.channels_last)
        return critics.judge(step, *codec.loss(x, generator(seed, STAGE, "noise", step)), x)

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        return {f"val_{name}": value for name, value in _losses(codec, val, device, seed).items()}

    _, history = fit(
        codec,
        loss,
        epochs=knobs.epochs,
        steps_per_epoch=order.steps_per_epoch,
        optimizer=optimizer_of(knobs.optimizer),
        saving=saving,
        rival=critics.rival,
        on_epoch=validate,
        section="autoencoder",
    )
    return history, critics


@torch.no_grad()
def _losses(codec: Codec, split: ImageSplit, device: torch.device, seed: int) -> dict[str, float]:
    """The loss's terms over a split, with the same noise every time."""
    noise = generator(seed, STAGE, "validation")
    sums: dict[str, float] = {}
    for images, _ in split.batches(_BATCH):
        for name, value in codec.loss(images.to(device), noise)[1].items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(images)
    return {name: total / len(split) for name, total in sums.items()}


@torch.no_grad()
def _score(codec: Codec, test: ImageSplit, device: torch.device, seed: int) -> tuple[dict[str, Any], Tensor]:
    """Metrics of the test split, and its decoded images (uint8)."""
    decoded = torch.cat([to_uint8(codec.decode(codec.encode(images.to(device)))).cpu() for images, _ in test.batches(_BATCH)])
    x, y = test.images.load().float() / 255, decoded.float() / 255
    mse = float((x - y).square().mean())
    terms = _losses(codec, test, device, seed)
    return {"mse": mse, "psnr": psnr(mse), "ssim": ssim(y, x), "kl": terms["kl"], "test_loss": terms["loss"]}, decoded


def _figures(test: ImageSplit, decoded: Tensor, history: list[dict[str, float]]) -> None:
    error = (to_unit_range(test.images.load()) - to_unit_range(decoded)).square().flatten(1).mean(dim=1)  # (N,)
    by_error = error.argsort()
    with replaced_folder(FIGURES / "autoencoder") as folder:
        write_table(folder / "loss.csv", history)
        curves(folder / "loss.png", history, "epoch", ["loss", "val_loss"], "loss", log=True)
        shown = {"reconstructions": torch.arange(min(_SHOWN, len(test))), "worst_reconstructions": by_error[-_SHOWN:]}
        for name, rows in shown.items():
            columns = min(_COLUMNS, len(rows))
            save_grid(folder / f"{name}.png", alternating_rows([test.images[rows], decoded[rows]], columns), columns, scale=2)
