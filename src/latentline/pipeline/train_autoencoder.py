"""Stage ``train_autoencoder``: learn pixels <-> latents, and report on the test images how well."""

import math
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from latentline.codecs.base import Codec
from latentline.codecs.build import build_codec
from latentline.common.files import write_metrics
from latentline.common.seeds import derive_seed, generator
from latentline.data.batches import EpochSampler, mirror_half
from latentline.data.store import read_card, read_split, to_unit_range
from latentline.params.autoencoder import AutoencoderParams
from latentline.params.load import load
from latentline.pipeline.autoencoder_report import draw_figures, losses, score, warn_of_silence
from latentline.pipeline.critics import Critics, build_critics, no_critics, save_discriminator
from latentline.pipeline.critics_report import critic_scores, draw_critics
from latentline.pipeline.paths import AUTOENCODER, DISCRIMINATOR, FIGURES, METRICS, PREPARED
from latentline.pipeline.pretrained import load_pretrained
from latentline.pipeline.training import optimizer_of, resident, saving_of
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import fast_layout, place, set_up
from latentline.training.loop import Saving, fit

STAGE = "train_autoencoder"


def main() -> None:
    """Read section ``autoencoder`` and data/prepared; write checkpoints/{autoencoder,discriminator}, fig/ and metrics/ of autoencoder."""
    knobs, seed, compute = load("autoencoder", AutoencoderParams)
    device = set_up(compute.device, compute.threads)
    card = read_card(PREPARED)
    constructor = {**knobs.constructor(), "image_shape": list(card.shape)}
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    codec = build_codec(knobs.name, **constructor)
    trained_on = dict(card.sha256)
    if knobs.init_from is not None:
        trained_on["init_from"] = load_pretrained(codec, constructor, Path(knobs.init_from))
    test = read_split(PREPARED, "test")
    untrained = score(place(codec.eval(), device), test, device, seed)[0]

    saving = saving_of(STAGE, knobs.model_dump(exclude={"figures"}), {"seed": seed, "data": trained_on}, compute)
    used, history, critics = _train(codec, knobs, device, seed, saving, mirror=card.horizontal_flip)
    save_checkpoint(AUTOENCODER, kind="autoencoder", name=knobs.name, constructor=constructor, trained_on=trained_on, tensors=used.state_dict())
    save_discriminator(DISCRIMINATOR, critics, card.shape[0], knobs.adversarial, card.sha256)
    scores, coded = score(used, test, device, seed)
    warn_of_silence(scores)
    seen = critic_scores(critics, test.images, coded.decoded)
    parameters = sum(parameter.numel() for parameter in used.parameters())
    write_metrics(METRICS / "autoencoder.json", {**scores, **seen, "parameters": parameters, "untrained": untrained})
    draw_figures(used, test, coded, history, knobs.figures, device, seed)
    draw_critics(FIGURES / "autoencoder", critics, test.images, coded.decoded, history)
    saving.file.remove()


def _train(
    codec: Codec, knobs: AutoencoderParams, device: torch.device, seed: int, saving: Saving, *, mirror: bool
) -> tuple[Codec, list[dict[str, float]], Critics]:
    """The codec to be used, one row per epoch (where there is nothing to train, one of epoch 0), and who else looked on."""
    val = read_split(PREPARED, "val")

    def validate(model: nn.Module, epoch: int) -> dict[str, float]:
        return {f"val_{name}": value for name, value in losses(cast(Codec, model), val, device, seed).items()}

    if knobs.epochs == 0 or not list(codec.parameters()):
        return codec, [{"epoch": 0, "loss": math.nan, **validate(codec, 0)}], no_critics()
    if knobs.freeze_encoder:
        codec.get_submodule("encoder").requires_grad_(False)
    images = resident(read_split(PREPARED, "train").images, device)
    order = EpochSampler(len(images), knobs.optimizer.batch_size, derive_seed(seed, STAGE, "order"))
    critics = build_critics(codec, images.shape[1], knobs, device, seed, knobs.epochs * order.steps_per_epoch)

    def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = to_unit_range(images[order.rows(step)].to(device))
        if mirror:
            x = mirror_half(x, generator(seed, STAGE, "mirror", step))
        x = fast_layout(x)
        return critics.judge(step, *codec.loss(x, generator(seed, STAGE, "noise", step), step), x)

    used, history = fit(
        codec,
        loss,
        epochs=knobs.epochs,
        steps_per_epoch=order.steps_per_epoch,
        optimizer=optimizer_of(knobs.optimizer),
        saving=saving,
        ema_decay=knobs.ema_decay,
        rival=critics.rival,
        on_epoch=validate,
        section="autoencoder",
    )
    return cast(Codec, used), history, critics
