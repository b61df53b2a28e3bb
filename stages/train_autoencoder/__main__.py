"""Stage ``train_autoencoder``: learn pixels <-> latents, and report on the test images how well."""

import torch

from latentline.autoencoders.build import build_autoencoder
from latentline.core.files import write_metrics
from latentline.core.load_params import load
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import AUTOENCODER, DISCRIMINATOR, FIGURES, METRICS, PREPARED
from latentline.core.seeds import derive_seed
from latentline.core.stage import run_stage
from latentline.data.store import read_card, read_split
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compute import set_up, to_device
from latentline.runtime.memory import require_trainable
from latentline.runtime.parallel import init_distributed
from stages.train_autoencoder.auxiliary_losses import build_perceptual, save_discriminator
from stages.train_autoencoder.auxiliary_report import draw_critics, perceptual_scores
from stages.train_autoencoder.diffae_report import noise_fn, noise_scores
from stages.train_autoencoder.diffae_training import train_parts
from stages.train_autoencoder.init_from import begin_with
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.report import draw_figures, score, warn_of_silence
from stages.train_autoencoder.train import STAGE, Setting, train_codec


def main() -> None:
    """Read section ``autoencoder`` and data/prepared; write checkpoints/{autoencoder,discriminator}, fig/ and metrics/ of autoencoder."""
    params, seed, compute = load("autoencoder", AutoencoderParams)
    device, ranks = init_distributed(
        set_up(compute.device, compute.threads), compute.devices, compute.nodes, compute.strategy
    )
    card = read_card(PREPARED)
    constructor = {**params.constructor(), "image_shape": list(card.shape)}
    require_trainable(
        lambda: build_autoencoder(params.name, **constructor), device, "autoencoder", params.constructor(), ranks
    )
    torch.manual_seed(derive_seed(seed, STAGE, "weights"))
    autoencoder = to_device(build_autoencoder(params.name, **constructor), device)
    trained_on = dict(card.sha256)
    if params.init_from != NO_WEIGHTS:
        trained_on["init_from"] = begin_with(autoencoder, params, constructor)
    perceptual = (
        build_perceptual("autoencoder.report_lpips: true", device)
        if params.report_lpips or params.perceptual_weight
        else None
    )
    test = read_split(PREPARED, "test")
    untrained = score(autoencoder.eval(), test, device, seed)[0]

    setting = Setting(params, card, trained_on, device, seed, compute, ranks)
    parts = train_parts(autoencoder, setting)
    saving = setting.saving("codec")
    trained = train_codec(
        autoencoder, setting, saving, params.epochs, preview_every=params.figures.preview_every_epochs
    )
    ranks.exit_non_main()
    used = trained.autoencoder
    save_checkpoint(
        AUTOENCODER,
        kind="autoencoder",
        name=params.name,
        constructor=constructor,
        trained_on=trained_on,
        tensors=used.state_dict(),
    )
    save_discriminator(DISCRIMINATOR, trained.critics, card.shape[0], params.adversarial, card.sha256)
    scores, coded = score(used, test, device, seed)
    warn_of_silence(scores)
    seen = {
        **perceptual_scores(perceptual, test.images, coded.decoded),
        **noise_scores(used, test, coded, perceptual, device),
    }
    parameters = sum(parameter.numel() for parameter in used.parameters())
    write_metrics(METRICS / "autoencoder.json", {**scores, **seen, "parameters": parameters, "untrained": untrained})

    histories = {"loss": trained.history, **{f"loss_{part.name}": part.history for part in parts}}
    draw_figures(used, test, coded, histories, params.figures, device, seed, previews=saving.file.folder)
    draw_critics(FIGURES / "autoencoder", trained.critics, test.images, coded.decoded, trained.history)
    noise_fn(FIGURES / "autoencoder", used, test, coded, params.figures, device)
    for finished in (saving, *(part.saving for part in parts)):
        finished.file.finish()


if __name__ == "__main__":
    run_stage("train_autoencoder", main)
