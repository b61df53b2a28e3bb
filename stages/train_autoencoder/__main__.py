"""Stage ``train_autoencoder``: train the autoencoder, pixels <-> latents, and report on test images."""

from functools import partial

from latentline.core.files import write_metrics
from latentline.core.load_params import load
from latentline.core.paths import AUTOENCODER, DISCRIMINATOR, FIGURES, METRICS, PREPARED
from latentline.core.stage import run_stage
from latentline.data.store import read_card, read_split
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compile import require_compiler
from latentline.runtime.start import start
from stages.train_autoencoder.auxiliary_losses import save_discriminator
from stages.train_autoencoder.auxiliary_report import draw_auxiliary_losses, perceptual_scores, report_perceptual
from stages.train_autoencoder.diffae_report import draw_noise, noise_scores
from stages.train_autoencoder.diffae_training import train_components
from stages.train_autoencoder.params import AutoencoderParams
from stages.train_autoencoder.report import draw_figures, draw_preview, score, warn_inactive_channels
from stages.train_autoencoder.train import TrainingContext, build_initial, constructor_of, train_autoencoder


def main() -> None:
    """Read data/prepared; write the checkpoints, metrics and figures of the autoencoder and its discriminator."""
    params, seed, compute = load("autoencoder", AutoencoderParams)
    device, ranks = start(compute, compute.strategy)
    require_compiler(compute.compile, device)
    card = read_card(PREPARED)
    autoencoder, trained_on = build_initial(
        params, card, device, seed, ranks, keeps_activations=compute.keeps_activations
    )
    perceptual = report_perceptual(params, device)
    test = read_split(PREPARED, "test")
    untrained, _ = score(autoencoder.eval(), test, device, seed)

    context = TrainingContext(params, card, trained_on, device, seed, compute, ranks)
    components = train_components(autoencoder, context)
    saving = context.saving("autoencoder")
    previews = saving.file.folder  # beside the running state, so that a restart has the earlier ones
    preview = partial(draw_preview, previews, params.figures, device)
    result = train_autoencoder(autoencoder, context, saving, params.epochs, preview)
    ranks.exit_non_main()

    trained = result.autoencoder
    save_checkpoint(
        AUTOENCODER,
        kind="autoencoder",
        name=params.name,
        constructor=constructor_of(params, card),
        trained_on=trained_on,
        tensors=trained.state_dict(),
        settings={"precision": params.optimizer.precision},
    )
    save_discriminator(DISCRIMINATOR, result.losses, card.shape[0], params.adversarial, card.sha256)

    scores, reconstructions = score(trained, test, device, seed)
    warn_inactive_channels(scores)
    scores |= perceptual_scores(perceptual, test.images, reconstructions.decoded)
    scores |= noise_scores(trained, test, reconstructions, perceptual, device)
    scores |= {"parameters": sum(parameter.numel() for parameter in trained.parameters()), "untrained": untrained}
    write_metrics(METRICS / "autoencoder.json", scores)

    histories = {"loss": result.history, **{f"loss_{training.name}": training.history for training in components}}
    folder = FIGURES / "autoencoder"
    draw_figures(folder, trained, test, reconstructions, histories, params.figures, device, seed, previews)
    draw_auxiliary_losses(folder, result.losses, test.images, reconstructions.decoded, result.history)
    draw_noise(folder, trained, test, reconstructions, params.figures, device)
    for finished in (saving, *(training.saving for training in components)):
        finished.file.finish()


if __name__ == "__main__":
    run_stage("train_autoencoder", main)
