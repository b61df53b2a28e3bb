"""Stage ``manipulate``: edit images along directions of the latents; measure what the edits change and keep."""

from pathlib import Path

from latentline.autoencoders.load import load_autoencoder
from latentline.core.files import digests
from latentline.core.load_params import load
from latentline.core.paths import (
    AUTOENCODER,
    DENOISER,
    FEATURE_EXTRACTOR,
    LATENT_CLASSIFIERS,
    LATENT_STATS,
    PREPARED,
)
from latentline.core.stage import run_stage
from latentline.feature_extractors.load import load_feature_extractor
from latentline.latents.cache import read_stats
from latentline.runtime.resumable_map import resumable_map
from latentline.runtime.resume import ResumeFile
from latentline.runtime.start import start
from stages.manipulate.directions import edit_directions
from stages.manipulate.edit import build_editor, edited_images
from stages.manipulate.edit_inputs import image_files, read_edit_pool, select_batch, select_rows
from stages.manipulate.measure import measure_edits
from stages.manipulate.params import ManipulateParams
from stages.manipulate.prompts import edit_between_prompts
from stages.manipulate.report import report, report_nothing_to_change

_READ = (AUTOENCODER, DENOISER, FEATURE_EXTRACTOR, LATENT_CLASSIFIERS, LATENT_STATS, PREPARED / "card.json")


def main() -> None:
    """Read section ``manipulate``, data, latents and checkpoints; write fig/manipulate and metrics/manipulate.json."""
    params, seed, compute = load("manipulate", ManipulateParams)
    files = image_files(Path(params.files))
    device, ranks = start(compute)
    autoencoder, extractor, stats = load_autoencoder(device), load_feature_extractor(device), read_stats()
    stats.require_autoencoder(autoencoder.sha256)

    pool = read_edit_pool(Path(params.files), autoencoder, extractor)
    rows = select_rows(params, pool.labels)
    targets, learnt, random = edit_directions(params, seed, stats, pool.labels[rows])
    editor = build_editor(params, seed, autoencoder, stats)
    if not targets:
        ranks.exit_non_main()
        report_nothing_to_change(edit_between_prompts(params, seed, pool, rows, editor, extractor))
        return
    batch = select_batch(pool, rows, targets, params.count, autoencoder, stats)

    inputs = digests([*_READ, *files])
    identity = {"settings": params.model_dump(), "seed": seed, "inputs": inputs}
    state = ResumeFile("manipulate", identity, computed_by=["stages.manipulate.edit"])
    with resumable_map(state, compute.save_every_seconds, ranks) as chunks:
        edited = edited_images(params, targets, (learnt, random), batch, editor, chunks)
        table = measure_edits(params, targets, edited, batch, extractor)
    prompt_edits = edit_between_prompts(params, seed, pool, rows, editor, extractor)
    report(params, seed, targets, learnt, random, batch, editor, table, prompt_edits)
    state.finish()


if __name__ == "__main__":
    run_stage("manipulate", main)
