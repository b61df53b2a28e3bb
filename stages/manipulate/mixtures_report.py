"""Draw edits that need no direction: interpolation, noise, arithmetic, and the two codes of a diffusion autoencoder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from latentline.core.seeds import start_noise
from latentline.editing.mixtures import arithmetic, linear, perturb, spherical
from latentline.editing.targets import Target
from latentline.figures.grids import GridText, alternating_rows, save_grid
from latentline.figures.names import image_names
from stages.manipulate.edit import Editor
from stages.manipulate.edit_inputs import EditBatch

_SCALE = 2  # each pixel becomes _SCALE x _SCALE
_ROWS = 5
_FRACTIONS = 9  # points between two images, both included
_PERTURBATIONS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)  # in standard deviations of the latents
_PERTURBED = 4  # index of the perturbation that a diffusion decoder is conditioned on
_TIMES = (0.3, 0.5, 0.7, 0.9)  # up to which SDEdit in pixels noises images


def draw_mixtures(folder: Path, targets: Sequence[Target], batch: EditBatch, editor: Editor, seed: int) -> None:
    """Draw the figures of :mod:`latentline.editing.mixtures`.

    They are interpolations.png, perturbations.png, and arithmetic.png where there are images for it. An autoencoder
    with noise adds style_mixing.png, conditioned_samples.png and perturbed_redrawn.png.
    """
    start, end = (batch.take((torch.arange(_ROWS) * 2 + offset) % len(batch)) for offset in (0, 1))
    _draw_interpolations(folder, start, end, editor)
    perturbed = _draw_perturbations(folder, start, editor, seed)
    _draw_arithmetic(folder, targets[:_ROWS], batch, editor)
    if start.noise is not None and end.noise is not None:
        # Content of the first image, noise of the second.
        mixed = [start.images, end.images, editor.decode(start.z0, end.noise)]
        text = GridText("The latent of one image with the noise of another", columns=["latent", "noise", "both"])
        save_grid(folder / "style_mixing.png", alternating_rows(mixed, 1), 3, _SCALE, text)
        other_noise = alternating_rows([start.images, editor.decode(start.z0, None)], len(start))
        text = GridText("Images above decodings of their latents from other noise", "", ["original", "other noise"])
        save_grid(folder / "conditioned_samples.png", other_noise, len(start), _SCALE, text)
        edits = _sdedit_in_pixels(start, replace(start, z0=perturbed), editor, seed)
        text = GridText(
            "Images noised up to time t, then denoised (SDEdit in pixels)",
            "Rows in turn: conditioned on the image's own latent; on its latent with noise of "
            f"{_PERTURBATIONS[_PERTURBED]:g} standard deviations added.",
            [name for first in image_names(start.labels) for name in (first, "perturbed")],
            ["original", *(f"{t:g}" for t in _TIMES)],
            "time t",
        )
        save_grid(folder / "perturbed_redrawn.png", edits, 1 + len(_TIMES), _SCALE, text)


def _draw_interpolations(folder: Path, start: EditBatch, end: EditBatch, editor: Editor) -> None:
    """Write interpolations.png: linear and spherical ones in alternate rows."""
    fractions = torch.linspace(0, 1, _FRACTIONS)
    noise = None
    if start.noise is not None and end.noise is not None:
        # Spherical in both rows, which keeps the noise standard normal.
        noise = spherical(start.noise.flatten(1), end.noise.flatten(1), fractions)
    rows = [_decode(editor, mix(start.z0, end.z0, fractions), noise) for mix in (linear, spherical)]
    text = GridText(
        "Between the latents of two images, on a straight line and on an arc",
        rows=[f"pair {number + 1}: {kind}" for number in range(len(start)) for kind in ("linear", "spherical")],
        columns=[f"{fraction:.3g}" for fraction in fractions.tolist()],
        across="weight of the second image",
    )
    save_grid(folder / "interpolations.png", alternating_rows(rows, _FRACTIONS), _FRACTIONS, _SCALE, text)


def _draw_perturbations(folder: Path, start: EditBatch, editor: Editor, seed: int) -> Tensor:
    """Write perturbations.png, and return the latents (N, F) of its column ``_PERTURBED``."""
    noise = start_noise(seed, "perturb", start.indices, start.z0.shape[1:])
    noisy = perturb(start.z0, torch.tensor(_PERTURBATIONS), noise)  # (N, scales, F)
    own = None if start.noise is None else start.noise.flatten(1)[:, None].expand(-1, len(_PERTURBATIONS), -1)
    text = GridText(
        "Images whose latents have noise added, decoded",
        rows=image_names(start.labels),
        columns=[f"{strength:g}" for strength in _PERTURBATIONS],
        across="noise (standard deviations of the latents)",
    )
    save_grid(folder / "perturbations.png", _decode(editor, noisy, own), len(_PERTURBATIONS), _SCALE, text)
    return noisy[:, _PERTURBED]


def _draw_arithmetic(folder: Path, targets: Sequence[Target], batch: EditBatch, editor: Editor) -> None:
    """Write arithmetic.png where there are images for it: a, b, c and z_a - z_b + z_c in each row."""
    if found := _triples(targets, batch):
        names, triples = list(found), list(found.values())
        a, b, c = (batch.take(torch.tensor(rows)) for rows in zip(*triples, strict=True))
        sums = editor.decode(arithmetic(a.z0, b.z0, c.z0), c.noise)
        rows = alternating_rows([a.images, b.images, c.images, sums], 1)
        note = "a matches the target of its row; b and c do not, and are alike."
        columns = ["a", "b", "c", "a \u2212 b + c"]
        save_grid(folder / "arithmetic.png", rows, 4, _SCALE, GridText("Arithmetic of latents", note, names, columns))


def _sdedit_in_pixels(batch: EditBatch, perturbed: EditBatch, editor: Editor, seed: int) -> Tensor:
    """Return two rows per image: the original, then SDEdit from each time, conditioned on its latent.

    The second row is conditioned on the latent of ``perturbed``.
    """
    noise = start_noise(seed, "redraw", batch.indices, editor.autoencoder.network.noise_shape or ())
    rows = []
    for condition in (batch, perturbed):
        raw = editor.stats.normalizer.restore(condition.z0.unflatten(1, editor.stats.shape))
        edited = [editor.autoencoder.sdedit(batch.images, raw, t, noise) for t in _TIMES]
        rows.append(torch.stack([batch.images, *edited], dim=1).flatten(0, 1))  # (N * (1 + times), C, H, W)
    return alternating_rows(rows, 1 + len(_TIMES))


def _decode(editor: Editor, z0: Tensor, noise: Tensor | None) -> Tensor:
    """Decode latents (N, S, F) with noise (N, S, M) to images (N * S, C, H, W)."""
    shape = editor.autoencoder.network.noise_shape
    maps = None if noise is None or shape is None else noise.flatten(0, 1).unflatten(1, shape)
    return editor.decode(z0.flatten(0, 1), maps)


def _triples(targets: Sequence[Target], batch: EditBatch) -> dict[str, tuple[int, int, int]]:
    """Return rows a, b, c by the name of each target with enough images.

    Image a matches the target; b and c do not, and share one other value.
    """
    values = batch.labels.values
    triples = {}
    for target in targets:
        non_matching, column = target.non_matching(values, len(batch)), values[:, target.column_index]
        a = target.matches(values).nonzero()[:1, 0].tolist()
        alike = non_matching[column[non_matching] == column[non_matching[:1]]].tolist()
        if a and len(alike) > 1:
            triples[target.name] = a[0], alike[0], alike[1]
    return triples
