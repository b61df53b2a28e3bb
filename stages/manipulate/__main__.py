"""Stage ``manipulate``: move images along directions of the latents and let the judge say what they became."""

import logging
import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from latentline.autoencoders.load import load_autoencoder
from latentline.core.attributes import Attribute
from latentline.core.files import digests, replaced_folder, write_metrics
from latentline.core.load_params import load
from latentline.core.paths import (
    AUTOENCODER,
    DENOISER,
    FEATURE_EXTRACTOR,
    FIGURES,
    LATENT_CLASSIFIERS,
    LATENT_STATS,
    METRICS,
    PREPARED,
)
from latentline.core.seeds import generator
from latentline.core.stage import run_stage
from latentline.editing.directions import mean_differences, random_directions, spread, unit
from latentline.editing.targets import Target, all_targets, require_names
from latentline.evaluation.reconstruction import ssim
from latentline.feature_extractors.load import FeatureExtractor, load_feature_extractor
from latentline.figures.plots import curves, notice, relation, write_table
from latentline.latents.cache import read_latents, read_stats
from latentline.probes.load import load_latent_classifiers
from latentline.runtime.compute import set_up
from latentline.runtime.parallel import init_distributed
from latentline.runtime.resumable_map import Chunk, ResumableMap, resumable_map
from latentline.runtime.resume import ResumeFile
from stages.manipulate.edit import Directions, Editor, build_editor
from stages.manipulate.edit_inputs import Pictures, chosen_rows, image_files, read_choice
from stages.manipulate.edits import unchanged
from stages.manipulate.params import ManipulateParams
from stages.manipulate.report import draw_edits, draw_mixtures

STAGE = "manipulate"
_PLOTTED = ("flip_rate", "ssim")  # columns of curves.csv that there always are, beside those of random directions
_MOST_NUMBERS = 1 << 28  # of the training latents that directions are measured on: 1 GiB
_READ = (AUTOENCODER, DENOISER, FEATURE_EXTRACTOR, LATENT_CLASSIFIERS, LATENT_STATS, PREPARED / "card.json")
_NOTHING = "nothing to change: these images have neither labels nor attributes that differ"

log = logging.getLogger(__name__)


def main() -> None:
    """Read section ``manipulate``, data, latents and checkpoints; write fig/manipulate and metrics/manipulate.json."""
    params, seed, compute = load("manipulate", ManipulateParams)
    device, ranks = init_distributed(set_up(compute.device, compute.threads), compute.devices, compute.nodes)
    autoencoder, judge, stats = load_autoencoder(device), load_feature_extractor(device), read_stats()
    stats.require_autoencoder(autoencoder.sha256)
    choice = read_choice(Path(params.files), autoencoder, judge)
    chosen = chosen_rows(params, stats, choice.values)
    train = read_latents("train")
    most = _MOST_NUMBERS // math.prod(stats.shape)
    some = torch.randperm(len(train.labels.values), generator=generator(seed, STAGE, "measured"))[:most].sort()[0]
    z0 = stats.normalizer.standardise(train.latents[some]).flatten(1)  # (N, F)
    targets, normals = _targets(params, stats.schema, z0, train.labels.values[some], choice.values[chosen])
    if not targets:
        ranks.exit_non_main()
        log.info(_NOTHING)
        with replaced_folder(FIGURES / "manipulate") as folder:
            write_table(folder / "curves.csv", [], ["strength", *_PLOTTED, *(f"{name}_random" for name in _PLOTTED)])
            notice(folder / "notice.png", _NOTHING)
        write_metrics(METRICS / "manipulate.json", {"targets": 0})
        return
    vectors = unit(normals)
    learnt = Directions(vectors, spread(z0, vectors))
    # The floor: random directions, moved by exactly as much.
    random = Directions(random_directions(learnt.vectors, generator(seed, STAGE, "random")), learnt.scales)

    # Only these are edited towards some target; of a codec with noise each costs an inversion.
    used = chosen[torch.cat([target.others(choice.values[chosen], params.count) for target in targets]).unique()]
    pictures = choice.pictures(used, autoencoder, stats)
    editor = build_editor(params, seed, autoencoder, stats)
    seen = judge.look(pictures.images)[1]  # (N, A)
    state = ResumeFile(
        STAGE,
        {"settings": params.model_dump(), "seed": seed, "inputs": digests([*_READ, *image_files(Path(params.files))])},
        [f"stages.{STAGE}.__main__"],
    )
    table = []
    with resumable_map(state, compute.save_every_seconds, ranks) as chunks:
        edited = _edited(params, targets, (learnt, random), pictures, editor, chunks)
        for strength in params.strengths:
            ours, floor = (_measure(targets, edited, pictures, seen, params.count, judge) for _ in (learnt, random))
            table.append({"strength": strength, **ours, **{f"{name}_random": value for name, value in floor.items()}})
    strongest = {name: value for name, value in table[-1].items() if name != "strength"}
    names = [target.name for target in targets]
    write_metrics(
        METRICS / "manipulate.json", {**strongest, "targets": len(names), "target_names": names, "by_strength": table}
    )
    with replaced_folder(FIGURES / "manipulate") as folder:
        write_table(folder / "curves.csv", table)
        curves(
            folder / "flip_rate.png",
            table,
            "strength",
            ["flip_rate", "flip_rate_random"],
            "share judged to be the target",
        )
        kept = [name for name in ("ssim", "identity") if name in table[0]]
        curves(
            folder / "kept.png",
            table,
            "strength",
            [f"{name}{end}" for name in kept for end in ("", "_random")],
            "what stays",
        )
        lines = {
            name: [(row[f"ssim{end}"], row[f"flip_rate{end}"]) for row in table]
            for name, end in (("learnt", ""), ("random", "_random"))
        }
        marks = [f"{strength:g}" for strength in params.strengths]
        relation(folder / "trade_off.png", lines, "SSIM to the original", "share judged to be the target", marks=marks)
        draw_edits(folder, params, targets, learnt, random, pictures, editor)
        draw_mixtures(folder, targets, pictures, editor, seed)
    state.finish()


