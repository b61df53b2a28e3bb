"""Stage ``train_autoencoder``: learn pixels <-> latents, and report on the test images how well."""

import torch

from latentline.autoencoders.build import build_codec
from latentline.core.files import write_metrics
from latentline.core.load_params import load
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import AUTOENCODER, DISCRIMINATOR, FIGURES, METRICS, PREPARED
from latentline.core.seeds import derive_seed
from latentline.core.stage import run_stage
from latentline.data.store import read_card, read_split
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import place, set_up
from latentline.runtime.memory import require_trainable
from latentline.runtime.parallel import join
from stages.train_autoencoder.auxiliary_losses import build_perceptual, save_discriminator
from stages.train_autoencoder.auxiliary_report import draw_critics, perceptual_scores
from stages.train_autoencoder.diffae_report import draw_noise, noise_scores
from stages.train_autoencoder.diffae_training import train_parts
from stages.train_autoencoder.init_from import begin_with
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.report import draw_figures, score, warn_of_silence
from stages.train_autoencoder.train import STAGE, Setting, train_codec


def main() -> None:
    """Read section ``autoencoder`` and data/prepared; write checkpoints/{autoencoder,discriminator}, fig/ and metrics/ of autoencoder."""
    knobs, seed, compute = load("autoencoder", AutoencoderParams)
    device, ranks = join(set_up(compute.device, compute.threads), compute.devices, compute.nodes, compute.strategy)
    card = read_card(PREPARED)
    constructor = {**knobs.constructor(), "image_shape": list(card.shape)}
    require_trainable(lambda: build_codec(knobs.name, **constructor), device, "autoencoder", knobs.constructor(), ranks)
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    codec = place(build_codec(knobs.name, **constructor), device)
    trained_on = dict(card.sha256)
    if knobs.init_from != NO_WEIGHTS:
        trained_on["init_from"] = begin_with(codec, knobs, constructor)
    perceptual = build_perceptual("autoencoder.report_lpips: true", device) if knobs.report_lpips or knobs.perceptual_weight else None
    test = read_split(PREPARED, "test")
    untrained = score(codec.eval(), test, device, seed)[0]

    setting = Setting(knobs, card, trained_on, device, seed, compute, ranks)
    parts = train_parts(codec, setting)
    saving = setting.saving("codec")
    trained = train_codec(codec, setting, saving, knobs.epochs, preview_every=knobs.figures.preview_every_epochs)
    ranks.dismiss()
    used = trained.codec
    save_checkpoint(AUTOENCODER, kind="autoencoder", name=knobs.name, constructor=constructor, trained_on=trained_on, tensors=used.state_dict())
    save_discriminator(DISCRIMINATOR, trained.critics, card.shape[0], knobs.adversarial, card.sha256)
    scores, coded = score(used, test, device, seed)
    warn_of_silence(scores)
    seen = {**perceptual_scores(perceptual, test.images, coded.decoded), **noise_scores(used, test, coded, perceptual, device)}
    parameters = sum(parameter.numel() for parameter in used.parameters())
    write_metrics(METRICS / "autoencoder.json", {**scores, **seen, "parameters": parameters, "untrained": untrained})

    histories = {"loss": trained.history, **{f"loss_{part.name}": part.history for part in parts}}
    draw_figures(used, test, coded, histories, knobs.figures, device, seed, previews=saving.file.folder)
    draw_critics(FIGURES / "autoencoder", trained.critics, test.images, coded.decoded, trained.history)
    draw_noise(FIGURES / "autoencoder", used, test, coded, knobs.figures, device)
    for finished in (saving, *(part.saving for part in parts)):
        finished.file.finish()


if __name__ == "__main__":
    run_stage("train_autoencoder", main)
