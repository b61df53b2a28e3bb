"""Stage ``train_denoiser``: train a diffusion model of the cached latents."""

from latentline.autoencoders.load import load_autoencoder
from latentline.core.load_params import load
from latentline.core.params import NO_WEIGHTS
from latentline.core.paths import DENOISER
from latentline.core.stage import run_stage
from latentline.denoisers.build import graph_modules
from latentline.denoisers.load import with_guide
from latentline.latents.cache import read_stats
from latentline.nn.gradient_checkpointing import checkpoint_blocks
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compile import compiled, require_compiler
from latentline.runtime.start import start
from latentline.training.config import saving_of
from stages.train_denoiser.evaluate import evaluate
from stages.train_denoiser.latents import read_split
from stages.train_denoiser.params import DenoiserParams
from stages.train_denoiser.prior import fit_prior
from stages.train_denoiser.report import draw_missing_preview, preview_drawer, preview_folder, write_report
from stages.train_denoiser.train import STAGE, best_average, build, train


def main() -> None:
    """Read section ``denoiser`` and encoded_img; write checkpoints/denoiser, fig/denoiser and metrics/denoiser.json."""
    params, seed, compute = load("denoiser", DenoiserParams)
    device, ranks = start(compute, compute.strategy)
    require_compiler(compute.compile, device)
    stats = read_stats()
    denoiser, checkpoint = build(params, stats, seed, device, ranks, keeps_activations=compute.keeps_activations)
    if compute.gradient_checkpointing:
        checkpoint_blocks(denoiser.network)
    splits = {name: read_split(name, stats, denoiser.conditioning, device) for name in ("train", "val", "test")}
    autoencoder = load_autoencoder(device)  # decodes the figures
    stats.require_autoencoder(autoencoder.sha256)

    if params.init_from == NO_WEIGHTS:  # else the initial weights bring theirs
        fit_prior(denoiser.network, splits["train"], seed)
    untrained, _ = evaluate(denoiser, splits["test"], seed)
    saving = saving_of(
        STAGE,
        params.model_dump(exclude={"epochs", "preview"}),
        {"seed": seed, **checkpoint["trained_on"]},
        compute,
        computed_by=["stages.train_denoiser.train"],
    )
    scale = denoiser.conditioning.guidance(params.preview.guidance_scale, "denoiser.preview.guidance_scale")
    preview = params.preview.model_copy(update={"guidance_scale": scale})
    previews = preview_folder(saving.file.folder, preview)
    draw_preview = preview_drawer(preview, stats, autoencoder, seed, previews, splits["val"].tokens)
    graphs = graph_modules(denoiser.network)
    with compiled(compute.compile, device, graphs, walks_graph_once=params.optimizer.accumulate == 1):
        averaged, guide, history = train(denoiser, params, splits, seed, saving, ranks, draw_preview)
    ranks.exit_non_main()

    trained, losses = best_average(averaged, splits["val"], seed)
    save_checkpoint(DENOISER, **checkpoint, tensors=with_guide(trained.network.state_dict(), guide))
    draw_missing_preview(averaged[params.ema_decays[0]], params.epochs, previews, draw_preview)
    losses["untrained"] = {"test_loss": untrained}
    write_report(trained, splits["test"], history, losses, seed, stats, autoencoder, previews)
    saving.file.finish()


if __name__ == "__main__":
    run_stage("train_denoiser", main)
