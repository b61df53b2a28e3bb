"""Report the edits: metrics/manipulate.json, curves of the scores, and images at rising strength."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from latentline.core.files import replaced_folder, write_metrics
from latentline.core.paths import FIGURES, METRICS
from latentline.editing.targets import Target
from latentline.figures.animation import save_animation
from latentline.figures.grids import alternating_rows, save_grid
from latentline.figures.plots import curves, notice, relation, write_table
from stages.manipulate.directions import Directions
from stages.manipulate.edit import Editor
from stages.manipulate.edit_inputs import EditBatch
from stages.manipulate.mixtures_report import draw_mixtures
from stages.manipulate.params import ManipulateParams
from stages.manipulate.prompts import PromptEdits
from stages.manipulate.prompts_report import report_prompts

_NOTHING_TO_CHANGE = "nothing to change: these images have neither labels nor attributes that differ"
_ALWAYS = ("flip_rate", "ssim")  # columns of curves.csv in every run, each with its reference
_SCALE = 2  # each pixel becomes _SCALE x _SCALE
_PAIRS = 8  # columns of before_after.png, at most
_FRAMES = 13  # of edits.gif

log = logging.getLogger(__name__)


def report_nothing_to_change(prompt_edits: PromptEdits | None = None) -> None:
    """Write metrics and figures of a run without a target. Edits between two captions need none."""
    log.info(_NOTHING_TO_CHANGE)
    with replaced_folder(FIGURES / "manipulate") as folder:
        write_table(folder / "curves.csv", [], ["strength", *_ALWAYS, *(f"{name}_random" for name in _ALWAYS)])
        notice(folder / "notice.png", _NOTHING_TO_CHANGE)
        prompt_scores = report_prompts(folder, prompt_edits)
    write_metrics(METRICS / "manipulate.json", {"targets": 0, **prompt_scores})


def report(
    params: ManipulateParams,
    seed: int,
    targets: Sequence[Target],
    learnt: Directions,
    random: Directions,
    batch: EditBatch,
    editor: Editor,
    table: list[dict[str, float]],
    prompt_edits: PromptEdits | None = None,
) -> None:
    """Write metrics/manipulate.json and fig/manipulate.

    Args:
        params: of the stage.
        seed: of the noise in perturbations.png.
        targets: K.
        learnt: directions of the targets.
        random: directions of the reference.
        batch: the originals.
        editor: draws the images of the figures.
        table: of the scores, see :func:`stages.manipulate.measure.measure_edits`.
        prompt_edits: between two captions; None = none are asked for.
    """
    at_strongest = {name: value for name, value in table[-1].items() if name != "strength"}
    names = [target.name for target in targets]
    with replaced_folder(FIGURES / "manipulate") as folder:
        _draw_scores(folder, table)
        _draw_edits(folder, params, targets, learnt, random, batch, editor)
        draw_mixtures(folder, targets, batch, editor, seed)
        prompt_scores = report_prompts(folder, prompt_edits)
    write_metrics(
        METRICS / "manipulate.json",
        {**at_strongest, "targets": len(names), "target_names": names, "by_strength": table, **prompt_scores},
    )


def _draw_scores(folder: Path, table: list[dict[str, float]]) -> None:
    """Write curves.csv, flip_rate.png, kept.png and trade_off.png."""
    write_table(folder / "curves.csv", table)
    curves(folder / "flip_rate.png", table, "strength", ["flip_rate", "flip_rate_random"], "share predicted as target")
    kept = [name for name in ("ssim", "identity") if name in table[0]]
    columns = [f"{name}{end}" for name in kept for end in ("", "_random")]
    curves(folder / "kept.png", table, "strength", columns, "similarity to the original")
    lines = {
        name: [(row[f"ssim{end}"], row[f"flip_rate{end}"]) for row in table]
        for name, end in (("learnt", ""), ("random", "_random"))
    }
    marks = [f"{row['strength']:g}" for row in table]
    relation(folder / "trade_off.png", lines, "SSIM to the original", "share predicted as target", marks=marks)


def _draw_edits(
    folder: Path,
    params: ManipulateParams,
    targets: Sequence[Target],
    learnt: Directions,
    random: Directions,
    batch: EditBatch,
    editor: Editor,
) -> None:
    """Write strips.png, strips_random.png, before_after.png and edits.gif, of ``manipulate.strips`` targets at most."""
    shown = targets[: params.strips]
    # Another image in each row, where there are enough.
    starts = [int(target.non_matching(batch.labels.values, row + 1)[-1]) for row, target in enumerate(shown)]
    for name, directions in (("strips", learnt), ("strips_random", random)):
        strips = _strips(params.strengths, shown, directions, starts, batch, editor)  # (targets, strengths, C, H, W)
        save_grid(folder / f"{name}.png", strips.flatten(0, 1), columns=strips.shape[1], scale=_SCALE)
    strengths = torch.linspace(0, params.strengths[-1], _FRAMES).tolist()
    frames = _strips(strengths, shown, learnt, starts, batch, editor)
    save_animation(folder / "edits.gif", frames.transpose(0, 1), columns=5, scale=_SCALE)
    save_grid(folder / "before_after.png", *_before_after(params, shown, learnt, batch, editor), scale=_SCALE)


def _strips(
    strengths: Sequence[float],
    targets: Sequence[Target],
    directions: Directions,
    starts: Sequence[int],
    batch: EditBatch,
    editor: Editor,
) -> Tensor:
    """Edit image ``starts[i]`` towards target i at each of ``strengths``: (targets, strengths, C, H, W)."""
    rows = []
    for start, target, direction, scale in zip(starts, targets, directions.vectors, directions.scales, strict=False):
        same = batch.take(torch.full((len(strengths),), start))
        rows.append(editor.edit(same, target, direction, torch.tensor(strengths) * scale))
    return torch.stack(rows)


def _before_after(
    params: ManipulateParams, targets: Sequence[Target], learnt: Directions, batch: EditBatch, editor: Editor
) -> tuple[Tensor, int]:
    """Return rows of originals and of the same images at the strongest setting in turn, and the images per row."""
    non_matching = [target.non_matching(batch.labels.values, _PAIRS) for target in targets]
    columns = min(map(len, non_matching))
    before, after = [], []
    for rows, target, direction, scale in zip(non_matching, targets, learnt.vectors, learnt.scales, strict=False):
        originals = batch.take(rows[:columns])
        before.append(originals.images)
        after.append(editor.edit(originals, target, direction, params.strengths[-1] * scale.expand(columns)))
    return alternating_rows([torch.cat(before), torch.cat(after)], columns), columns
