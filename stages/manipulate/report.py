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
from stages.manipulate.sdedit import SDEdit

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
        _draw_scores(folder, table, edits, editor.sdedit)
        _draw_edits(folder, params, targets, learnt, random, batch, editor)
        draw_mixtures(folder, targets, batch, editor, seed)
        prompt_scores = report_prompts(folder, prompt_edits)
    write_metrics(
        METRICS / "manipulate.json",
        {**at_strongest, "targets": len(names), "target_names": names, "by_strength": table, **prompt_scores},
    )


def _strength_0(sdedit: SDEdit | None) -> str:
    """Return a sentence on the images at strength 0, which are not the originals."""
    done = f"noised to t = {sdedit.t:g} and denoised" if sdedit else "encoded and decoded"
    return f"Strength 0: the original {done}, without a shift."


def _draw_scores(folder: Path, table: list[dict[str, float]], edits: int, sdedit: SDEdit | None) -> None:
    """Write curves.csv, flip_rate.png, kept.png and trade_off.png, of so many ``edits`` at each strength."""
    write_table(folder / "curves.csv", table)
    flips = {f"flip_rate{end}": name for end, name in _DIRECTIONS.items()}
    spread = {column: [share_interval(row[column], edits) for row in table] for column in flips}
    title = f"How many of {edits} edits reach their target (band: 95 % interval)"
    reached, strength = "share predicted as the target", _STRENGTH
    curves(folder / "flip_rate.png", table, "strength", flips, reached, title=title, xlabel=strength, bands=spread)
    kept = {
        f"{column}{end}": f"{score}, {name}"
        for column, score in (("ssim", "SSIM"), ("identity", "identity"))
        if column in table[0]
        for end, name in _DIRECTIONS.items()
    }
    title = f"What {edits} edits keep of the original"
    label, note = "similarity to the original", _strength_0(sdedit)
    curves(folder / "kept.png", table, "strength", kept, label, title=title, note=note, xlabel=strength)
    lines = {name: [(row[f"ssim{end}"], row[f"flip_rate{end}"]) for row in table] for end, name in _DIRECTIONS.items()}
    # Each second point, counted from the strongest, so that the texts do not collide.
    marks = ["" if (len(table) - number) % 2 == 0 else f"{row['strength']:g}" for number, row in enumerate(table)]
    bands = {name: spread[column] for column, name in flips.items()}
    title = f"Targets reached against originals kept, of {edits} edits"
    note = "Numbers: strength in standard deviations along the direction; bands: 95 % interval."
    path, label = folder / "trade_off.png", "SSIM to the original"
    relation(path, lines, label, reached, title=title, note=note, marks=marks, bands=bands)


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
    note = f"{_strength_0(editor.sdedit)} {left_out}".strip()
    # A random direction has no target; SDEdit has.
    conditioned = " Denoising is conditioned as in strips.png." if editor.sdedit else ""
    numbers = [f"random {number + 1}" for number in range(len(shown))]
    for name, directions, rows, title, how in (
        ("strips", learnt, names, "learnt directions", note),
        ("strips_random", random, numbers, "random directions of the same length (reference)", note + conditioned),
    ):
        strips = _strips(params.strengths, shown, directions, starts, batch, editor)  # (targets, strengths, C, H, W)
        images = torch.cat([originals[:, None], strips], dim=1)
        text = GridText(f"Edits along {title}", how, rows, columns, _STRENGTH)
        save_grid(folder / f"{name}.png", images.flatten(0, 1), len(columns), _SCALE, text)
    strengths = torch.linspace(0, params.strengths[-1], _FRAMES).tolist()
    frames = _strips(strengths, shown, learnt, starts, batch, editor)
    moments = [f"strength {strength:.1f}" for strength in strengths]
    text = GridText("Edits towards targets", left_out, cells=names)
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
