"""The pictures of stage ``manipulate``: one image along its direction, many before and after, and edits that need no direction."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from latentline.core.seeds import start_noise
from latentline.editing.mixtures import arithmetic, linear, perturb, spherical
from latentline.editing.targets import Target
from latentline.figures.animation import save_animation
from latentline.figures.grids import alternating_rows, save_grid
from stages.manipulate.edit import Directions, Editor
from stages.manipulate.edit_inputs import Pictures
from stages.manipulate.params import ManipulateParams

_SCALE = 2  # each pixel becomes so many pixels squared
_PAIRS = 8  # columns of before and after
_FRAMES = 13
_SHOWN = 5  # rows of the figures of mixtures
_SHARES = 9  # of the way between two images
_PERTURBATIONS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)  # in standard deviations of the latents
_DISTURBED = 4  # which of them a diffusion decoder is told
_TIMES = (0.3, 0.5, 0.7, 0.9)  # up to which images are noised for it


def draw_edits(
    folder: Path, knobs: ManipulateParams, targets: Sequence[Target], learnt: Directions, random: Directions, pictures: Pictures, editor: Editor
) -> None:
    """Write strips.png, strips_random.png, before_after.png and edits.gif, of the first ``manipulate.strips`` targets."""
    shown = targets[: knobs.strips]
    starts = [int(target.others(pictures.values, row + 1)[-1]) for row, target in enumerate(shown)]  # another image in each row
    for name, directions in (("strips", learnt), ("strips_random", random)):
        strips = _strips(knobs.strengths, shown, directions, starts, pictures, editor)  # (targets, strengths, C, H, W)
        save_grid(folder / f"{name}.png", strips.flatten(0, 1), columns=strips.shape[1], scale=_SCALE)
    frames = _strips(torch.linspace(0, knobs.strengths[-1], _FRAMES).tolist(), shown, learnt, starts, pictures, editor)
    save_animation(folder / "edits.gif", frames.transpose(0, 1), columns=5, scale=_SCALE)
    save_grid(folder / "before_after.png", *_before_after(knobs, shown, learnt, pictures, editor), scale=_SCALE)


def _strips(
    strengths: Sequence[float], targets: Sequence[Target], directions: Directions, starts: Sequence[int], pictures: Pictures, editor: Editor
) -> Tensor:
    """Picture ``starts[i]`` towards target i at each of ``strengths``: (targets, strengths, C, H, W)."""
    rows = []
    for start, target, direction, scale in zip(starts, targets, directions.vectors, directions.scales, strict=False):
        same = pictures.take(torch.full((len(strengths),), start))
        rows.append(editor.edit(same, target, direction, torch.tensor(strengths) * scale))
    return torch.stack(rows)


def _before_after(knobs: ManipulateParams, targets: Sequence[Target], learnt: Directions, pictures: Pictures, editor: Editor) -> tuple[Tensor, int]:
    """Rows of originals and of the same images at the strongest setting in turn, two rows per target; and images per row."""
    others = [target.others(pictures.values, _PAIRS) for target in targets]
    columns = min(map(len, others))
    before, after = [], []
    for rows, target, direction, scale in zip(others, targets, learnt.vectors, learnt.scales, strict=False):
        some = pictures.take(rows[:columns])
        before.append(some.images)
        after.append(editor.edit(some, target, direction, knobs.strengths[-1] * scale.expand(columns)))
    return alternating_rows([torch.cat(before), torch.cat(after)], columns), columns


def draw_mixtures(folder: Path, targets: Sequence[Target], pictures: Pictures, editor: Editor, seed: int) -> None:
    """Write interpolations.png, perturbations.png and arithmetic.png (where there are images for it), and three more of a codec with noise.

    Those are style_mixing.png, conditioned_samples.png and perturbed_redrawn.png.
    """
    start, end = (pictures.take((torch.arange(_SHOWN) * 2 + one) % len(pictures)) for one in (0, 1))
    shares = torch.linspace(0, 1, _SHARES)
    # The noise of both ways is mixed on the great circle, which keeps it standard normal.
    noise = None if start.noise is None or end.noise is None else spherical(start.noise.flatten(1), end.noise.flatten(1), shares)
    ways = [_decode(editor, mix(start.z0, end.z0, shares), noise) for mix in (linear, spherical)]
    save_grid(folder / "interpolations.png", alternating_rows(ways, _SHARES), columns=_SHARES, scale=_SCALE)

    drawn = start_noise(seed, "perturb", start.numbers, start.z0.shape[1:])
    noisy = perturb(start.z0, torch.tensor(_PERTURBATIONS), drawn)  # (N, scales, F)
    own = None if start.noise is None else start.noise.flatten(1)[:, None].expand(-1, len(_PERTURBATIONS), -1)
    save_grid(folder / "perturbations.png", _decode(editor, noisy, own), columns=len(_PERTURBATIONS), scale=_SCALE)

    if triples := _triples(targets[:_SHOWN], pictures):
        a, b, c = (pictures.take(torch.tensor(rows)) for rows in zip(*triples, strict=True))
        sums = editor.decode(arithmetic(a.z0, b.z0, c.z0), c.noise)
        save_grid(folder / "arithmetic.png", alternating_rows([a.images, b.images, c.images, sums], 1), columns=4, scale=_SCALE)
    if start.noise is not None and end.noise is not None:
        mixed = [start.images, end.images, editor.decode(start.z0, end.noise)]  # what it is, how it looks, both
        save_grid(folder / "style_mixing.png", alternating_rows(mixed, 1), columns=3, scale=_SCALE)
        sampled = editor.decode(start.z0, None)  # from noise that has nothing to do with these images
        save_grid(folder / "conditioned_samples.png", alternating_rows([start.images, sampled], len(start)), columns=len(start), scale=_SCALE)
        disturbed = replace(start, z0=noisy[:, _DISTURBED])
        save_grid(folder / "perturbed_redrawn.png", _redrawn(start, disturbed, editor, seed), columns=1 + len(_TIMES), scale=_SCALE)


def _redrawn(pictures: Pictures, disturbed: Pictures, editor: Editor, seed: int) -> Tensor:
    """Two rows per picture: it, then it noised up to each time and denoised, told its latent; and the same told the ``disturbed`` latent."""
    noise = start_noise(seed, "redraw", pictures.numbers, editor.codec.codec.noise_shape or ())
    rows = []
    for told in (pictures, disturbed):
        raw = editor.stats.normalizer.restore(told.z0.unflatten(1, editor.stats.shape))
        redrawn = [editor.codec.redraw(pictures.images, raw, t, noise) for t in _TIMES]
        rows.append(torch.stack([pictures.images, *redrawn], dim=1).flatten(0, 1))  # (N * (1 + times), C, H, W)
    return alternating_rows(rows, 1 + len(_TIMES))


def _decode(editor: Editor, z0: Tensor, noise: Tensor | None) -> Tensor:
    """Latents (N, S, F) from noise (N, S, M) -> images (N * S, C, H, W)."""
    shape = editor.codec.codec.noise_shape
    codes = None if noise is None or shape is None else noise.flatten(0, 1).unflatten(1, shape)
    return editor.decode(z0.flatten(0, 1), codes)


def _triples(targets: Sequence[Target], pictures: Pictures) -> list[tuple[int, int, int]]:
    """Rows a, b, c for each target that some image is: a is so; b and c are not, and alike in that column."""
    triples = []
    for target in targets:
        others = target.others(pictures.values, len(pictures))
        a = target.holds(pictures.values).nonzero()[:1, 0].tolist()
        alike = others[pictures.values[others, target.place] == pictures.values[others[:1], target.place]].tolist()
        if a and len(alike) > 1:
            triples.append((a[0], alike[0], alike[1]))
    return triples