def _targets(
    params: ManipulateParams, columns: Sequence[Attribute], z0: Tensor, known: Tensor, values: Tensor
) -> tuple[list[Target], Tensor]:
    """What images are edited towards, and a direction (K, F) for each, of any length.

    Args:
        params: of the stage.
        columns: of the data.
        z0: training latents, standardised and flat (N, F).
        known: of the training images (N, A).
        values: what is known of the images to edit (M, A).

    Raises:
        UserError: a name that is no target's, or latent classifiers of other latents.
    """
    every = all_targets(columns)
    require_names("manipulate.target_names", params.target_names, [target.name for target in every])
    if params.direction == "classifier":
        normals = load_latent_classifiers().probe.weight  # (outputs, F), one per target
    else:
        normals = (
            mean_differences(z0, torch.stack([target.holds(known) for target in every], dim=1)) if every else z0[:0]
        )
    # Some have no image to start from; of some nothing could be learnt.
    rows = [row for row, target in enumerate(every) if len(target.others(values, 1)) and normals[row].any()]
    if params.target_names:
        rows = [row for row in rows if every[row].name in params.target_names]
        if left_out := set(params.target_names) - {every[row].name for row in rows}:
            log.info(
                "not editing towards %s: all images to edit are so, or nothing could be learnt",
                ", ".join(sorted(left_out)),
            )
    if len(rows) > params.targets:
        log.info("editing towards %d of %d targets (manipulate.targets)", params.targets, len(rows))
        rows = evenly(rows, params.targets)
    return [every[row] for row in rows], normals[rows]


def evenly(rows: Sequence[int], most: int) -> list[int]:
    """``most`` of more ``rows``, evenly spaced, the first among them."""
    return [rows[index * len(rows) // most] for index in range(most)]


def _edited(
    params: ManipulateParams,
    targets: Sequence[Target],
    ways: Sequence[Directions],
    pictures: Pictures,
    editor: Editor,
    chunks: ResumableMap,
) -> Iterator[Tensor]:
    """For each strength, each of ``ways`` and each target the first images that are not so, moved towards it: uint8 (B, C, H, W)."""
    moves = list(product(params.strengths, ways, range(len(targets))))

    def edit(number: int) -> Chunk:
        strength, directions, row = moves[number]
        some = pictures.take(targets[row].others(pictures.values, params.count))
        distances = torch.full((len(some),), strength * float(directions.scales[row]))
        return {"images": editor.edit(some, targets[row], directions.vectors[row], distances)}

    made = chunks.map(len(moves), edit)
    return (chunk["images"] for chunk in tqdm(made, total=len(moves), desc=STAGE, disable=None, mininterval=1))


def _measure(
    targets: Sequence[Target],
    edited: Iterator[Tensor],
    pictures: Pictures,
    seen: Tensor,
    count: int,
    judge: FeatureExtractor,
) -> dict[str, float]:
    """Over all targets and the images that are not so: how many the judge takes for the target after the move, and how much stays.

    Takes the next of ``edited`` for each target.

    Returns:
        ``flip_rate``: share that the judge takes for the target. ``ssim``: structural similarity to the originals. ``identity``, where there
        are several columns: share of the values of all other columns that the judge, who saw ``seen`` (N, A) before, sees still.
    """
    flipped, similar, kept = [], [], []
    for target, images in zip(targets, edited, strict=False):  # more may follow, for others
        rows = target.others(pictures.values, count)
        now = judge.look(images)[1]
        flipped.append(target.holds(now).float())
        similar.append(ssim(images.float() / 255, pictures.images[rows].float() / 255) * len(rows))
        kept.append(_others_unchanged(judge.columns, target, seen[rows], now))
    with_statistics = {"flip_rate": float(torch.cat(flipped).mean()), "ssim": sum(similar) / len(torch.cat(flipped))}
    return {**with_statistics, "identity": float(torch.cat(kept).mean())} if len(judge.columns) > 1 else with_statistics


def _others_unchanged(columns: Sequence[Attribute], target: Target, before: Tensor, after: Tensor) -> Tensor:
    """Which values of all columns but the target's are the same, float (N * (A - 1),)."""
    others = [place for place in range(len(columns)) if place != target.place]
    return unchanged([columns[place] for place in others], before[:, others], after[:, others]).float().flatten()


if __name__ == "__main__":
    run_stage("manipulate", main)
