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
from latentline.figures.grids import GridText, alternating_rows, save_grid
from latentline.figures.names import first_of
from latentline.figures.plots import curves, notice, relation, write_table
from latentline.figures.spread import share_interval
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
_PER_FRAME_ROW = 5  # images in a row of edits.gif
_DIRECTIONS = {"": "learnt directions", "_random": "random directions"}  # by the ends of the names of scores
_STRENGTH = "strength (standard deviations along the direction)"

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
        edits = sum(len(target.non_matching(batch.labels.values, params.count)) for target in targets)
        _draw_scores(folder, table, edits)
        _draw_edits(folder, params, targets, learnt, random, batch, editor)
        draw_mixtures(folder, targets, batch, editor, seed)
        prompt_scores = report_prompts(folder, prompt_edits)
    write_metrics(
        METRICS / "manipulate.json",
        {**at_strongest, "targets": len(names), "target_names": names, "by_strength": table, **prompt_scores},
    )


def _draw_scores(folder: Path, table: list[dict[str, float]], edits: int) -> None:
    """Write curves.csv, flip_rate.png, kept.png and trade_off.png, of so many ``edits`` at each strength."""
    write_table(folder / "curves.csv", table)
    flips = {f"flip_rate{end}": name for end, name in _DIRECTIONS.items()}
    spread = {column: [share_interval(row[column], edits) for row in table] for column in flips}
    title = f"How many of {edits} edits reach their target (band: 95 % interval)"
    label, strength = "share predicted as the target", _STRENGTH
    curves(folder / "flip_rate.png", table, "strength", flips, label, title=title, xlabel=strength, bands=spread)
    kept = {
        f"{column}{end}": f"{score}, {name}"
        for column, score in (("ssim", "SSIM"), ("identity", "identity"))
        if column in table[0]
        for end, name in _DIRECTIONS.items()
    }
    title = f"What {edits} edits keep of the original"
    curves(folder / "kept.png", table, "strength", kept, "similarity to the original", title=title, xlabel=strength)
    lines = {name: [(row[f"ssim{end}"], row[f"flip_rate{end}"]) for row in table] for end, name in _DIRECTIONS.items()}
    marks = [f"{row['strength']:g}" for row in table]
    bands = {name: spread[column] for column, name in flips.items()}
    title = f"Targets reached against originals kept, of {edits} edits"
    label += "; numbers: strength"
    relation(folder / "trade_off.png", lines, "SSIM to the original", label, title=title, marks=marks, bands=bands)


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
    originals = batch.images[starts]  # (targets, C, H, W)
    names = [f"to {target.name}" for target in shown]
    columns = ["original", *(f"{strength:g}" for strength in params.strengths)]
    left_out = first_of(len(shown), len(targets), "targets").strip()
    for name, directions, kind in (
        ("strips", learnt, "learnt directions"),
        ("strips_random", random, "random directions of the same length (reference)"),
    ):
        strips = _strips(params.strengths, shown, directions, starts, batch, editor)  # (targets, strengths, C, H, W)
        images = torch.cat([originals[:, None], strips], dim=1)
        text = GridText(f"Edits along {kind}", left_out, names, columns, _STRENGTH)
        save_grid(folder / f"{name}.png", images.flatten(0, 1), len(columns), _SCALE, text)
    strengths = torch.linspace(0, params.strengths[-1], _FRAMES).tolist()
    frames = _strips(strengths, shown, learnt, starts, batch, editor)
    moments = [f"strength {strength:.1f}" for strength in strengths]
    text = GridText("Edits towards targets", left_out, cells=[target.name for target in shown])
    save_animation(folder / "edits.gif", frames.transpose(0, 1), _PER_FRAME_ROW, _SCALE, text, moments)
    images, pairs = _before_after(params, shown, learnt, batch, editor)
    rows = [label for name in names for label in ("original", name)]
    text = GridText(f"Test images before and after edits of strength {params.strengths[-1]:g}", left_out, rows)
    save_grid(folder / "before_after.png", images, pairs, _SCALE, text)


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
